package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// memlisten is the port of sessions of one node on a memnet.
type memlisten struct {
	net    *memnet
	addr   netip.AddrPort
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	ends []net.Conn // mu; of this node, to be closed with it
}

// sessionsOf gives what Config.sessions wants for the node at addr.
func (n *memnet) sessionsOf(addr netip.AddrPort) func() (sessionNet, error) {
	return func() (sessionNet, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		at := netip.AddrPortFrom(addr.Addr(), addr.Port()+1)
		if n.listeners[at] != nil {
			return sessionNet{}, fmt.Errorf("listen on %s: %w", at, syscall.EADDRINUSE)
		}
		l := &memlisten{net: n, addr: at, conns: make(chan net.Conn), closed: make(chan struct{})}
		n.listeners[at] = l
		return sessionNet{listener: l, dial: l.dial}, nil
	}
}

func (l *memlisten) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	l.net.mu.Lock()
	dest := l.net.listeners[to]
	l.net.mu.Unlock()
	switch {
	case l.cut(to):
		<-ctx.Done()
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ETIMEDOUT)
	case dest == nil:
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
	}
	here, there := net.Pipe()
	select {
	case dest.conns <- dest.own(there, l):
		return l.own(here, dest), nil
	case <-dest.closed:
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
	case <-ctx.Done():
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ETIMEDOUT)
	}
}

// cut tells whether the link to the node of that port of sessions is cut.
func (l *memlisten) cut(to netip.AddrPort) bool {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	node := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()-1) }
	return l.net.cuts[[2]netip.AddrPort{node(l.addr), node(to)}]
}

// own makes an end of a connection that is this node's.
func (l *memlisten) own(c net.Conn, peer *memlisten) net.Conn {
	end := &memlink{Conn: c, from: l, to: peer}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, end)
	return end
}

func (l *memlisten) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memlisten) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// Close ends the listener; what was connected stays.
func (l *memlisten) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, l.addr)
		l.net.mu.Unlock()
		close(l.closed)
	})
	return nil
}

// crash ends the listener and all connections of its node.
func (l *memlisten) crash() {
	l.Close()
	l.mu.Lock()
	ends := l.ends
	l.mu.Unlock()
	for _, c := range ends {
		c.Close()
	}
}

// memlink is an end of a connection. What is written while the link is cut is
// lost.
type memlink struct {
	net.Conn
	from, to *memlisten
}

func (c *memlink) Write(p []byte) (int, error) {
	if c.from.cut(c.to.addr) {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *memlink) RemoteAddr() net.Addr { return c.to.Addr() }
func (c *memlink) LocalAddr() net.Addr  { return c.from.Addr() }
