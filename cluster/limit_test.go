package cluster

import (
	"errors"
	"io"
	"log"
	"net"
	"net/netip"
	"testing"
	"time"
)

// conn is a connection from an address that does nothing.
type conn struct {
	net.Conn
	from   net.Addr
	closed *int
}

func (c conn) RemoteAddr() net.Addr       { return c.from }
func (c conn) Close() error               { *c.closed++; return nil }
func (c conn) Read(p []byte) (int, error) { return len(p), nil }

func TestLimiter_CountsUntilClose(t *testing.T) {
	closed := 0
	l := limiter{log: log.New(io.Discard, "", 0), addrs: map[netip.Addr]int{}}
	ask := func(host, port int) net.Conn {
		ip := netip.AddrFrom4([4]byte{10, 0, 0, byte(host)})
		return l.admit(conn{from: net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))), closed: &closed})
	}
	var open []net.Conn
	for host := 1; len(open) < maxStreams; host++ {
		for port := range maxStreamsAddress {
			c := ask(host, port+1)
			if c == nil {
				t.Fatalf("stream %d of host %d is refused", port, host)
			}
			open = append(open, c)
		}
		if closed = 0; ask(host, 99) != nil || closed != 1 {
			t.Fatalf("host %d has %d streams and gets another one", host, maxStreamsAddress)
		}
	}
	if ask(99, 1) != nil {
		t.Errorf("%d streams are open, and there is another one", maxStreams)
	}
	open[0].Close()
	open[0].Close()
	c := ask(1, 1)
	if c == nil {
		t.Error("no place after one has been closed")
	}
	if ask(1, 2) != nil {
		t.Error("closing twice makes two places")
	}
	for _, c := range append(open[1:], c) {
		c.Close()
	}
	if l.all != 0 || len(l.addrs) != 0 {
		t.Errorf("all are closed, %d are counted: %v", l.all, l.addrs)
	}
}

func TestLimiter_LongStreamEnds(t *testing.T) {
	closed := 0
	l := limiter{log: log.New(io.Discard, "", 0), addrs: map[netip.Addr]int{}}
	n, err := io.Copy(io.Discard, l.admit(conn{from: net.TCPAddrFromAddrPort(at(1)), closed: &closed}))
	if n != maxStreamBytes || !errors.Is(err, errStreamTooLong) {
		t.Errorf("read %d bytes, %v, want %d and errStreamTooLong", n, err, maxStreamBytes)
	}
}

// TestNode_SilentStreamsDoNotKeepMembersOut opens more streams than a node takes
// and says nothing on them: they end by themselves, and a member gets in.
func TestNode_SilentStreamsDoNotKeepMembersOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		one := start(t, config(t, net, 1))
		inner, err := net.open(at(66))()
		if err != nil {
			t.Fatal(err)
		}
		defer inner.Shutdown()
		for range 2 * maxStreams {
			if _, err := inner.DialTimeout(at(1).String(), time.Second); err != nil {
				t.Fatal(err)
			}
		}
		two := start(t, config(t, net, 2, 1))
		wantStates(t, 10*time.Second, "node1:alive node2:alive", one, two)
	})
}
