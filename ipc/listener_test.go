package ipc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

func announce(t *testing.T, c *Client, path string) *Listener {
	t.Helper()
	l, err := c.Announce(soon(t), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestListener_AcceptsClientsWithWhoTheyAre(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	l := announce(t, startDaemon(t, h, ServerOpts{}).client(t), "/dev/tcp/local/echo/create")
	if l.Path() != "dev/tcp/local/echo" || len(l.Addrs()) != 1 || l.Addrs()[0] != four || l.Addr().String() != four.String() {
		t.Errorf("got %q at %v, %v", l.Path(), l.Addrs(), l.Addr())
	}
	a := h.find(t, "dev/tcp/local/echo")
	other := a.connect(t, 42)
	fd, p, err := l.AcceptFD(soon(t))
	if err != nil || p != (rendezvous.Peer{Host: "127.0.0.1", Node: "web1", PID: 42, UID: 1000, GID: rendezvous.NoID}) {
		t.Fatalf("got %+v, %v", p, err)
	}
	wantTalk(t, fd, other)
	unix.Close(fd)
	other = a.connect(t, 43)
	conn, p, err := l.AcceptPeer(soon(t))
	if err != nil || p.PID != 43 {
		t.Fatalf("got %+v, %v", p, err)
	}
	conn.Close()
	wantClosed(t, other)
}

func TestListener_CloseFreesTheNameAndEndsAccept(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).client(t)
	for range 3 {
		l := announce(t, c, "dev/tcp/local/echo")
		results := make(chan error, 2)
		for range cap(results) {
			go func() {
				_, err := l.Accept()
				results <- err
			}()
		}
		_, err := c.Announce(soon(t), "dev/tcp/local/echo")
		wantErrno(t, err, unix.EADDRINUSE)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		for range cap(results) {
			if err := wait(t, results, "Accept returns"); !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v, want %v", err, net.ErrClosed)
			}
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want %v", err, net.ErrClosed)
		}
		if err := l.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	}
}

func TestListener_NoClientIsLostWhenCtxEnds(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	l := announce(t, startDaemon(t, h, ServerOpts{}).client(t), "dev/tcp/local/echo")
	a := h.find(t, "dev/tcp/local/echo")
	const clients = 200
	got := make(chan int, clients)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				// A ctx that ends in the middle of it, more often than not.
				ctx, cancel := context.WithCancel(t.Context())
				go cancel()
				fd, p, err := l.AcceptFD(ctx)
				switch {
				case err == nil:
					unix.Close(fd)
					got <- p.PID
				case errors.Is(err, net.ErrClosed):
					return
				case !errors.Is(err, unix.EINTR):
					t.Error(err)
					return
				}
			}
		})
	}
	seen := map[int]bool{}
	for n := range clients {
		a.connect(t, n)
		if n%8 == 7 {
			for range 8 {
				seen[wait(t, got, "each client is accepted")] = true
			}
		}
	}
	if len(seen) != clients {
		t.Errorf("got %d clients, want %d", len(seen), clients)
	}
	l.Close()
	all.Wait()
}

func TestListener_EndsWithItsClient(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).client(t)
	l := announce(t, c, "dev/tcp/local/echo")
	a := h.find(t, "dev/tcp/local/echo")
	c.Close()
	wait(t, a.closed, "the announcement ends")
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
}

func TestAnnounceUDP_GivesTheSockets(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).client(t)
	_, err := c.Announce(soon(t), "dev/udp/local/echo")
	wantErrno(t, err, unix.EOPNOTSUPP)
	_, err = c.AnnounceUDP(soon(t), "dev/tcp/local/echo")
	wantErrno(t, err, unix.EINVAL)
	u, err := c.AnnounceUDP(soon(t), "dev/udp/local/echo")
	if err != nil {
		t.Fatal(err)
	}
	if len(u.Conns()) != 2 || len(u.Addrs()) != 2 || u.Path() != "dev/udp/local/echo" {
		t.Fatalf("got %v at %v, %s", u.Conns(), u.Addrs(), u.Path())
	}
	for i, conn := range u.Conns() {
		from, err := net.Dial("udp", u.Addrs()[i].String())
		if err != nil {
			t.Fatal(err)
		}
		from.Write([]byte("hello"))
		buf := make([]byte, 16)
		n, to, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != "hello" || netip.AddrPort.String(to) != from.LocalAddr().String() {
			t.Errorf("got %q from %v, %v", buf[:n], to, err)
		}
		from.Close()
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	u, err = c.AnnounceUDP(soon(t), "dev/udp/local/echo")
	if err != nil {
		t.Fatalf("once more: %v", err)
	}
	u.Close()
}
