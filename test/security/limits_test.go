package security

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

// hold opens a path as often as it can, says why it stopped, and holds what it has.
const hold = `
import os, sys
fds = []
try:
    for i in range(int(sys.argv[2])): fds.append(os.open(sys.argv[1], int(sys.argv[3])))
    print(len(fds), 0, flush=True)
except OSError as e: print(len(fds), e.errno, flush=True)
sys.stdin.readline()`

func TestLimits_OfOneUserLeaveOthersAlone(t *testing.T) {
	n := start(t, "--limit", "streams 1000 3", "--limit", "events 1000 2")
	s := daemon.Serve(t)
	for _, tc := range []struct{ path, flags, want string }{
		{s.Path, "2", "3 24"}, // EMFILE
		{"cluster/events", "0", "2 24"},
	} {
		c := n.Spawn(daemon.U1000, "/usr/bin/python3", "-c", hold, tc.path, "10", tc.flags)
		if got := c.Line(); got != tc.want {
			t.Errorf("%s: uid 1000 got %q, want %q", tc.path, got, tc.want)
		}
		for _, u := range []daemon.User{daemon.U1001, daemon.Root} {
			other := n.Spawn(u, "/usr/bin/python3", "-c", hold, tc.path, "10", tc.flags)
			if got := other.Line(); got != "10 0" {
				t.Errorf("%s: uid %d got %q, want %q", tc.path, u.UID, got, "10 0")
			}
			other.Say("")
			other.Ends(daemon.Bound)
		}
		c.Say("")
		c.Ends(daemon.Bound)
		daemon.Eventually(t, daemon.Bound, "given back", func() bool { return n.Metric("convoke_connections")+n.Metric("convoke_event_readers") == 0 })
		again := n.Spawn(daemon.U1000, "/usr/bin/python3", "-c", hold, tc.path, "1", tc.flags)
		if got := again.Line(); got != "1 0" {
			t.Errorf("%s: after the close uid 1000 got %q, want %q", tc.path, got, "1 0")
		}
		again.Say("")
		again.Ends(daemon.Bound)
	}
}

func TestLimits_OfWaitingRequests(t *testing.T) {
	n := start(t, "--limit", "parked 1000 2", "--limit", "parked-bytes 1000 0")
	s := daemon.Serve(t)
	var readers []*daemon.Child
	for range 2 {
		readers = append(readers, n.Spawn(daemon.U1000, "cat", s.Path))
	}
	daemon.Eventually(t, daemon.Bound, "two wait", func() bool { return n.Metric("convoke_parked_requests") == 2 })
	if r := n.ShAs(daemon.U1000, "cat "+s.Path); r.Code == 0 || !strings.Contains(r.Err, "temporarily unavailable") {
		t.Errorf("a third read: got %+v, want EAGAIN", r)
	}
	f := n.MustOpen(s.Path, unix.O_RDWR)
	f.Echo(acceptAll(s, 4), "root goes on")
	for _, c := range readers {
		c.Signal(syscall.SIGKILL)
		c.Ends(daemon.Bound)
	}
	daemon.Eventually(t, daemon.Bound, "nobody waits", func() bool { return n.Metric("convoke_parked_requests") == 0 })
	r := n.Run(daemon.U1000, "/usr/bin/python3", "-c", `
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    while True: os.write(fd, bytes(1 << 20))
except OSError as e: print(e.errno)`, s.Path)
	if r.Out != "11\n" {
		t.Errorf("a large write to a full peer: got %+v, want EAGAIN", r)
	}
}

func TestLimits_OfDials(t *testing.T) {
	daemon.Need(t, "fuse", "netns", "setpriv")
	t.Parallel()
	h := daemon.NewNet(t, 1).Hosts[0]
	h.Run("ip neigh add 10.77.0.99 lladdr 02:00:00:00:00:99 dev eth0")
	n := daemon.Start(t, daemon.Opts{Host: h, Args: []string{"--limit", "dials 1000 1"}})
	s := h.Serve()
	n.Spawn(daemon.U1000, "cat", "dev/tcp/10.77.0.99/80")
	daemon.Eventually(t, daemon.Bound, "dial", func() bool { return n.Metric("convoke_dials") == 1 })
	if r := n.ShAs(daemon.U1000, "cat "+s.Path); r.Code == 0 || !strings.Contains(r.Err, "temporarily unavailable") {
		t.Errorf("a second dial: got %+v, want EAGAIN", r)
	}
	for _, u := range []daemon.User{daemon.U1001, daemon.Root} {
		if r := n.ShAs(u, "exec 3<>"+s.Path); r.Code != 0 {
			t.Errorf("uid %d: %+v", u.UID, r)
		}
	}
}

func TestClients_StoppedOrInterruptedWithoutEndHoldUpNobody(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	f := n.MustOpen(s.Path, unix.O_RDWR)
	peer := s.Accept()
	measure := func() time.Duration {
		began := time.Now()
		for range 200 {
			f.Echo(peer, "ping")
		}
		return time.Since(began)
	}
	alone := measure()
	for range 10 {
		c := n.Spawn(daemon.U1000, "cat", s.Path)
		held := s.Accept()
		daemon.Eventually(t, daemon.Bound, "it reads", func() bool { return n.Metric("convoke_parked_requests") > 0 })
		c.Signal(syscall.SIGSTOP)
		go io.WriteString(held, strings.Repeat("unread\n", 100000))
	}
	// Each of these signals takes the read back and begins it anew.
	for range 5 {
		n.Spawn(daemon.U1000, "/usr/bin/python3", "-c", `
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *a: None)
signal.siginterrupt(signal.SIGALRM, False)
fd = os.open(sys.argv[1], os.O_RDWR)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
print("open", flush=True)
os.read(fd, 1)`, s.Path).Expect("open")
		s.Accept()
	}
	if among := measure(); among > 20*alone+time.Second {
		t.Errorf("200 round trips take %v, took %v alone", among, alone)
	}
}

func TestLog_TellsForeignTextInOneLine(t *testing.T) {
	n := start(t)
	r := n.Run(daemon.U1000, "/usr/bin/python3", "-c", `
import os
for name in (b"a\x1b[31m", b"a\ntime=2026 level=INFO msg=forged", b"\xff\xfe", b"\"quote\" uid=0", "größe".encode()):
    try: os.open(b"dev/fdp/local/" + name, os.O_CREAT | os.O_RDWR)
    except OSError as e: print(e.errno)`)
	if r.Out != strings.Repeat("1\n", 5) {
		t.Fatalf("got %+v, want EPERM each", r)
	}
	log := n.Log()
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "time=") || strings.HasPrefix(line, "time=2026 ") {
			t.Errorf("a line is forged: %q", line)
		}
		if strings.Contains(line, "create") && field(line[strings.LastIndex(line, "\" uid="):], "uid") != "1000" {
			t.Errorf("the uid is forged: %q", line)
		}
	}
	if strings.ContainsAny(log, "\x1b\xff\xfe") {
		t.Errorf("control bytes are in the log: %q", log)
	}
	if got := strings.Count(log, "create a"); got != 2 {
		t.Errorf("%d of 2 lines are there:\n%s", got, log)
	}
}

func TestLog_TenLinesASecondAndACount(t *testing.T) {
	n := start(t)
	before := strings.Count(n.Log(), "\n")
	began := time.Now()
	n.ShAs(daemon.U1000, `i=0; while [ $i -lt 300 ]; do ( : >dev/fdp/local/none ) 2>/dev/null; i=$((i+1)); done`)
	seconds := int(time.Since(began)/time.Second) + 2
	told := strings.Count(n.Log(), "\n") - before
	if told == 0 || told > 11*seconds {
		t.Errorf("%d lines in %d seconds, want 10 in each", told, seconds)
	}
	daemon.Eventually(t, daemon.Bound, "the count", func() bool {
		n.ShAs(daemon.U1000, `: >dev/fdp/local/none`)
		return strings.Contains(n.Log(), "failures not told")
	})
	n.WantErr(daemon.Root, ": >dev/fdp/local/root", "")
	if !strings.Contains(n.Log(), "create root") {
		t.Error("another user's failure is not told")
	}
}
