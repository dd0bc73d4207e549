package rendezvous

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDial_TimesOutAtABlackHole(t *testing.T) {
	to := blackHole(t)
	checkFDs(t)
	const bound = 50 * time.Millisecond
	start := time.Now()
	_, err := dialTCP(t.Context(), DialOpts{Creds: self, Timeout: bound}, to)
	wantErrno(t, err, unix.ETIMEDOUT)
	if d := time.Since(start); d < bound {
		t.Errorf("got %v after %v, want %v", err, d, bound)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	_, err = dialTCP(ctx, DialOpts{Creds: self}, to)
	wantErrno(t, err, unix.ETIMEDOUT)
}

func TestDial_InterruptedAtABlackHole(t *testing.T) {
	to := blackHole(t)
	checkFDs(t)
	why := errors.New("caller was interrupted")
	for _, delay := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(delay, func() { cancel(why) })
		start := time.Now()
		_, err := dialTCP(ctx, DialOpts{Creds: self}, to)
		wantErrno(t, err, unix.EINTR)
		if !errors.Is(err, why) {
			t.Errorf("the cause is lost: %v", err)
		}
		if d := time.Since(start); d > DefaultTimeout/2 {
			t.Errorf("interrupted after %v", d)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	_, err := dialTCP(ctx, DialOpts{Creds: self}, to)
	wantErrno(t, err, unix.EINTR)
}

func TestDial_DeadFamilyDoesNotHoldUpTheOther(t *testing.T) {
	_, alive := listen(t, "127.0.0.1:0")
	_, alive6 := listen(t, "[::1]:0")
	hole := blackHole(t)
	checkFDs(t)
	dead := refused(t, "::1")
	for _, tt := range []struct {
		name  string
		addrs []netip.AddrPort
		want  netip.AddrPort
		waits int // how many attempts go unanswered before the one that succeeds
	}{
		{"v6 refused, v4 alive", []netip.AddrPort{dead, alive}, alive, 0},
		{"v4 silent, v6 alive", []netip.AddrPort{hole, alive6}, alive6, 1},
		{"silent, refused, alive", []netip.AddrPort{hole, dead, alive}, alive, 1},
		{"silent twice", []netip.AddrPort{hole, hole, alive6}, alive6, 2},
		{"alive, silent", []netip.AddrPort{alive, hole}, alive, 0},
	} {
		start := time.Now()
		c, err := dialTCP(t.Context(), DialOpts{Creds: self}, tt.addrs...)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if d := time.Since(start); c.Remote != tt.want || d < time.Duration(tt.waits)*attemptDelay {
			t.Errorf("%s: got %v after %v, want %v after %d delays", tt.name, c.Remote, d, tt.want, tt.waits)
		}
		checkBare(t, c.FD)
		unix.Close(c.FD)
	}
}

// The first attempt is slow, not dead: when it answers while the second is still unanswered, it wins.
func TestDial_SlowFirstAddressStillWins(t *testing.T) {
	l, slow := listen(t, "127.0.0.1:0")
	hole := blackHole(t)
	checkFDs(t)
	fillBacklog(t, l, slow)
	time.AfterFunc(attemptDelay+50*time.Millisecond, func() {
		for range 64 { // makes room; the kernel repeats the SYN after 1 s
			l.SetDeadline(time.Now().Add(10 * time.Millisecond))
			if c, err := l.Accept(); err == nil {
				c.Close()
			}
		}
	})
	c, err := dialTCP(t.Context(), DialOpts{Creds: self}, slow, hole)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.FD)
	if c.Remote != slow {
		t.Errorf("got %v, want %v", c.Remote, slow)
	}
}

// fillBacklog shortens the backlog of l and fills it.
func fillBacklog(t *testing.T, l *net.TCPListener, addr netip.AddrPort) {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 0) })
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		c, err := dialTCP(t.Context(), DialOpts{Creds: self, Now: true}, addr)
		if err != nil {
			t.Fatal(err)
		}
		full := !writable(c.FD)
		defer unix.Close(c.FD)
		if full {
			return
		}
	}
	t.Fatal("the backlog is never full")
}

func TestDial_ManyWaitOnFewThreads(t *testing.T) {
	to := blackHole(t)
	checkFDs(t)
	const dials = 256
	var wg sync.WaitGroup
	for range dials {
		wg.Go(func() {
			if _, err := dialTCP(t.Context(), DialOpts{Creds: self, Timeout: 500 * time.Millisecond}, to); KindOf(err) != Timeout {
				t.Errorf("got %v, want a time-out", err)
			}
		})
	}
	wg.Wait()
	// Go keeps the threads that it has made, so these are the most that there were.
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil || len(threads) > 64 {
		t.Errorf("got %d threads for %d dials, %v", len(threads), dials, err)
	}
}

// Cancelling at any moment leaves either a connection or an error, and no descriptor.
func TestDial_CancelRacesWithTheAnswer(t *testing.T) {
	cfg := net.ListenConfig{KeepAlive: -1}
	l, err := cfg.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	hole := blackHole(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	checkNoNewSockets(t, to.Port(), func() {
		for i := range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Duration(i)*5*time.Microsecond, cancel)
			addrs := []netip.AddrPort{to}
			if i%4 == 0 {
				addrs = []netip.AddrPort{hole, to}
			}
			c, err := dialTCP(ctx, DialOpts{Creds: self}, addrs...)
			switch {
			case err == nil:
				unix.Close(c.FD)
			case !errors.Is(err, unix.EINTR):
				t.Errorf("got %v, want EINTR", err)
			}
			cancel()
		}
	})
}

// checkNoNewSockets is checkFDs for a test whose listener accepts at the same time, at port. A socket that Dial has made
// is known by its own port: those that are accepted have the listener's.
func checkNoNewSockets(t *testing.T, port uint16, f func()) {
	t.Helper()
	clients := func() (n int) {
		entries, _ := os.ReadDir("/proc/self/fd")
		for _, e := range entries {
			fd, _ := strconv.Atoi(e.Name())
			if local, err := sockname(fd); err == nil && local.IsValid() && local.Port() != port {
				n++
			}
		}
		return n
	}
	before := clients()
	f()
	if after := clients(); after != before {
		t.Errorf("got %d sockets of Dial, want %d", after, before)
	}
}
