package ipc

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// deadline bounds every wait of a test. It ends none that is in order.
const deadline = 60 * time.Second

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root: takes other users' ids")
		}
		t.Skip("needs root: takes other users' ids")
	}
}

// soon returns a ctx that ends the test's wait with an error.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func wait[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(deadline):
		t.Fatalf("timed out: %s", what)
		panic("unreachable")
	}
}

func wantErrno(t *testing.T, err error, want unix.Errno) {
	t.Helper()
	var ours *rendezvous.Error
	if !errors.As(err, &ours) || !errors.Is(err, want) {
		t.Errorf("got %v, want a *rendezvous.Error with %v", err, want)
	}
}

// checkFDs fails the test if it has sockets, pipes or events at its end that it has not now.
func checkFDs(t *testing.T) {
	t.Helper()
	before := openFDs(t)
	t.Cleanup(func() {
		var more []string
		for range 500 { // what another goroutine or process lets go of closes soon after
			more = slices.DeleteFunc(openFDs(t), func(fd string) bool { return slices.Contains(before, fd) })
			if len(more) == 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("descriptors at the end: %s", more)
	})
}

func openFDs(t *testing.T) (list []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		link, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if strings.HasPrefix(link, "socket:") || strings.HasPrefix(link, "pipe:") {
			list = append(list, link)
		}
	}
	return list
}

// listenUnix makes a listening socket below dir, whose path may be too long for an address.
func listenUnix(t *testing.T, dir, name string, typ, backlog int) int {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	folder, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(folder)
	fd, err := unix.Socket(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	// A short name first, for a long one has no room even by this way.
	short := "/proc/self/fd/" + strconv.Itoa(folder) + "/.s"
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: short}); err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Chmod(short, 0o666), os.Rename(short, filepath.Join(dir, name)), unix.Listen(fd, backlog))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// newTree returns a tree at which nobody answers yet.
func newTree(t *testing.T) *Tree {
	t.Helper()
	dir, err := os.MkdirTemp("", "ipc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return &Tree{Dir: dir}
}

// daemon is a server of a test and the tree at which it answers.
type daemon struct {
	*Tree
	*Server
}

// startDaemon serves h at a new tree.
func startDaemon(t *testing.T, h host, o ServerOpts) *daemon {
	t.Helper()
	return startDaemonAt(t, newTree(t), h, o)
}

func startDaemonAt(t *testing.T, tree *Tree, h host, o ServerOpts) *daemon {
	t.Helper()
	d := &daemon{tree, newServer(h, o, rendezvous.SocketCaller)}
	d.serve(t)
	return d
}

func (d *daemon) serve(t *testing.T) {
	t.Helper()
	dir := d.path("dev/fdp/local")
	os.Remove(filepath.Join(dir, "convoke"))
	fd := listenUnix(t, dir, "convoke", unix.SOCK_SEQPACKET, 128)
	served := make(chan error, 1)
	go func() { served <- d.Serve(fd) }()
	t.Cleanup(func() {
		d.Server.Close()
		if err := wait(t, served, "Serve ends"); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func (d *daemon) client(t *testing.T) *Client {
	t.Helper()
	c, err := d.Dial(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// fakeHost is a host whose services do as their names say: "echo" is a socket whose other end is given to the test,
// "slow" waits for the end of ctx, "stuck" for release and not for ctx, another is refused.
type fakeHost struct {
	opened  chan int      // the other ends of connections
	begun   chan string   // services that have begun to wait
	release chan struct{} // closed to end "stuck"

	mu        sync.Mutex
	callers   []rendezvous.Caller          // guarded by mu; of each request
	announced map[string]*fakeAnnouncement // guarded by mu
}

func newFakeHost() *fakeHost {
	return &fakeHost{
		opened: make(chan int, 4096), begun: make(chan string, 4096), release: make(chan struct{}),
		announced: map[string]*fakeAnnouncement{},
	}
}

func (h *fakeHost) saw(c rendezvous.Caller) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.callers = append(h.callers, c)
}

// caller returns who made the only request.
func (h *fakeHost) caller(t *testing.T) rendezvous.Caller {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.callers) != 1 {
		t.Fatalf("got %d requests, want one", len(h.callers))
	}
	return h.callers[0]
}

func (h *fakeHost) requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.callers)
}

func (h *fakeHost) Open(ctx context.Context, c rendezvous.Caller, p rendezvous.Path) (rendezvous.Conn, error) {
	h.saw(c)
	switch p.Service {
	case "slow":
		h.begun <- p.Service
		<-ctx.Done()
		return rendezvous.Conn{}, context.Cause(ctx)
	case "stuck":
		h.begun <- p.Service
		<-h.release
	case "echo":
	default:
		return rendezvous.Conn{}, &rendezvous.Error{Op: "dial", Path: p.String(), Kind: rendezvous.Refused, Err: unix.ECONNREFUSED}
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return rendezvous.Conn{}, err
	}
	h.opened <- fds[1]
	return rendezvous.Conn{FD: fds[0], Local: four, Remote: six, Node: "web2"}, nil
}

func (h *fakeHost) Announce(ctx context.Context, c rendezvous.Caller, p rendezvous.Path, o rendezvous.AnnounceOpts) (announcement, error) {
	h.saw(c)
	p.Options.Create = false
	h.mu.Lock()
	defer h.mu.Unlock()
	name := p.String()
	switch {
	case p.Service == "mine":
		return nil, &rendezvous.Error{Op: "announce", Path: name, Kind: rendezvous.Permission, Err: errors.New("it is another user's")}
	case h.announced[name] != nil:
		return nil, &rendezvous.Error{Op: "announce", Path: name, Kind: rendezvous.Busy, Err: unix.EADDRINUSE}
	}
	a := &fakeAnnouncement{h: h, path: p, closed: make(chan struct{})}
	if o.Raw {
		for range 2 {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
			}
			if err != nil {
				return nil, err
			}
			sa, _ := unix.Getsockname(fd)
			a.fds = append(a.fds, fd)
			a.addrs = append(a.addrs, netip.AddrPortFrom(four.Addr(), uint16(sa.(*unix.SockaddrInet4).Port)))
		}
	} else {
		a.addrs = []netip.AddrPort{four}
	}
	h.announced[name] = a
	return a, nil
}

// find returns what is announced.
func (h *fakeHost) find(t *testing.T, path string) *fakeAnnouncement {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.announced[path]
	if a == nil {
		t.Fatalf("%s is not announced", path)
	}
	return a
}

type fakeAnnouncement struct {
	h      *fakeHost
	path   rendezvous.Path
	addrs  []netip.AddrPort
	fds    []int
	closed chan struct{}

	mu      sync.Mutex
	notify  func()               // guarded by mu
	waiting []*rendezvous.Client // guarded by mu
	ended   bool                 // guarded by mu
}

func (a *fakeAnnouncement) Path() rendezvous.Path   { return a.path }
func (a *fakeAnnouncement) Addrs() []netip.AddrPort { return a.addrs }
func (a *fakeAnnouncement) Listeners() []int        { return a.fds }

func (a *fakeAnnouncement) Notify(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notify = f
}

func (a *fakeAnnouncement) Next() (*rendezvous.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.ended:
		return nil, unix.ESHUTDOWN
	case len(a.waiting) == 0:
		return nil, unix.EAGAIN
	}
	c := a.waiting[0]
	a.waiting = a.waiting[1:]
	return c, nil
}

// finish ends it from the Host's side.
func (a *fakeAnnouncement) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	if a.notify != nil {
		a.notify()
	}
}

func (a *fakeAnnouncement) Close() {
	a.h.mu.Lock()
	delete(a.h.announced, a.path.String())
	a.h.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.waiting {
		unix.Close(c.FD)
	}
	for _, fd := range a.fds {
		unix.Close(fd)
	}
	a.waiting, a.fds = nil, nil
	close(a.closed)
}

// connect is a client that comes, with n as its pid; its end is returned.
func (a *fakeAnnouncement) connect(t *testing.T, n int) int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[1]) })
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, &rendezvous.Client{
		Peer:  rendezvous.Peer{Host: "127.0.0.1", Node: "web1", PID: n, UID: 1000, GID: rendezvous.NoID},
		Local: four, Remote: six, FD: fds[0],
	})
	if a.notify != nil {
		a.notify()
	}
	return fds[1]
}

// wantClosed fails unless the other end of fd is closed soon.
func wantClosed(t *testing.T, fd int) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	for {
		n, err := unix.Poll(fds, int(deadline.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n == 0 || fds[0].Revents&(unix.POLLHUP|unix.POLLRDHUP) == 0 {
			t.Errorf("the other end of the connection is open: got %#x, %v", fds[0].Revents, err)
		}
		return
	}
}

// wantTalk fails unless what is written to one is read from the other.
func wantTalk(t *testing.T, from, to int) {
	t.Helper()
	buf := make([]byte, 16)
	if _, err := unix.Write(from, []byte("hello")); err != nil {
		t.Errorf("write: %v", err)
		return
	}
	if n, err := unix.Read(to, buf); err != nil || string(buf[:n]) != "hello" {
		t.Errorf("got %q, %v, want hello", buf[:max(n, 0)], err)
	}
}
