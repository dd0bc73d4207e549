package rendezvous

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// readyConn can always be read, until it is closed.
type readyConn struct{ closed chan struct{} }

func (c readyConn) Control(f func(uintptr)) error    { f(0); return nil }
func (c readyConn) Write(f func(uintptr) bool) error { return os.ErrClosed }
func (c readyConn) Read(func(uintptr) bool) error {
	select {
	case <-c.closed:
		return os.ErrClosed
	default:
		return nil
	}
}

func TestBackOff_NoDescriptorIsAskedForMoreAndMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		failed := 0
		closed := make(chan struct{})
		var serving sync.WaitGroup
		serving.Go(func() {
			backOff(readyConn{closed}, closed, func() error {
				at = append(at, time.Since(start)/time.Millisecond)
				if len(at) == 12 {
					return nil // one could be accepted
				}
				return unix.EMFILE
			}, func(error) { failed++ })
		})
		time.Sleep(5 * time.Second)
		close(closed)
		serving.Wait()
		want := []time.Duration{0, 5, 15, 35, 75, 155, 315, 635, 1275, 2275, 3275, 4275, 4275, 4280}
		if len(at) < len(want) || !slices.Equal(at[:len(want)], want) {
			t.Errorf("got attempts at %v ms, want %v", at, want)
		}
		if failed != 2 {
			t.Errorf("it was logged %d times, want once for each series", failed)
		}
	})
}

// The listener is closed between the wake-up and accept(2): that is no failure.
func TestBackOff_NormalEndIsNotTold(t *testing.T) {
	file, conn, err := waitable(mustEventFD(t), "ready")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var got error
	backOff(conn, ended, func() error {
		close(ended)
		file.Close()
		got = conn.Control(func(uintptr) {})
		return got
	}, func(err error) { t.Errorf("told: %v", err) })
	if got == nil {
		t.Error("a closed file can be used")
	}
}

// mustEventFD returns a descriptor that can be read.
func mustEventFD(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(1, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// While no descriptor is left clients wait; then they are served.
func TestHost_ClientsWaitForDescriptors(t *testing.T) {
	if !inNetNS(t) { // for a process of its own
		return
	}
	h := newHost(t)
	a := mustAnnounce(t, h, me(t), "dev/tcp/local/7000,create")
	to := a.Addrs()[0]
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	none := before
	none.Cur = 3 // new descriptors must be below it
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	sa, _, _ := sockaddr(to)
	err = unix.Connect(fd, sa)
	_, openErr := h.Open(t.Context(), me(t), parsed(t, "dev/tcp/local/7000"))
	ready := a.Ready()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err != nil || ready {
		t.Errorf("connect: %v, ready: %v", err, ready)
	}
	wantHost(t, "open", openErr, unix.EMFILE)
	exchange(t, fd, next(t, a).FD)
	mustOpen(t, h, me(t), "dev/tcp/local/7000")
	next(t, a)
}

// Whoever connects while the service ends is refused or reset, and never waits.
func TestHost_ServiceEndsWhileClientsConnect(t *testing.T) {
	checkFDs(t)
	h := newHost(t)
	for _, path := range []string{"dev/tcp/local/convoke-test,user", "dev/fdp/local/convoke-test"} {
		for range 30 {
			a := mustAnnounce(t, h, me(t), path)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for {
						conn, err := h.Open(context.Background(), me(t), a.Path())
						if err == nil {
							unix.Close(conn.FD)
							continue
						}
						if KindOf(err) != Refused && KindOf(err) != NotExist {
							t.Errorf("%s: got %v", path, err)
						}
						return
					}
				})
			}
			for range 5 {
				next(t, a)
			}
			a.Close()
			wg.Wait()
			if _, err := a.Next(); !errors.Is(err, unix.ESHUTDOWN) || !a.Ready() {
				t.Errorf("%s: Next after Close: %v", path, err)
			}
			if h.waiting.all != 0 {
				t.Fatalf("%s: %d are counted", path, h.waiting.all)
			}
		}
	}
}

func TestHost_InterruptedClientIsTakenBack(t *testing.T) {
	checkFDs(t)
	h := newHost(t)
	a := mustAnnounce(t, h, me(t), "dev/tcp/local/0")
	why := errors.New("a signal")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	_, err := h.Open(ctx, me(t), parsed(t, "dev/tcp/local/"+portOf(a)))
	if !errors.Is(err, unix.EINTR) || !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	l := a.listeners[0]
	if a.queue.held != 0 || h.waiting.all != 0 || len(l.claims.known) > 0 || l.claims.low != l.claims.begun {
		t.Errorf("left over: %d held, %+v", a.queue.held, l.claims)
	}
}

func BenchmarkOpen_Announced(b *testing.B) {
	own, err := ownNet()
	if err != nil {
		b.Fatal(err)
	}
	c := Caller{PID: 1, TGID: 1, UID: self.UID, GID: self.GID, NetNS: own}
	h := NewHost(HostOpts{Resolver: &Resolver{}, Log: quiet})
	defer h.Close()
	for _, uid := range []uint32{self.UID, 1000} {
		server := c
		server.UID = uid
		a, err := h.Announce(context.Background(), server, Path{Proto: TCP, Host: "local", Service: "0"}, AnnounceOpts{})
		if err != nil {
			b.Fatal(err)
		}
		p := a.Path()
		b.Run("by "+map[bool]string{true: "this user", false: "another user"}[uid == self.UID], func(b *testing.B) {
			for b.Loop() {
				conn, err := h.Open(context.Background(), c, p)
				if err != nil {
					b.Fatal(err)
				}
				client, err := a.Next()
				if err != nil {
					b.Fatal(err)
				}
				reset(conn.FD)
				unix.Close(client.FD)
			}
		})
		a.Close()
	}
}
