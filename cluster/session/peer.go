package session

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// Why sessions end, where the system has no error for it.
var (
	errSilent   = errors.New("nothing heard for too long")
	errReplaced = errors.New("another life of it is there")
	errAnswer   = errors.New("it dials again and does not answer")
	errEOF      = errors.New("it closed the connection")
	errClosed   = errors.New("the session's manager is closed")
	errBacklog  = errors.New("it does not read")
	errProtocol = errors.New("it breaks the protocol")
)

// Peer is one session that is up, or was.
type Peer struct {
	*link
	m        *Manager
	node     *node
	nk       ring.NK
	instance [16]byte
	name     string
	ring     ring.ID
	maxSeq   uint64
	addr     netip.AddrPort

	heard    atomic.Int64 // when bytes came last, by the manager's clock
	sent     atomic.Int64 // when bytes went last
	doubted  atomic.Int64 // of heard: others were asked about the silence since then
	vouched  atomic.Int64 // of heard: one of them heard it later
	up       atomic.Bool  // frames may be sent: the greetings are over
	leaving  atomic.Bool  // we have said BYE: what comes is of no interest
	broken   atomic.Bool
	out      outbox
	shutting sync.Once
	ended    chan struct{} // closed with broken: the writer ends
	done     chan struct{} // closed when Down was told, or will never be

	mu    sync.Mutex
	cause error // mu; the first
	dead  bool  // mu
}

func newPeer(m *Manager, n *node, l *link, h *hello) *Peer {
	p := &Peer{
		link: l, m: m, node: n, nk: h.nk, instance: h.instance, name: h.name, ring: h.ring, maxSeq: h.maxSeq,
		addr: addrOf(l.conn), ended: make(chan struct{}), done: make(chan struct{}),
	}
	p.out.wake = make(chan struct{}, 1)
	p.out.attempt = p.out.try
	p.out.insist = p.out.retry
	now := m.now()
	p.heard.Store(now)
	p.sent.Store(now)
	p.doubted.Store(-1)
	p.vouched.Store(-1)
	return p
}

// NK is the peer's key.
func (p *Peer) NK() ring.NK { return p.nk }

// Name is the peer's name.
func (p *Peer) Name() string { return p.name }

// Ring is what the peer's HELLO said.
func (p *Peer) Ring() (r ring.ID, maxSeq uint64) { return p.ring, p.maxSeq }

// Addr is the peer's end of the connection. Its port is that of its sessions
// only if we have dialled.
func (p *Peer) Addr() netip.AddrPort { return p.addr }

// Close breaks the session. It may be called from anywhere and does not wait;
// Down follows.
func (p *Peer) Close(cause error) { p.fail(cause, false) }

// fail ends the session: the first cause is the one that Down tells, dead if
// anybody knows it by then.
func (p *Peer) fail(cause error, dead bool) {
	p.mu.Lock()
	if p.cause == nil {
		p.cause = cause
	}
	p.dead = p.dead || dead
	p.mu.Unlock()
	p.shutting.Do(func() {
		p.broken.Store(true)
		close(p.ended)
		p.out.end()
		if p.raw != nil {
			shut(p.raw)
		} else {
			p.conn.Close()
		}
	})
}

// verdict is what Down tells.
func (p *Peer) verdict() (cause error, dead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause, p.dead
}

// silence is how long ago bytes came.
func (p *Peer) silence(now int64) int64 { return now - p.heard.Load() }
