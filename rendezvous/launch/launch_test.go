package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStart_OpenIsServed(t *testing.T) {
	w := newWorld(t, Opts{})
	for _, proto := range []string{"tcp", "fdp"} {
		for _, uid := range []int{0, 1000} {
			path := w.serving(proto, uid)
			name := filepath.Base(path)
			f := w.mustOpen(1001, path+",slave")
			l := line(t, f)
			if field(l, "uid") != strconv.Itoa(uid) || field(l, "path") != path || field(l, "names") != name || field(l, "slave") != "1" {
				t.Errorf("%s of uid %d: got %q", proto, uid, l)
			}
			if _, err := f.WriteString("hello\n"); err != nil || line(t, f) != "hello" {
				t.Errorf("no echo: %v", err)
			}
			// The next open finds it running.
			if again := line(t, w.mustOpen(1001, path)); field(again, "pid") != field(l, "pid") {
				t.Errorf("got %q, then %q", l, again)
			}
			if proto == "fdp" {
				cred, err := unix.GetsockoptUcred(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
				if err != nil || int(cred.Uid) != uid || strconv.Itoa(int(cred.Pid)) != field(l, "pid") {
					t.Errorf("peer: got %+v, %v, want uid %d of %q", cred, err, uid, l)
				}
			}
		}
	}
	if got, want := w.Stats(), (Stats{Starts: 4, Running: 4}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestStart_DatagramsAreServed(t *testing.T) {
	w := newWorld(t, Opts{})
	f := w.mustOpen(0, w.serving("udp", 1000))
	if _, err := f.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	if got := line(t, f); got != "1000 hello" {
		t.Errorf("got %q", got)
	}
}

func TestStart_OnceForManyAtOnce(t *testing.T) {
	w := newWorld(t, Opts{})
	for _, proto := range []string{"tcp", "fdp"} {
		path := w.serving(proto, 1000)
		before := w.Stats().Starts
		pids := make(chan string, 200)
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				f, err := w.open(1000, path)
				if err != nil {
					t.Error(err)
					return
				}
				pids <- field(line(t, f), "pid")
			})
		}
		wg.Wait()
		close(pids)
		first := ""
		for pid := range pids {
			if first == "" {
				first = pid
			}
			if pid != first {
				t.Errorf("%s: served by %s and by %s", proto, first, pid)
			}
		}
		if n := w.Stats().Starts - before; n != 1 {
			t.Errorf("%s: started %d times", proto, n)
		}
	}
}

func TestStart_AgainAfterItsEnd(t *testing.T) {
	w := newWorld(t, Opts{})
	path := w.serving("tcp", 1000)
	f := w.mustOpen(0, path)
	first := field(line(t, f), "pid")
	if _, err := f.WriteString("end\n"); err != nil {
		t.Fatal(err)
	}
	w.ended(path)
	if _, ok := w.host.Find(parse(t, path)); ok {
		t.Error("the name is not free")
	}
	if next := field(line(t, w.mustOpen(0, path)), "pid"); next == first {
		t.Errorf("served by %s still", next)
	}
	if s := w.Stats(); s.Failures != 0 || s.Starts != 2 {
		t.Errorf("got %+v", s)
	}
}

// A server that serves one client and ends has not failed, even if it is gone before the open has returned.
func TestStart_ServerOfOneClient(t *testing.T) {
	w := newWorld(t, Opts{})
	path := w.script("tcp", "server", python("c,_=s.accept(); c.sendall(b'served\\n')"))
	for range 5 {
		if got := line(t, w.mustOpen(1000, path)); got != "served" {
			t.Errorf("got %q", got)
		}
		w.ended(path)
	}
	if s := w.Stats(); s.Failures != 0 {
		t.Errorf("got %+v", s)
	}
}

// A server that takes one client after the other has accepted, though its queue is never empty.
func TestStart_ServerThatIsSlow(t *testing.T) {
	w := newWorld(t, Opts{})
	for _, proto := range []string{"tcp", "fdp"} {
		path := w.script(proto, "server", python("c,_=s.accept(); time.sleep(60)"))
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := w.open(1000, path); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestStart_ServerThatEndsAtOnce(t *testing.T) {
	w := newWorld(t, Opts{})
	path := w.script("tcp", "server", "echo sorry; exit 3")
	for n := range 3 {
		w.refused(1000, path, unix.ECONNREFUSED, "")
		w.ended(path)
		if left := w.backOff(path, time.Hour); left > firstDelay<<n {
			t.Errorf("after %d failures: the next start is in %v", n+1, left)
		}
		w.refused(1000, path, unix.ECONNREFUSED, "exit status 3")
		w.backOff(path, 0)
	}
	if s := w.Stats(); s.Starts != 3 || s.Failures != 3 {
		t.Errorf("got %+v, want three starts and failures", s)
	}
	if text := w.said(); !strings.Contains(text, `text=sorry`) || !strings.Contains(text, `outcome="exit status 3"`) {
		t.Errorf("the log does not say what happened")
	}
}

func TestStart_BackOffIsBounded(t *testing.T) {
	l := New(Opts{})
	s := &service{}
	want := firstDelay
	for range 40 {
		l.failed(s, "x")
		if left := time.Until(s.until); left > want || left < want-time.Second {
			t.Errorf("after %d failures: got %v, want %v", s.failures, left, want)
		}
		want = min(2*want, maxDelay)
	}
}

func TestStart_ServerThatAcceptsNobody(t *testing.T) {
	w := newWorld(t, Opts{AcceptTime: 300 * time.Millisecond})
	for _, proto := range []string{"tcp", "fdp"} {
		path := w.script(proto, "server", "exec sleep 60")
		w.refused(1000, path, unix.ECONNREFUSED, "accepted nobody")
		w.ended(path) // by SIGTERM
	}
	if s := w.Stats(); s.Failures != 2 {
		t.Errorf("got %+v", s)
	}
}

// Who finds the announcement of a server that has not accepted yet waits as long as who has had it started.
func TestStart_ServerThatAcceptsNobodyOfMany(t *testing.T) {
	w := newWorld(t, Opts{AcceptTime: 500 * time.Millisecond})
	for _, proto := range []string{"tcp", "fdp"} {
		path := w.script(proto, "server", "exec sleep 60")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { w.refused(1000, path, unix.ECONNREFUSED, "accepted nobody") })
		}
		within(t, "the announcement", func() {
			for {
				if _, ok := w.host.Find(parse(t, path)); ok {
					return
				}
				time.Sleep(time.Millisecond) // nothing tells
			}
		})
		w.refused(1000, path, unix.ECONNREFUSED, "accepted nobody")
		wg.Wait()
		w.ended(path)
	}
	if s := w.Stats(); s.Starts != 2 || s.Failures != 2 {
		t.Errorf("got %+v", s)
	}
}

// An announcement can be found before its server has come to run, or has failed to.
func TestAccepted_WaitsForTheStart(t *testing.T) {
	l := New(Opts{})
	p := parse(t, "dev/tcp/local/convoke-test")
	in := instanceOf(p)
	a := &attempt{done: make(chan struct{})}
	l.services[in.key] = &service{attempt: a, last: &running{l: l, in: in, reason: "the one before"}}
	got := make(chan error, 1)
	go func() { got <- l.Accepted(t.Context(), p) }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Accepted(ctx, p); !errors.Is(err, unix.EINTR) {
		t.Errorf("interrupted: got %v", err)
	}
	a.err = refuse(p, unix.ECONNREFUSED, "no such interpreter")
	close(a.done)
	within(t, "accepted", func() {
		if err := <-got; !errors.Is(err, a.err) {
			t.Errorf("got %v, want %v", err, a.err)
		}
	})
}

// A server must stay in the foreground: with its end its name is free, whoever holds its socket.
func TestStart_ServerThatForksAway(t *testing.T) {
	w := newWorld(t, Opts{})
	path := w.script("tcp", "server", "setsid sleep 3 & exit 0")
	w.refused(1000, path, unix.ECONNREFUSED, "")
	w.ended(path)
	if _, ok := w.host.Find(parse(t, path)); ok {
		t.Error("the name is not free")
	}
}

func TestStart_WhatCannotBeRun(t *testing.T) {
	w := newWorld(t, Opts{})
	path, folder := newService("tcp")
	file := install(t, w.lib, folder, "server", script("exit"))
	chmod(t, file, 0o777)
	w.refused(0, path, unix.ECONNREFUSED, "writable by others")
	if uid, ok := w.Owner(parse(t, path)); uid != 0 || !ok {
		t.Errorf("owner: got %d, %v, want root's", uid, ok)
	}
	chmod(t, file, 0o644)
	w.refused(0, path, unix.ECONNREFUSED, "not executable")
	install(t, w.lib, folder, "server", "#!/nonexistent\n")
	w.refused(0, path, unix.ECONNREFUSED, "no such file")
	w.backOff(path, time.Hour)
	w.refused(0, path, unix.ECONNREFUSED, "next start")
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	if uid, ok := w.Owner(parse(t, path)); ok {
		t.Errorf("owner of the empty file: got %d", uid)
	}
	if err := w.Start(t.Context(), as(t, 0), parse(t, path)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("empty file: got %v, want ENOENT", err)
	}
	if s := w.Stats(); s.Starts != 1 || s.Failures != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestStart_OnMembersThatHostsNames(t *testing.T) {
	w := newWorld(t, Opts{})
	path := w.serving("tcp", 1000)
	folder := strings.Replace(strings.TrimPrefix(path, "dev/"), "local/", "", 1)
	install(t, w.lib, folder, "hosts", "web2\n")
	if err := w.Start(t.Context(), as(t, 0), parse(t, path)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v, want ENOENT", err)
	}
	if uid, ok := w.Owner(parse(t, path)); uid != 1000 || !ok {
		t.Errorf("owner: got %d, %v", uid, ok)
	}
	line(t, w.mustOpen(0, path+",local"))
}

func TestStart_InstancesOfAUser(t *testing.T) {
	w := newWorld(t, Opts{})
	w.lookup = func(uid uint32) (account, error) { // without accounts on this machine
		return account{uid: uid, gid: uid + 1, groups: []uint32{uid + 1}, name: "u", home: "/"}, nil
	}
	path := w.serving("fdp", 0)
	base := line(t, w.mustOpen(1000, path))
	own := line(t, w.mustOpen(1000, path+",user"))
	if field(base, "uid") != "0" || field(own, "uid") != "1000" || field(own, "gid") != "1001" {
		t.Errorf("got %q and %q", base, own)
	}
	w.refused(1001, path+",user=1000", unix.EACCES, "")
	if again := line(t, w.mustOpen(0, path+",user=1000")); field(again, "pid") != field(own, "pid") {
		t.Errorf("root: got %q, want %q", again, own)
	}
	if g := line(t, w.mustOpen(1002, path+",group")); field(g, "gid") != "1002" || field(g, "uid") != "0" {
		t.Errorf("group: got %q", g)
	}
	// A user's own server does not become somebody else.
	theirs := w.serving("fdp", 1000)
	w.refused(1001, theirs+",user", unix.EACCES, "nobody else")
	// Who accepts by himself knows nobody's uid.
	tcp := w.serving("tcp", 0)
	w.refused(1000, tcp+",user", unix.EOPNOTSUPP, "nobody proves")
}

func TestStart_QualifiersAreInstances(t *testing.T) {
	w := newWorld(t, Opts{})
	path := w.serving("tcp", 1000)
	a, b := line(t, w.mustOpen(1, path+",x,y")), line(t, w.mustOpen(1, path+",y,x"))
	if field(a, "pid") != field(b, "pid") || field(a, "path") != path+",x,y" {
		t.Errorf("got %q and %q", a, b)
	}
	for i := range maxInstances - 1 {
		w.mustOpen(1, fmt.Sprintf("%s,q%d", path, i))
	}
	w.refused(1, path+",more", unix.ECONNREFUSED, "instances run")
	w.mustOpen(2, path+",more")
}

func TestStart_Limits(t *testing.T) {
	w := newWorld(t, Opts{StartsPerMinute: 2, MaxRunning: 2})
	path := w.serving("tcp", 1000)
	for range 2 {
		f := w.mustOpen(0, path)
		line(t, f)
		if _, err := f.WriteString("end\n"); err != nil {
			t.Fatal(err)
		}
		w.ended(path)
	}
	w.refused(0, path, unix.ECONNREFUSED, "2 times within a minute")
	for range 2 {
		w.mustOpen(0, w.serving("tcp", 1000))
	}
	w.refused(0, w.serving("tcp", 1000), unix.ECONNREFUSED, "2 servers of uid 1000")
	w.mustOpen(0, w.serving("tcp", 1001))
}

// Who gives up does not take the others' server with him.
func TestStart_InterruptedOpener(t *testing.T) {
	w := newWorld(t, Opts{})
	path := w.serving("tcp", 1000)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(unix.EINTR)
	if err := w.Start(ctx, as(t, 0), parse(t, path)); err != nil && !errors.Is(err, unix.EINTR) {
		t.Errorf("got %v, want EINTR", err)
	}
	line(t, w.mustOpen(0, path))
	if s := w.Stats(); s.Starts != 1 {
		t.Errorf("got %+v", s)
	}
}

// Close ends what a server has started, too, and one that does not want to end.
func TestClose_EndsServers(t *testing.T) {
	w := newWorld(t, Opts{})
	w.stopTime = 200 * time.Millisecond
	// What is ignored here is ignored by its children too.
	path := w.script("tcp", "server", "trap '' TERM; "+strings.TrimPrefix(python("c,_=s.accept(); c.sendall(b'x\\n'); time.sleep(60)"), "exec ")+" & wait; exec sleep 60")
	f := w.mustOpen(0, path)
	if got := line(t, f); got != "x" {
		t.Errorf("got %q", got)
	}
	within(t, "close", w.Close)
	w.refused(0, path, unix.ECONNREFUSED, "the daemon ends")
	if got := rest(t, f); got != "" {
		t.Errorf("got %q", got)
	}
}

// What is being started when the daemon ends does not outlast it.
func TestClose_WhileServersStart(t *testing.T) {
	w := newWorld(t, Opts{})
	var wg sync.WaitGroup
	for i := range 16 {
		file := []string{"server", "server.inetd"}[i%2]
		path := w.script("tcp", file, "exec sleep 60")
		wg.Go(func() {
			if f, err := w.open(1000, path); err == nil && i%2 == 0 {
				t.Errorf("got %v from a server that accepts nobody", f)
			}
		})
	}
	within(t, "the first starts", func() {
		for w.Stats().Running < 4 {
			time.Sleep(time.Millisecond) // nothing tells
		}
	})
	within(t, "close", w.Close)
	wg.Wait()
	if n := w.Stats().Running; n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

func TestInetd_ProcessForEachClient(t *testing.T) {
	w := newWorld(t, Opts{})
	for _, proto := range []string{"tcp", "fdp"} {
		path := w.script(proto, "server.inetd", `echo "$$ $CONVOKE_PEER_HOST $CONVOKE_PEER_NODE $CONVOKE_PEER_PID $CONVOKE_PEER_UID $CONVOKE_PEER_GID $CONVOKE_PATH"
echo "listen $LISTEN_FDS" >&2
exec cat`)
		host := map[string]string{"tcp": "127.0.0.1", "fdp": "local"}[proto]
		want := fmt.Sprintf("%s web1 %d 1000 1000 %s", host, os.Getpid(), path)
		pids := map[string]bool{}
		for range 3 {
			f := w.mustOpen(1000, path)
			pid, got, _ := strings.Cut(line(t, f), " ")
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			pids[pid] = true
			if _, err := f.WriteString("hello\n"); err != nil {
				t.Fatal(err)
			}
			if err := unix.Shutdown(int(f.Fd()), unix.SHUT_WR); err != nil {
				t.Fatal(err)
			}
			unix.SetNonblock(int(f.Fd()), true)
			if got := rest(t, f); got != "hello\n" {
				t.Errorf("got %q", got)
			}
		}
		if len(pids) != 3 {
			t.Errorf("got processes %v", pids)
		}
	}
	if s := w.Stats(); s.Starts != 2 || s.Failures != 0 {
		t.Errorf("got %+v", s)
	}
}

// Clients wait while as many are served as may be; one whose process crashes is no matter to others.
func TestInetd_ClientsWaitForTheirTurn(t *testing.T) {
	w := newWorld(t, Opts{MaxProcesses: 4})
	path := w.script("tcp", "server.inetd", "echo served; read -r x; kill -9 $$")
	var open []*os.File
	for range 2 {
		f := w.mustOpen(1000, path)
		line(t, f)
		open = append(open, f)
	}
	third := w.mustOpen(1000, path+",another") // another instance has no places of its own
	_ = third.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := third.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d, %v: it is served beside two others", n, err)
	}
	if _, err := open[0].WriteString("die\n"); err != nil {
		t.Fatal(err)
	}
	if got := line(t, third); got != "served" {
		t.Errorf("got %q", got)
	}
}

func TestInetd_RestrictedInstance(t *testing.T) {
	w := newWorld(t, Opts{})
	path := w.script("tcp", "server.inetd", "id -u; exec cat")
	if got := line(t, w.mustOpen(1000, path+",user")); got != "1000" {
		t.Errorf("got %q", got)
	}
	w.refused(1001, path+",user=1000", unix.EACCES, "")
	w.refused(0, w.script("udp", "server.inetd", "cat"), unix.EOPNOTSUPP, "udp")
	a, ok := w.host.Find(parse(t, path+",user=1000"))
	if !ok || a.Caller().UID != 1000 {
		t.Errorf("it is announced by %+v, want by uid 1000", a)
	}
	// What clients see of a local service is the user, too.
	local := w.script("fdp", "server.inetd", "id -u; exec cat")
	f := w.mustOpen(1000, local+",user")
	if got := line(t, f); got != "1000" {
		t.Errorf("got %q", got)
	}
	if cred, err := unix.GetsockoptUcred(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil || cred.Uid != 1000 {
		t.Errorf("peer: got %+v, %v, want uid 1000", cred, err)
	}
	if got := line(t, w.mustOpen(1001, local+",user")); got != "1001" {
		t.Errorf("got %q", got)
	}
}

func TestInetd_FolderThatChanges(t *testing.T) {
	w := newWorld(t, Opts{})
	path := w.script("tcp", "server.inetd", "echo one; exec cat")
	first := w.mustOpen(0, path)
	line(t, first)
	file := filepath.Join(w.lib, Folder, "tcp", filepath.Base(path), "server.inetd")
	if err := os.WriteFile(file, []byte(script("echo two; exec cat")), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := line(t, w.mustOpen(0, path)); got != "two" {
		t.Errorf("got %q", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	// This one finds it announced still.
	if f, err := w.open(0, path); err == nil {
		if n, err := f.Read(make([]byte, 8)); n > 0 {
			t.Errorf("got %d bytes, %v", n, err)
		}
	}
	w.ended(path)
	if _, ok := w.host.Find(parse(t, path)); ok {
		t.Error("it is announced still")
	}
	if _, err := first.WriteString("x\n"); err != nil || line(t, first) != "x" {
		t.Errorf("the first client is cut off: %v", err)
	}
}

func TestInetd_ThatCannotBeRun(t *testing.T) {
	w := newWorld(t, Opts{})
	path, folder := newService("tcp")
	install(t, w.lib, folder, "server.inetd", "#!/nonexistent\n")
	w.refused(0, path, unix.ECONNREFUSED, "no such file")
	w.ended(path)
	w.backOff(path, time.Hour)
	w.refused(0, path, unix.ECONNREFUSED, "next start")
}
