package cluster

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/convoke-fs/convoke/cluster/watch"
)

// memnet is a network in memory: nodes at addresses, links that can be cut.
// Packets to nobody are lost, connections to nobody are refused, and over a cut
// link both vanish.
type memnet struct {
	mu        sync.Mutex
	ports     map[netip.AddrPort]*memport   // mu
	cuts      map[[2]netip.AddrPort]bool    // mu; both directions are in it
	dials     map[netip.AddrPort]int        // mu; connections that were asked for, by target
	listeners map[netip.AddrPort]*memlisten // mu; ports of sessions
}

func newMemnet() *memnet {
	return &memnet{
		ports:     map[netip.AddrPort]*memport{},
		cuts:      map[[2]netip.AddrPort]bool{},
		dials:     map[netip.AddrPort]int{},
		listeners: map[netip.AddrPort]*memlisten{},
	}
}

// memport is one node's transport.
type memport struct {
	net     *memnet
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

var _ memberlist.Transport = (*memport)(nil)

// open gives what Config.transport wants for addr.
func (n *memnet) open(addr netip.AddrPort) func() (memberlist.Transport, error) {
	return func() (memberlist.Transport, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.ports[addr] != nil {
			return nil, fmt.Errorf("listen on %s: %w", addr, syscall.EADDRINUSE)
		}
		p := &memport{net: n, addr: addr,
			packets: make(chan *memberlist.Packet, 1024),
			streams: make(chan net.Conn, 64),
			closed:  make(chan struct{}),
		}
		n.ports[addr] = p
		return p, nil
	}
}

// cut separates the nodes of one side from those of the other, heal undoes all
// cuts.
func (n *memnet) cut(side, other []netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range side {
		for _, b := range other {
			n.cuts[[2]netip.AddrPort{a, b}], n.cuts[[2]netip.AddrPort{b, a}] = true, true
		}
	}
}

func (n *memnet) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
}

func (n *memnet) listening(addr netip.AddrPort) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports[addr] != nil
}

func (n *memnet) dialsTo(addr netip.AddrPort) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[addr]
}

// route gives the port at to, nil when nobody is there, and whether the link is cut.
func (n *memnet) route(from netip.AddrPort, to string) (*memport, netip.AddrPort, bool) {
	addr, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, addr, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports[addr], addr, n.cuts[[2]netip.AddrPort{from, addr}]
}

func (p *memport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IP(p.addr.Addr().AsSlice()), int(p.addr.Port()), nil
}

func (p *memport) WriteTo(b []byte, to string) (time.Time, error) {
	dest, _, cut := p.net.route(p.addr, to)
	if dest != nil && !cut {
		pkt := &memberlist.Packet{
			Buf:       append([]byte(nil), b...),
			From:      net.UDPAddrFromAddrPort(p.addr),
			Timestamp: time.Now(),
		}
		select {
		case dest.packets <- pkt:
		default: // as a full socket does
		}
	}
	return time.Now(), nil
}

func (p *memport) PacketCh() <-chan *memberlist.Packet { return p.packets }

func (p *memport) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	dest, addr, cut := p.net.route(p.addr, to)
	p.net.mu.Lock()
	p.net.dials[addr]++
	p.net.mu.Unlock()
	if cut {
		select {
		case <-time.After(timeout):
		case <-p.closed:
		}
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ETIMEDOUT)
	}
	if dest == nil {
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
	}
	here, there := net.Pipe()
	select {
	case dest.streams <- there:
	case <-dest.closed:
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
	}
	// Ends that a dead node holds are closed with it.
	stop := make(chan struct{})
	go func() {
		select {
		case <-dest.closed:
		case <-p.closed:
		case <-stop:
		}
		here.Close()
		there.Close()
	}()
	return &memconn{Conn: here, stop: sync.OnceFunc(func() { close(stop) })}, nil
}

// memconn is the dialler's end of a stream.
type memconn struct {
	net.Conn
	stop func()
}

func (c *memconn) Close() error {
	err := c.Conn.Close()
	c.stop()
	return err
}

func (p *memport) StreamCh() <-chan net.Conn { return p.streams }

func (p *memport) Shutdown() error {
	p.once.Do(func() {
		p.net.mu.Lock()
		delete(p.net.ports, p.addr)
		p.net.mu.Unlock()
		close(p.closed)
		for {
			select {
			case c := <-p.streams:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// bubble runs a test on a clock of its own. What memberlist has under way when
// it is shut down ends by its timeouts, so the clock goes on for a while after
// the nodes are closed.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) })
		f(t)
	})
}

// at gives the address of the i-th node.
func at(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), DefaultPort)
}

func addrs(is ...int) (out []netip.AddrPort) {
	for _, i := range is {
		out = append(out, at(i))
	}
	return out
}

var testKey = mustKey(NewKey())

func mustKey(text []byte) *Key {
	k, err := ParseKey(text)
	if err != nil {
		panic(err)
	}
	return k
}

// config gives the configuration of node i, "node1" and so on, on net.
func config(t *testing.T, net *memnet, i int, join ...int) Config {
	c := Config{
		Name:      fmt.Sprintf("node%d", i),
		Bind:      at(i),
		Key:       testKey,
		Version:   "test",
		Log:       slog.New(slog.NewTextHandler(t.Output(), nil)).With("at", i),
		Watch:     watch.NewHub(),
		transport: net.open(at(i)),
		sessions:  net.sessionsOf(at(i)),
	}
	for _, j := range join {
		c.Join = append(c.Join, at(j).String())
	}
	return c
}

// start starts a node that ends with the test.
func start(t *testing.T, c Config) *Node {
	t.Helper()
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatalf("start %s: %v", c.Name, err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// kill ends a node as a crash does: nobody is told, and nothing is written.
func (n *Node) kill() {
	n.cancel()
	n.mu.Lock()
	inst := n.inst
	n.inst, n.closed = nil, true
	n.mu.Unlock()
	if inst != nil {
		n.listener.(*memlisten).crash()
		inst.close()
	}
	n.engine.Close()
	n.work.Wait()
	n.state.close()
}
