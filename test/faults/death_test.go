package faults

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

// poll begins poll(2) for input without a bound and sends what it reports.
func poll(f *daemon.File) <-chan int16 {
	c := make(chan int16, 1)
	go func() {
		p := []unix.PollFd{{Fd: int32(f.FD), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(p, -1); !errors.Is(err, unix.EINTR) {
				c <- p[0].Revents
				return
			}
		}
	}()
	return c
}

// dead tells whether err is what a call gets whose daemon has gone.
func dead(err error) bool { return errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.ENOTCONN) }

func TestDaemon_KilledFreesItsCallersAndIsReplaced(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	read, polled, full := n.MustOpen(s.Path, unix.O_RDWR), n.MustOpen(s.Path, unix.O_RDWR), n.MustOpen(s.Path, unix.O_RDWR)
	events := n.MustOpen("cluster/events,MEMBER_LEFT", unix.O_RDONLY)
	peer := s.Accept()
	r, p, w, e := read.Read(10), poll(polled), full.Fill(), events.Read(10)
	waitMetric(t, n, "convoke_parked_requests", 3)
	began := time.Now()
	n.Kill()
	if got := daemon.Wait(t, daemon.Bound, "read", r); !dead(got.Err) {
		t.Errorf("read: got %+v", got)
	}
	if got := daemon.Wait(t, daemon.Bound, "write", w); !dead(got.Err) {
		t.Errorf("write: got %+v", got)
	}
	if got := daemon.Wait(t, daemon.Bound, "read of events", e); !dead(got.Err) {
		t.Errorf("read of events: got %+v", got)
	}
	if got := daemon.Wait(t, daemon.Bound, "poll", p); got&unix.POLLERR == 0 {
		t.Errorf("poll: got %#x, want POLLERR", got)
	}
	daemon.Wait(t, daemon.Bound, "end at the server", gone(peer))
	if took := time.Since(began); took > quick {
		t.Errorf("callers were free after %v, want at once", took)
	}
	var st unix.Stat_t
	if err := unix.Stat(n.Path("cluster/status"), &st); !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("stat: got %v, want ENOTCONN", err)
	}
	n.Start()
	n.Want("cat cluster/name", "convoke\n")
	if got := daemon.Wait(t, daemon.Bound, "read", read.Read(1)); !dead(got.Err) {
		t.Errorf("read of a file of the old daemon: got %+v", got)
	}
	n.MustOpen(s.Path, unix.O_RDWR).Echo(acceptLast(s, 3), "hello")
}

// acceptLast accepts that many connections and returns the last.
func acceptLast(s *daemon.Server, count int) (c interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
}) {
	for range count {
		c = s.Accept()
	}
	return c
}

func TestDaemon_TerminatedWithFilesOpenLeavesNothing(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	read, full := n.MustOpen(s.Path, unix.O_RDWR), n.MustOpen(s.Path, unix.O_RDWR)
	events := n.MustOpen("cluster/events,MEMBER_LEFT", unix.O_RDONLY)
	n.Spawn(daemon.U1000, "sleep", "1000") // its working folder is in the mount
	r, p, w, e := read.Read(10), poll(n.MustOpen("cluster/events,MEMBER_JOINED", unix.O_RDONLY)), full.Fill(), events.Read(10)
	waitMetric(t, n, "convoke_parked_requests", 3)
	n.Stop()
	for name, c := range map[string]<-chan daemon.Done{"read": r, "write": w, "events": e} {
		if got := daemon.Wait(t, daemon.Bound, name, c); got.Err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
	daemon.Wait(t, daemon.Bound, "poll", p)
	entries, err := os.ReadDir(n.Mount)
	if len(entries) > 0 {
		t.Errorf("the mount point holds %v, %v", entries, err)
	}
}

func TestDaemon_StoppedAndContinuedLosesNothing(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	f := n.MustOpen(s.Path, unix.O_RDWR)
	peer := s.Accept()
	read := f.Read(5)
	waitMetric(t, n, "convoke_parked_requests", 1)
	n.Signal(syscall.SIGSTOP)
	if _, err := peer.Write([]byte("early")); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		fd, err := unix.Open(n.Path(s.Path), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		opened <- err
	}()
	select { // the point is that nothing happens for as long as that
	case r := <-read:
		t.Errorf("a stopped daemon has answered %+v", r)
	case err := <-opened:
		t.Errorf("a stopped daemon has opened: %v", err)
	case <-time.After(3 * time.Second):
	}
	n.Signal(syscall.SIGCONT)
	if r := daemon.Wait(t, daemon.Bound, "read", read); r.Data != "early" || r.Err != nil {
		t.Errorf("got %+v", r)
	}
	if err := daemon.Wait(t, daemon.Bound, "open", opened); err != nil {
		t.Errorf("open: %v", err)
	}
	f.Echo(peer, "after")
}

func TestDaemon_SecondOneIsRefused(t *testing.T) {
	daemon.Need(t, "fuse", "root")
	t.Parallel()
	key := daemon.NewKey(t)
	n := daemon.Start(t, daemon.Opts{Name: "first", KeyFile: key})
	dir := t.TempDir()
	own := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(own("n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what, mount, run, state, bind string
		want                          string
	}{
		{"mount point", n.Mount, own("run"), own("state"), "127.9.9.9:0", "another convoked has mounted its tree there"},
		{"run folder", own("n"), n.RunDir, own("state"), "127.9.9.9:0", "another convoked (pid"},
		{"state folder", own("n"), own("run"), n.State, "127.9.9.9:0", "state"},
		{"address", own("n"), own("run"), own("state"), n.Addr, "address already in use"},
		{"file for a mount point", key, own("run"), own("state"), "127.9.9.9:0", "not a directory"},
	} {
		cmd := exec.Command(daemon.Convoked(t), "--name", "second", "--key-file", key, "--bind", tc.bind, "--run", tc.run, "--state", tc.state, tc.mount)
		r := daemon.Finish(t, cmd, daemon.Bound)
		if r.Code != 1 || !strings.Contains(r.Err, tc.want) {
			t.Errorf("%s: status %d, stderr %q, want 1 and %q", tc.what, r.Code, r.Err, tc.want)
		}
		if daemon.Mounted(t, own("n")) {
			t.Errorf("%s: the refused daemon has left its mount", tc.what)
			unix.Unmount(own("n"), unix.MNT_DETACH)
		}
		n.Want("readlink cluster/self", "members/first\n")
	}
}
