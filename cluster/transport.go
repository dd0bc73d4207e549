package cluster

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport is memberlist's transport, with two things added. Streams of others
// are limited. And the connection of a join is made before the join and handed
// to it: so the dial knows its context and its errors, serf holds no lock during
// it, and afterwards it can be told whether the other side did not answer or did
// not agree.
type transport struct {
	memberlist.Transport
	limit   limiter
	streams chan net.Conn // those that the limits let in
	stop    chan struct{} // closed when the inner transport has ended
	done    sync.WaitGroup

	mu    sync.Mutex
	ready map[string]*joinConn // mu; dialled, by address, until memberlist takes it
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(inner memberlist.Transport, l *log.Logger) *transport {
	t := &transport{
		Transport: inner,
		limit:     limiter{log: l, addrs: map[netip.Addr]int{}},
		streams:   make(chan net.Conn),
		stop:      make(chan struct{}),
		ready:     map[string]*joinConn{},
	}
	t.done.Go(t.admit)
	return t
}

// StreamCh gives the streams that others open.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

func (t *transport) admit() {
	for {
		select {
		case c := <-t.Transport.StreamCh():
			if c = t.limit.admit(c); c == nil {
				continue
			}
			select {
			case t.streams <- c:
			case <-t.stop:
				c.Close()
				return
			}
		case <-t.stop:
			return
		}
	}
}

// Shutdown closes the ports. The inner transport may be waiting until a stream
// is taken from it, so that goes on until it has ended.
func (t *transport) Shutdown() error {
	err := t.Transport.Shutdown()
	t.mu.Lock()
	select {
	case <-t.stop:
	default:
		close(t.stop)
	}
	t.mu.Unlock()
	t.done.Wait()
	return err
}

// listen opens the TCP and the UDP port of the address; with port 0 the system
// chooses one that is free for both.
func listen(addr netip.AddrPort, l *log.Logger) (memberlist.Transport, error) {
	var err error
	for range 10 {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{addr.Addr().String()},
			BindPort:  int(addr.Port()),
			Logger:    l,
		})
		if err == nil {
			return t, nil
		}
		if addr.Port() != 0 {
			break // only a port chosen for TCP can turn out to be taken for UDP
		}
	}
	if sys := tryListen(addr); sys != nil {
		return nil, sys
	}
	return nil, fmt.Errorf("listen on %s: %w", addr, err)
}

// tryListen gives the system's error of listening on addr, of which memberlist
// gives the text only.
func tryListen(addr netip.AddrPort) error {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	defer tcp.Close()
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	return udp.Close()
}

// WriteToAddress sends a packet.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if inner, ok := t.Transport.(memberlist.NodeAwareTransport); ok {
		return inner.WriteToAddress(b, a)
	}
	return t.WriteTo(b, a.Addr)
}

// DialAddressTimeout gives the connection that dialJoin has made, or a new one.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	t.mu.Lock()
	c := t.ready[a.Addr]
	delete(t.ready, a.Addr)
	t.mu.Unlock()
	if c != nil {
		return c, nil
	}
	return t.dial(a.Addr, timeout)
}

func (t *transport) dial(addr string, timeout time.Duration) (net.Conn, error) {
	if inner, ok := t.Transport.(memberlist.NodeAwareTransport); ok {
		return inner.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
	}
	return t.DialTimeout(addr, timeout)
}

// dialJoin connects to addr and keeps the connection for the join that follows;
// drop ends that. It waits for timeout at most, and not after ctx.
func (t *transport) dialJoin(ctx context.Context, addr string, timeout time.Duration) (c *joinConn, drop func(), err error) {
	type result struct {
		conn net.Conn
		err  error
	}
	got := make(chan result, 1)
	go func() {
		conn, err := t.dial(addr, timeout)
		got <- result{conn, err}
	}()
	select {
	case <-ctx.Done():
		go func() {
			if r := <-got; r.conn != nil {
				r.conn.Close()
			}
		}()
		return nil, nil, context.Cause(ctx)
	case r := <-got:
		if r.err != nil {
			return nil, nil, r.err
		}
		c = &joinConn{Conn: r.conn}
	}
	t.mu.Lock()
	t.ready[addr] = c
	t.mu.Unlock()
	return c, func() {
		t.mu.Lock()
		if t.ready[addr] == c {
			delete(t.ready, addr)
		}
		t.mu.Unlock()
		c.Close()
	}, nil
}

// joinConn notes how the other side of a join behaves.
type joinConn struct {
	net.Conn

	mu     sync.Mutex
	silent bool // mu; it has neither sent anything nor closed: a read ran into its deadline or was reset
	heard  bool // mu; something came
}

func (c *joinConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = c.heard || n > 0
	c.silent = !c.heard && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT))
	return n, err
}

// answered tells whether the other side did anything.
func (c *joinConn) answered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.silent
}

// portOf gives the port of a listener's address.
func portOf(a net.Addr) uint16 {
	ap, _ := netip.ParseAddrPort(a.String())
	return ap.Port()
}
