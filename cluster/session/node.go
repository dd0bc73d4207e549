package session

import (
	"context"
	"fmt"
	"sync"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// maxNodes is how many numbers are remembered; more than a cluster has.
const maxNodes = 4096

// node is what is known of one number. Its fields are guarded by the manager's
// mu, unless they say otherwise.
type node struct {
	m  *Manager
	id uint32

	// tell is held while the handler is told of the node, so that Up, Down and
	// Dead come one after the other. It is taken before mu.
	tell sync.Mutex

	boot     uint64   // the highest that is known, 0: none
	instance [16]byte // of that boot
	peer     *Peer    // the session, from its greeting until Down was told
	greeting bool     // our own HELLO is on its way
	testing  bool     // somebody finds out whether peer is alive
	gone     ring.NK  // whose session broke and who may live; told Dead at most

	target *Target            // nil: is not dialled
	stop   context.CancelFunc // ends keep
	hurry  hurry
	poke   chan struct{} // wakes keep
}

// label is how the node's lines in the log are told apart.
func (n *node) label() string { return fmt.Sprint("node ", n.id) }

// wake lets keep look again.
func (n *node) wake() {
	select {
	case n.poke <- struct{}{}:
	default:
	}
}

// node gives what is known of a number; mu is held.
func (m *Manager) node(id uint32) *node {
	n := m.nodes[id]
	if n == nil {
		if len(m.nodes) >= maxNodes {
			m.forget()
		}
		n = &node{m: m, id: id, poke: make(chan struct{}, 1)}
		m.nodes[id] = n
	}
	return n
}

// forget drops who is neither there nor wanted; mu is held.
func (m *Manager) forget() {
	for id, n := range m.nodes {
		if n.peer == nil && n.target == nil && !n.greeting && !n.testing {
			delete(m.nodes, id)
		}
	}
}

// session is a session that is up, as the others see it.
type session struct {
	*Peer
	failed bool
}

// sessions gives those that are up.
func (m *Manager) sessions() []session {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]session, 0, len(m.nodes))
	for _, n := range m.nodes {
		if n.peer != nil && n.peer.up.Load() && !n.peer.broken.Load() {
			out = append(out, session{n.peer, n.target != nil && n.target.Failed})
		}
	}
	return out
}

// session gives the session of nk, if it is up.
func (m *Manager) session(nk ring.NK) *Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[nk.ID]
	if n == nil || n.peer == nil || n.peer.nk != nk || !n.peer.up.Load() || n.peer.broken.Load() {
		return nil
	}
	return n.peer
}

// admit lets the peer of a greeting in, or says why not. dialled: we have called
// it. It may wait for a session before to end.
func (m *Manager) admit(l *link, h *hello, dialled bool) (*Peer, *refusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.node(h.nk.ID)
	if r := n.judgeGreeting(h, dialled); r != nil {
		return nil, r
	}
	if old := n.peer; old != nil {
		n.testing = true
		m.mu.Unlock()
		r := m.test(old, h)
		m.mu.Lock()
		n.testing = false
		if r == nil {
			r = n.judgeGreeting(h, dialled) // the world has gone on
		}
		if r == nil && n.peer != nil {
			r = &refusal{reason: reasonBusy}
		}
		if r != nil {
			return nil, r
		}
	}
	n.boot, n.instance = h.nk.Boot, h.instance
	n.peer = newPeer(m, n, l, h)
	return n.peer, nil
}

// judgeGreeting says what is against a greeting, by what is known. With a
// session, no refusal means that the session is to be tested. mu is held.
func (n *node) judgeGreeting(h *hello, dialled bool) *refusal {
	m, same := n.m, h.nk.Boot == n.boot && h.instance == n.instance
	switch {
	case m.closed:
		return &refusal{reason: reasonBusy}
	case h.instance == m.instance:
		return &refusal{reason: reasonBusy} // we have called ourselves
	case h.nk.ID == m.conf.Self.ID:
		return &refusal{reason: reasonConflict}
	case h.instance == n.instance && !same:
		return &refusal{reason: reasonConflict} // one instance has one boot
	case n.peer == nil && h.nk.Boot <= n.boot && !same:
		// It keeps no state, or has lost it, or came back into the cluster without
		// a restart: a new life needs a number of its own.
		return &refusal{reason: reasonBoot, boot: n.boot}
	case h.nk.Boot == n.boot && !same:
		return &refusal{reason: reasonConflict} // its state folder is a copy
	case n.peer == nil && !dialled && n.greeting && m.conf.Self.ID < n.id:
		return &refusal{reason: reasonBusy} // ours is the session that stays
	case n.peer == nil:
		return nil
	case dialled, n.testing, !n.peer.up.Load():
		return &refusal{reason: reasonBusy}
	}
	return nil
}

// test finds out whether a session with the number of a greeting is alive, and
// ends it if it is not. mu is not held.
func (m *Manager) test(old *Peer, h *hello) *refusal {
	switch alive := m.answers(old); {
	case alive && h.instance == old.instance:
		return &refusal{reason: reasonBusy}
	case alive:
		return &refusal{reason: reasonConflict}
	case h.instance == old.instance:
		old.fail(errAnswer, false)
	case h.nk.Boot < old.nk.Boot:
		return &refusal{reason: reasonBoot, boot: old.nk.Boot}
	default:
		old.fail(errReplaced, true)
	}
	select {
	case <-old.done:
		return nil
	case <-m.ctx.Done():
		return &refusal{reason: reasonBusy}
	}
}

// discard ends a session that did not come up.
func (m *Manager) discard(p *Peer) {
	p.fail(errEOF, false)
	p.conn.Close()
	m.mu.Lock()
	p.node.peer = nil
	m.mu.Unlock()
	close(p.done)
	p.node.wake()
}

// succeeds notes that nk is there, and gives the life before it whose end was
// not told yet.
func (m *Manager) succeeds(n *node, nk ring.NK) (before ring.NK) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, n.gone = n.gone, ring.NK{}
	if before == nk {
		before = ring.NK{}
	}
	return before
}

// ended notes that Down was told.
func (m *Manager) ended(p *Peer, dead bool) {
	m.mu.Lock()
	n := p.node
	n.peer = nil
	if dead {
		n.hurry = hurrySoon
	} else {
		n.hurry, n.gone = hurryNow, p.nk
	}
	m.mu.Unlock()
	close(p.done)
}
