package daemon

import (
	"net"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Server is a TCP server of the test, to which the tree's streams lead.
type Server struct {
	t     testing.TB
	l     *net.TCPListener
	Port  int
	Path  string // dev/tcp/HOST/PORT, by which it is reached
	conns chan *net.TCPConn
}

// Serve listens on a port of 127.0.0.1; Accept gives the connections. They are closed at the test's end.
func Serve(t testing.TB) *Server {
	t.Helper()
	return serve(t, "127.0.0.1", "local")
}

// Serve listens on a port of the host.
func (h *Host) Serve() (s *Server) {
	h.t.Helper()
	h.In(func() { s = serve(h.t, h.Addr, h.Addr) })
	return s
}

func serve(t testing.TB, addr, name string) *Server {
	t.Helper()
	l, err := net.Listen("tcp4", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, l: l.(*net.TCPListener), Port: l.Addr().(*net.TCPAddr).Port, conns: make(chan *net.TCPConn, 1<<14)}
	s.Path = "dev/tcp/" + name + "/" + strconv.Itoa(s.Port)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := s.l.AcceptTCP()
			if err != nil {
				close(s.conns)
				return
			}
			s.conns <- c
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for c := range s.conns {
			c.Close()
		}
	})
	return s
}

// Accept returns the next connection. The test ends when none comes.
func (s *Server) Accept() *net.TCPConn {
	s.t.Helper()
	select {
	case c := <-s.conns:
		s.t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(Bound):
		s.t.Fatalf("%s: nobody connects", s.Path)
	}
	return nil
}

// None fails the test if a connection has come that nobody has accepted.
func (s *Server) None() {
	s.t.Helper()
	if len(s.conns) > 0 {
		s.t.Errorf("%s: %d connections, want none", s.Path, len(s.conns))
	}
}

// In runs f on a thread in the host's namespace: what it listens on is there. f may end the test.
func (h *Host) In(f func()) {
	h.t.Helper()
	ns, err := unix.Open("/run/netns/"+h.NS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer unix.Close(ns)
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer unix.Close(own)
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		if unix.Setns(own, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the thread ends with its goroutine
		}
	}()
	f()
}
