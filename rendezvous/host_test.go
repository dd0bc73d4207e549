package rendezvous

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// quiet is a log that nobody reads.
var quiet = slog.New(slog.DiscardHandler)

// callerOf is a caller of that uid in this network namespace, whose pid is made up.
func callerOf(t *testing.T, uid uint32, groups ...uint32) Caller {
	t.Helper()
	own, err := ownNet()
	if err != nil {
		t.Fatal(err)
	}
	return Caller{PID: int(40000 + uid), TGID: int(40000 + uid), UID: uid, GID: uid, Groups: groups, NetNS: own}
}

// me is the caller that this test is.
func me(t *testing.T) Caller {
	t.Helper()
	c := callerOf(t, self.UID)
	c.GID = self.GID
	return c
}

func newHost(t *testing.T, with ...func(*HostOpts)) *Host {
	t.Helper()
	dir := openFolder(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	o := HostOpts{
		Resolver: &Resolver{}, Log: quiet, Self: "web1", SocketDir: dir, DialTimeout: 10 * time.Second,
		Unlink: func(name string) { os.Remove(filepath.Join(dir, name)) },
	}
	for _, f := range with {
		f(&o)
	}
	h := NewHost(o)
	t.Cleanup(h.Close)
	return h
}

func at(addr string) func(*HostOpts) {
	return func(o *HostOpts) { o.Addr = func() netip.Addr { return netip.MustParseAddr(addr) } }
}

func parsed(t *testing.T, path string) Path {
	t.Helper()
	p, err := Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustAnnounce(t *testing.T, h *Host, c Caller, path string) *Announcement {
	t.Helper()
	a, err := h.Announce(t.Context(), c, parsed(t, path), AnnounceOpts{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func mustOpen(t *testing.T, h *Host, c Caller, path string) Conn {
	t.Helper()
	conn, err := h.Open(t.Context(), c, parsed(t, path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(conn.FD) })
	return conn
}

// wantHost fails the test unless err is an *Error with that errno.
func wantHost(t *testing.T, what string, err error, want unix.Errno) {
	t.Helper()
	var e *Error
	var errno unix.Errno
	if !errors.As(err, &errno) && KindOf(err) == NotExist {
		errno = unix.ENOENT
	}
	if !errors.As(err, &e) || errno != want || e.Kind != errnoKind(want) {
		t.Errorf("%s: got %v (%#v), want errno %v", what, err, err, want)
	}
}

// next waits for a client.
func next(t *testing.T, a *Announcement) *Client {
	t.Helper()
	c, err := nextOf(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.FD >= 0 {
			unix.Close(c.FD)
		}
	})
	return c
}

func nextOf(ctx context.Context, a *Announcement) (*Client, error) {
	more := make(chan struct{}, 1)
	a.Notify(func() {
		select {
		case more <- struct{}{}:
		default:
		}
	})
	for {
		c, err := a.Next()
		if err != unix.EAGAIN {
			return c, err
		}
		select {
		case <-more:
		case <-time.After(10 * time.Second):
			return nil, errors.New("no client comes")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// exchange sends a word both ways.
func exchange(t *testing.T, a, b int) {
	t.Helper()
	for _, way := range [][2]int{{a, b}, {b, a}} {
		if _, err := unix.Write(way[0], []byte("hello")); err != nil {
			t.Error(err)
			return
		}
		if got := readSome(t, way[1]); got != "hello" {
			t.Errorf("got %q", got)
		}
	}
}

// readSome reads what comes, "" at the end.
func readSome(t *testing.T, fd int) string {
	t.Helper()
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds[:], 10000); n != 1 {
		t.Errorf("nothing comes: %d, %v", n, err)
		return ""
	}
	buf := make([]byte, 1<<16)
	n, err := unix.Read(fd, buf)
	if err != nil {
		t.Errorf("read: %v", err)
		return ""
	}
	return string(buf[:n])
}

func TestHost_ServerIsToldWhoConnects(t *testing.T) {
	checkFDs(t)
	for _, addr := range []string{"", "127.0.0.1", "127.0.0.2"} {
		t.Run("cluster address "+addr, func(t *testing.T) {
			h := newHost(t)
			if addr != "" {
				h = newHost(t, at(addr))
			}
			c := me(t)
			a := mustAnnounce(t, h, c, "dev/tcp/local/convoke-test-echo,create")
			conn := mustOpen(t, h, c, "dev/tcp/local/convoke-test-echo")
			checkBare(t, conn.FD)
			got := next(t, a)
			checkBare(t, got.FD)
			want := Peer{Host: conn.Local.Addr().String(), Node: "web1", PID: c.TGID, UID: c.UID, GID: c.GID}
			if got.Peer != want || got.Remote != conn.Local || got.Local != conn.Remote || !slices.Contains(a.Addrs(), got.Local) || conn.Node != "web1" {
				t.Errorf("got %+v for %+v, want %+v", got, conn, want)
			}
			exchange(t, conn.FD, got.FD)
			for _, o := range []struct{ level, name int }{{unix.IPPROTO_TCP, unix.TCP_NODELAY}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE}} {
				if v, err := unix.GetsockoptInt(got.FD, o.level, o.name); v != 1 || err != nil {
					t.Errorf("socket option %v: got %d, %v", o, v, err)
				}
			}
			if v, err := unix.GetsockoptInt(got.FD, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE); v != 15 || err != nil {
				t.Errorf("keep-alive: got %d, %v", v, err)
			}
			unix.Close(conn.FD)
			if got := readSome(t, got.FD); got != "" {
				t.Errorf("after the end: got %q", got)
			}
			a.Close()
		})
	}
}

// All names of this host lead to what is announced on it, and so does the number of the port.
func TestHost_EveryNameOfThisHostProvesTheClient(t *testing.T) {
	h := newHost(t, at("127.0.0.1"))
	c := me(t)
	a := mustAnnounce(t, h, c, "dev/tcp/local/convoke-test-echo,create")
	port := strconv.Itoa(int(a.Addrs()[0].Port()))
	for _, path := range []string{
		"dev/tcp/local/convoke-test-echo", "dev/tcp/web1/convoke-test-echo", "dev/tcp/share/convoke-test-echo",
		"dev/tcp/127.0.0.1/convoke-test-echo", "dev/tcp/localhost/convoke-test-echo", "dev/tcp/local/convoke-test-echo,now",
		"dev/tcp/local/convoke-test-echo,remote", "dev/tcp/local/convoke-test-echo,test",
		"dev/tcp/local/" + port, "dev/tcp/127.0.0.1/" + port, "dev/tcp/localhost/" + port,
	} {
		mustOpen(t, h, c, path)
		if got := next(t, a); got.PID != c.TGID || got.UID != c.UID || got.Node != "web1" {
			t.Errorf("%s: got %+v", path, got)
		}
	}
	mustOpen(t, h, c, "dev/tcp/local/convoke-test-echo,other")
	if got := next(t, a); got.PID != 0 || got.UID != NoID || got.GID != NoID {
		t.Errorf("other: got %+v", got)
	}
	_, err := h.Open(t.Context(), c, parsed(t, "dev/tcp/127.0.0.2/"+port))
	wantHost(t, "another address", err, unix.ECONNREFUSED)
	_, err = h.Open(t.Context(), c, parsed(t, "dev/tcp/local/convoke-test-echo,night"))
	wantHost(t, "another instance", err, unix.ENOENT)
	_, err = h.Open(t.Context(), c, parsed(t, "dev/tcp/share/convoke-test-other"))
	wantHost(t, "share", err, unix.ENOENT)
	_, err = h.Open(t.Context(), c, parsed(t, "dev/tcp/local/convoke-test-echo,create"))
	wantHost(t, "create", err, unix.EINVAL)
}

func TestHost_OutsiderIsUnproved(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	a := mustAnnounce(t, h, me(t), "dev/tcp/local/0,create")
	to := a.Addrs()[0]
	for _, tt := range []struct {
		creds Creds
		want  uint32
	}{{Creds{UID: 1000, GID: 1000}, 1000}, {self, NoID}, {Creds{UID: 65534, GID: 1}, NoID}} {
		mustDial(t, DialOpts{Creds: tt.creds}, to)
		if got := next(t, a); got.UID != tt.want || got.GID != NoID || got.PID != 0 || got.Node != "" || got.Host != "127.0.0.1" {
			t.Errorf("uid %d: got %+v", tt.creds.UID, got)
		}
	}
	if got := a.Path().Service; got != strconv.Itoa(int(to.Port())) {
		t.Errorf("service 0 is %q, and listens at %v", got, to)
	}
}

func TestHost_ClientsWaitAndMoreAreRefused(t *testing.T) {
	checkFDs(t)
	h := newHost(t)
	c := me(t)
	a := mustAnnounce(t, h, c, "dev/tcp/local/0,create")
	p := parsed(t, "dev/tcp/local/"+a.Path().Service)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []int
	var failed []error
	for range MaxWaiting + 40 {
		wg.Go(func() {
			conn, err := h.Open(context.Background(), c, p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
			} else {
				conns = append(conns, conn.FD)
			}
		})
	}
	wg.Wait()
	defer func() {
		for _, fd := range conns {
			unix.Close(fd)
		}
	}()
	if len(conns) != MaxWaiting || len(failed) != 40 || a.Waiting() != MaxWaiting {
		t.Fatalf("%d are connected, %d failed, %d wait", len(conns), len(failed), a.Waiting())
	}
	for _, err := range failed {
		wantHost(t, "one more", err, unix.ECONNREFUSED)
	}
	// An outsider is reset.
	out, err := net.Dial("tcp", a.Addrs()[0].String())
	if err == nil {
		if _, err = out.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("outsider: got %v, want a reset", err)
		}
		out.Close()
	}
	// Who has gone makes room.
	unix.Close(conns[0])
	time.Sleep(sweepEvery)
	conn, err := h.Open(t.Context(), c, p)
	if err != nil {
		t.Fatal(err)
	}
	conns[0] = conn.FD
	a.Close()
	for _, fd := range conns {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		unix.Poll(fds[:], 10000)
		if _, err := unix.Read(fd, make([]byte, 1)); err != unix.ECONNRESET {
			t.Fatalf("after Close: got %v, want a reset", err)
		}
	}
	if h.waiting.all != 0 || len(h.waiting.byUser) != 0 {
		t.Errorf("still counted: %d, %v", h.waiting.all, h.waiting.byUser)
	}
}
