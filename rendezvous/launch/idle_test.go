package launch

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// visit opens a service that ends by itself, and waits until it has no process.
func (w *world) visit(uid uint32, path string) {
	w.t.Helper()
	f := w.mustOpen(uid, path)
	rest(w.t, nonblocking(f))
	f.Close()
	within(w.t, "the end of the process", func() {
		for w.clients(path) > 0 {
			time.Sleep(time.Millisecond) // nothing tells
		}
	})
}

func nonblocking(f *os.File) *os.File {
	_ = unix.SetNonblock(int(f.Fd()), true)
	return f
}

func (w *world) clients(path string) int {
	w.t.Helper()
	w.Launcher.mu.Lock()
	defer w.Launcher.mu.Unlock()
	return w.services[instanceOf(parse(w.t, path)).key].running.clients
}

func (w *world) announced(path string) bool {
	w.t.Helper()
	_, ok := w.host.Find(parse(w.t, path))
	return ok
}

// What users have made of root's services, and left, costs root nothing.
func TestInetd_InstancesOfOthersStopNobody(t *testing.T) {
	w := newWorld(t, Opts{MaxRunning: 2})
	path := w.script("tcp", "server.inetd", "exit")
	for uid := range uint32(3) {
		for i := range 2 {
			w.visit(1000+uid, fmt.Sprintf("%s,u%d,q%d", path, uid, i))
		}
	}
	for range 3 { // plain ones without a process
		w.visit(1000, w.script("tcp", "server.inetd", "exit"))
	}
	// And those of which processes run are charged to who has opened them.
	busy := w.script("fdp", "server.inetd", "echo on; exec cat")
	for _, option := range []string{",x", ",y", ",group"} {
		line(t, w.mustOpen(1000, busy+option))
	}
	line(t, w.mustOpen(1001, w.serving("tcp", 0)))
	// The limit is one still.
	line(t, w.mustOpen(1001, busy))
	w.refused(1001, w.serving("tcp", 0), unix.ECONNREFUSED, "2 servers of uid 0")
}

func TestInetd_UnusedInstanceEnds(t *testing.T) {
	w := newWorld(t, Opts{IdleTime: 100 * time.Millisecond})
	path := w.script("tcp", "server.inetd", "echo on; exec cat")
	plain := w.mustOpen(1000, path)
	line(t, plain)
	plain.Close()
	f := w.mustOpen(1000, path+",q")
	line(t, f)
	time.Sleep(3 * w.opts.IdleTime) // for which it must stay
	if !w.announced(path + ",q") {
		t.Error("it has ended with a client")
	}
	f.Close()
	w.ended(path + ",q")
	if w.announced(path + ",q") {
		t.Error("it is announced still")
	}
	if !w.announced(path) {
		t.Error("the one without options has ended")
	}
	line(t, w.mustOpen(1000, path+",q"))
	if s := w.Stats(); s.Failures != 0 || s.Starts != 3 {
		t.Errorf("got %+v", s)
	}
}

func TestInetd_OldestUnusedInstanceMakesRoom(t *testing.T) {
	w := newWorld(t, Opts{})
	path := w.script("tcp", "server.inetd", `case $CONVOKE_PATH in *,busy) echo on; exec cat;; esac`)
	line(t, w.mustOpen(1000, path+",busy"))
	for i := range maxInstances - 1 {
		w.visit(1000, fmt.Sprintf("%s,q%d", path, i))
	}
	w.visit(1000, path+",q0") // it is not the oldest any more
	w.visit(1000, path+",more")
	w.ended(path + ",q1")
	for name, want := range map[string]bool{",busy": true, ",q0": true, ",q1": false, ",q2": true, ",more": true} {
		if got := w.announced(path + name); got != want {
			t.Errorf("%s: announced: got %v, want %v", name, got, want)
		}
	}
	w.visit(1001, path+",q1")
	if !w.announced(path + ",q2") {
		t.Error("it had to make room for another user's")
	}
}

func TestInetd_BusyInstancesAreLimited(t *testing.T) {
	w := newWorld(t, Opts{})
	path := w.script("tcp", "server.inetd", "echo on; exec cat")
	for i := range maxInstances {
		line(t, w.mustOpen(1000, fmt.Sprintf("%s,q%d", path, i)))
	}
	w.refused(1000, path+",more", unix.ECONNREFUSED, "instances run")
	w.refused(1000, path+",group", unix.ECONNREFUSED, "instances run")
	line(t, w.mustOpen(1000, path))
	line(t, w.mustOpen(1001, path+",more"))
}

// Who makes ever new instances does not fill what is kept in mind of all.
func TestStart_ForgetsInstancesWithOptions(t *testing.T) {
	l := New(Opts{})
	now := time.Now()
	for i := range maxServices {
		s := &service{option: i%2 == 0, starts: []time.Time{now}, until: now.Add(time.Minute)}
		l.services[strconv.Itoa(i)] = s
	}
	if !l.remember(now) || len(l.services) != maxServices/2 {
		t.Errorf("got %d, want those without options", len(l.services))
	}
}
