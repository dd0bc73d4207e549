package session

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing/synctest"
	"time"
)

// memnet is a network in memory: hosts at addresses, and links between them that
// can be cut in one direction or both, and can be slow. What goes over a cut link
// vanishes, the end of a connection too.
type memnet struct {
	delay func() time.Duration // of each write; nil: none. Order is kept

	mu    sync.Mutex
	hosts map[netip.AddrPort]*memHost // mu
	cuts  map[[2]netip.Addr]bool      // mu; from, to
	conns map[*memConn]bool           // mu; open ends
	lives map[netip.Addr]int          // mu; how often a host's process has gone
	dials []memDial                   // mu
}

type memDial struct {
	at       time.Time
	from, to netip.Addr
}

func newMemnet() *memnet {
	return &memnet{hosts: map[netip.AddrPort]*memHost{}, cuts: map[[2]netip.Addr]bool{}, conns: map[*memConn]bool{}, lives: map[netip.Addr]int{}}
}

// cut loses what goes from one host to another.
func (n *memnet) cut(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[[2]netip.Addr{from, to}] = true
}

func (n *memnet) cutBoth(a, b netip.Addr) { n.cut(a, b); n.cut(b, a) }

func (n *memnet) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
}

func (n *memnet) isCut(from, to netip.AddrPort) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[[2]netip.Addr{from.Addr(), to.Addr()}]
}

// dialsTo tells when somebody was dialled from a host.
func (n *memnet) dialsTo(from, to netip.Addr) (at []time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range n.dials {
		if d.from == from && d.to == to {
			at = append(at, d.at)
		}
	}
	return at
}

// crash closes a port and all connections of a host, as the kernel does for a
// process that is killed. It dials nobody any more, either.
func (n *memnet) crash(a netip.Addr) {
	n.mu.Lock()
	n.lives[a]++
	var ends []io.Closer
	for at, h := range n.hosts {
		if at.Addr() == a {
			ends = append(ends, h)
		}
	}
	for c := range n.conns {
		if c.local.Addr() == a {
			ends = append(ends, c)
		}
	}
	n.mu.Unlock()
	for _, c := range ends {
		c.Close()
	}
}

// reset breaks all connections between two hosts.
func (n *memnet) reset(a, b netip.Addr) {
	n.mu.Lock()
	var ends []*memConn
	for c := range n.conns {
		if c.local.Addr() == a && c.remote.Addr() == b || c.local.Addr() == b && c.remote.Addr() == a {
			ends = append(ends, c)
		}
	}
	n.mu.Unlock()
	for _, c := range ends {
		c.hangup()
	}
}

// memHost is a listener.
type memHost struct {
	net    *memnet
	addr   netip.AddrPort
	conns  chan *memConn
	closed chan struct{}
	once   sync.Once
}

func (n *memnet) listen(addr netip.AddrPort) (*memHost, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[addr] != nil {
		return nil, syscall.EADDRINUSE
	}
	h := &memHost{net: n, addr: addr, conns: make(chan *memConn, 256), closed: make(chan struct{})}
	n.hosts[addr] = h
	return h, nil
}

func (h *memHost) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *memHost) Addr() net.Addr { return net.TCPAddrFromAddrPort(h.addr) }

func (h *memHost) Close() error {
	h.once.Do(func() {
		h.net.mu.Lock()
		delete(h.net.hosts, h.addr)
		h.net.mu.Unlock()
		close(h.closed)
		for {
			select {
			case c := <-h.conns:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// dialer gives Config.Dial for a host.
func (n *memnet) dialer(from netip.Addr) func(context.Context, netip.AddrPort) (net.Conn, error) {
	port := uint16(40000)
	var mu sync.Mutex
	n.mu.Lock()
	life := n.lives[from]
	n.mu.Unlock()
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		mu.Lock()
		port++
		local := netip.AddrPortFrom(from, port)
		mu.Unlock()
		n.mu.Lock()
		n.dials = append(n.dials, memDial{at: time.Now(), from: from, to: to.Addr()})
		n.mu.Unlock()
		if n.delay != nil {
			time.Sleep(n.delay())
		}
		n.mu.Lock()
		h, lost := n.hosts[to], n.lives[from] != life
		n.mu.Unlock()
		if lost || n.isCut(local, to) || n.isCut(to, local) {
			<-ctx.Done()
			return nil, fmt.Errorf("dial %s: %w", to, ctx.Err())
		}
		if h == nil {
			return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
		}
		a, b := n.pair(local, to)
		select {
		case h.conns <- b:
			return a, nil
		case <-h.closed:
			a.Close()
			b.Close()
			return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
		}
	}
}

// memConn is one end of a connection.
type memConn struct {
	net           *memnet
	local, remote netip.AddrPort
	peer          *memConn
	in            chan memChunk
	rest          []byte // of the reader
	last          time.Time
	writing       sync.Mutex // holds last
	closed        chan struct{}
	eof           chan struct{} // the other end is closed
	once, eofOnce sync.Once
	deadline      memDeadline
}

type memChunk struct {
	due time.Time
	b   []byte
}

func (n *memnet) pair(a, b netip.AddrPort) (*memConn, *memConn) {
	end := func(local, remote netip.AddrPort) *memConn {
		return &memConn{net: n, local: local, remote: remote, in: make(chan memChunk, 1024),
			closed: make(chan struct{}), eof: make(chan struct{})}
	}
	x, y := end(a, b), end(b, a)
	x.peer, y.peer = y, x
	n.mu.Lock()
	n.conns[x], n.conns[y] = true, true
	n.mu.Unlock()
	return x, y
}

func (c *memConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		var ch memChunk
		select { // what has come is read before the end is seen
		case ch = <-c.in:
		default:
			select {
			case ch = <-c.in:
			case <-c.eof:
				select {
				case ch = <-c.in:
				default:
					return 0, io.EOF
				}
			case <-c.closed:
				return 0, net.ErrClosed
			case <-c.deadline.wait():
				return 0, os.ErrDeadlineExceeded
			}
		}
		if wait := time.Until(ch.due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-c.closed:
				return 0, net.ErrClosed
			}
		}
		c.rest = ch.b
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *memConn) Write(p []byte) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	case <-c.eof:
		return 0, syscall.EPIPE
	default:
	}
	if c.net.isCut(c.local, c.remote) {
		return len(p), nil
	}
	select {
	case <-c.peer.closed: // its kernel says so
		c.hangup()
		return 0, syscall.ECONNRESET
	default:
	}
	ch := memChunk{due: time.Now(), b: append([]byte(nil), p...)}
	if c.net.delay != nil {
		c.writing.Lock()
		ch.due = ch.due.Add(c.net.delay())
		if ch.due.Before(c.last) {
			ch.due = c.last
		}
		c.last = ch.due
		c.writing.Unlock()
	}
	select {
	case c.peer.in <- ch:
		return len(p), nil
	case <-c.closed:
		return 0, net.ErrClosed
	case <-c.eof:
		return 0, syscall.EPIPE
	case <-c.deadline.wait():
		return 0, os.ErrDeadlineExceeded
	}
}

// hangup lets the reader see the end.
func (c *memConn) hangup() { c.eofOnce.Do(func() { close(c.eof) }) }

func (c *memConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.net.mu.Lock()
		delete(c.net.conns, c)
		c.net.mu.Unlock()
		if !c.net.isCut(c.local, c.remote) {
			c.peer.hangup()
		}
	})
	return nil
}

func (c *memConn) LocalAddr() net.Addr                { return net.TCPAddrFromAddrPort(c.local) }
func (c *memConn) RemoteAddr() net.Addr               { return net.TCPAddrFromAddrPort(c.remote) }
func (c *memConn) SetDeadline(t time.Time) error      { c.deadline.set(t); return nil }
func (c *memConn) SetReadDeadline(t time.Time) error  { return c.SetDeadline(t) }
func (c *memConn) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }

// memDeadline is a time after which wait's channel is closed.
type memDeadline struct {
	mu    sync.Mutex
	timer *time.Timer   // mu
	over  chan struct{} // mu
}

func (d *memDeadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	over := make(chan struct{})
	d.over, d.timer = over, nil
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() { close(over) })
	}
}

func (d *memDeadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over == nil {
		d.over = make(chan struct{})
	}
	return d.over
}

// settle lets everything happen that does not wait for the clock.
func settle() { synctest.Wait() }
