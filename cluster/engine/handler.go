package engine

import (
	"log/slog"
	"sync"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/cluster/session"
)

// handler is the engine as its sessions see it.
type handler Engine

var _ session.Handler = (*handler)(nil)

// Up implements session.Handler.
func (h *handler) Up(p *session.Peer) {
	e := (*Engine)(h)
	nk := p.NK()
	e.names.set(nk.ID, p.Name())
	e.mu.Lock()
	e.peers[nk] = &peer{Peer: p}
	r, maxSeq := p.Ring()
	e.step(ring.Up{Peer: nk, Ring: r, MaxSeq: maxSeq})
	e.unlock()
}

// Frame implements session.Handler.
func (h *handler) Frame(from *session.Peer, typ ring.Type, flags uint8, body []byte) {
	e := (*Engine)(h)
	nk := from.NK()
	e.mu.Lock()
	p := e.peers[nk]
	if p == nil || p.Peer != from {
		e.mu.Unlock()
		return
	}
	f, err := p.dec.Frame(typ, flags, body, nk, e.core.View().Members)
	if err != nil {
		e.note(slog.LevelWarn, "frame of a peer", "node", from.Name(), "id", nk.ID, "err", err)
		e.unlock()
		from.Close(err)
		return
	}
	if len(e.view.Members) > 0 && nk == e.view.Members[0] {
		e.heard = time.Now()
	}
	if f != nil {
		e.step(ring.Received{From: nk, Frame: f})
	}
	e.unlock()
}

// Down implements session.Handler.
func (h *handler) Down(p *session.Peer, cause error, dead bool) {
	e := (*Engine)(h)
	nk := p.NK()
	e.mu.Lock()
	if q := e.peers[nk]; q != nil && q.Peer == p {
		delete(e.peers, nk)
		level := slog.LevelInfo
		if e.manager == nil {
			level = slog.LevelDebug // we have ended them all
		}
		e.note(level, "session ended", "node", p.Name(), "id", nk.ID, "dead", dead, "cause", cause)
		e.step(ring.Down{Peer: nk, Dead: dead || e.manager == nil}) // without a manager nobody will be met again
	}
	e.unlock()
}

// Dead implements session.Handler.
func (h *handler) Dead(nk ring.NK) {
	e := (*Engine)(h)
	e.mu.Lock()
	if e.peers[nk] == nil {
		e.note(slog.LevelInfo, "nobody is there any more", "node", e.names.get(nk.ID), "id", nk.ID)
		e.step(ring.Down{Peer: nk, Dead: true})
	}
	e.unlock()
}

// Paused implements session.Handler.
func (h *handler) Paused(time.Duration) {
	e := (*Engine)(h)
	e.mu.Lock()
	e.step(ring.Paused{})
	e.unlock()
}

// BootKnown implements session.Handler.
func (h *handler) BootKnown(boot uint64) {
	if f := h.conf.BootKnown; f != nil {
		f(boot)
	}
}

// names are the names of nodes, as gossip and the nodes themselves tell them.
type names struct {
	mu sync.RWMutex
	of map[uint32]string // mu
}

func (n *names) set(id uint32, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.of == nil {
		n.of = map[uint32]string{}
	}
	n.of[id] = name
}

func (n *names) get(id uint32) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.of[id]
}
