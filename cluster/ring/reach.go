package ring

import (
	"slices"
	"time"
)

// peer is another node, by its number: the life of it that is up, or was last.
type peer struct {
	nk     NK
	up     bool
	upAt   time.Duration
	gone   bool   // it surely does not run any more
	ring   ID     // that it is in, as it told last
	size   uint32 // members of that; 0 if it has not told yet
	acting uint32 // whom it then took for its coordinator
	reach  []NK   // whom it would then have had in a ring

	toldRing   ID // what this node told it
	toldActing uint32

	shunUntil time.Duration // it did not answer: left out of proposals
	shunDelay time.Duration
	out       []time.Duration // when this node excluded it, though it lived
	holdUntil time.Duration   // so it is left out
}

// shun leaves a node out for a while, longer each time.
func (p *peer) shun(now time.Duration) {
	p.shunDelay = min(max(2*p.shunDelay, shunMin), shunMax)
	p.shunUntil = now + p.shunDelay
}

// excluded counts an exclusion, and holds the node down if there were many.
func (p *peer) excluded(now, longest time.Duration) {
	p.out = slices.DeleteFunc(p.out, func(t time.Duration) bool { return now-t > holdWindow })
	p.out = append(p.out, now)
	n := len(p.out) - holdAfter
	if n < 0 {
		return
	}
	p.holdUntil = now + min(holdMin<<min(n, 16), longest)
	if n > 16 {
		p.out = p.out[1:]
	}
}

func (p *peer) leftOut(now time.Duration) bool { return now < p.shunUntil || now < p.holdUntil }

func (c *Core) peer(id uint32) *peer {
	i, ok := c.findPeer(id)
	if !ok {
		return nil
	}
	return c.peers[i]
}

func (c *Core) findPeer(id uint32) (int, bool) {
	return slices.BinarySearchFunc(c.peers, id, func(p *peer, id uint32) int {
		switch {
		case p.nk.ID < id:
			return -1
		case p.nk.ID > id:
			return 1
		}
		return 0
	})
}

func (c *Core) isUp(nk NK) bool {
	p := c.peer(nk.ID)
	return p != nil && p.up && p.nk == nk
}

func (c *Core) onUp(ev Up) {
	if ev.Peer.ID == c.self.ID || ev.Peer.ID == 0 {
		c.emit(Break{ev.Peer, "it has the number of this node, or none"})
		return
	}
	if !c.plausible(ev.MaxSeq, ev.Ring.Seq) {
		c.emit(Break{ev.Peer, "an impossible ring number"})
		return
	}
	if old := c.peer(ev.Peer.ID); old != nil && old.up {
		c.down(old.nk, old.nk != ev.Peer)
	}
	i, ok := c.findPeer(ev.Peer.ID)
	if !ok {
		c.forgetPeers()
		i, _ = c.findPeer(ev.Peer.ID)
		c.peers = slices.Insert(c.peers, i, &peer{})
	}
	p := c.peers[i]
	if p.nk != ev.Peer {
		// Another life owes nothing for its predecessors but their exclusions.
		if p.nk.ID != 0 {
			c.markDead(p.nk)
		}
		*p = peer{nk: ev.Peer, out: p.out, holdUntil: p.holdUntil}
	}
	p.up, p.gone, p.upAt, p.shunUntil = true, false, c.now, 0
	p.ring, p.size, p.acting, p.reach = ev.Ring, 0, ev.Ring.Rep, nil
	p.toldRing, p.toldActing = ID{}, 0
	c.learn(max(ev.MaxSeq, ev.Ring.Seq))
	c.handoverGap = handoverEvery
	c.tries = 0
	c.dirty = true
}

// forgetPeers drops those that are gone and of whom there is nothing to
// remember, before another is noted.
func (c *Core) forgetPeers() {
	c.peers = slices.DeleteFunc(c.peers, func(p *peer) bool {
		return !p.up && !p.leftOut(c.now) && c.index(p.nk) < 0 &&
			!slices.ContainsFunc(p.out, func(t time.Duration) bool { return c.now-t <= holdWindow })
	})
}

func (c *Core) onDown(ev Down) {
	c.down(ev.Peer, ev.Dead)
}

// down takes in the end of a session, or that a node is gone for good.
func (c *Core) down(nk NK, dead bool) {
	if dead {
		c.markDead(nk)
	}
	if !c.isUp(nk) {
		return
	}
	c.peer(nk.ID).up = false
	c.dirty = true
	if i := c.index(nk); i >= 0 {
		c.lose(i)
	}
	c.downInChange(nk, dead)
}

func (c *Core) markDead(nk NK) {
	if p := c.peer(nk.ID); p != nil && p.nk == nk {
		p.gone = true
	}
	if i := c.index(nk); i >= 0 && !c.members[i].dead {
		c.members[i].dead = true
		c.dirty = true
	}
}

// lose makes a member's loss sticky for this ring (S1).
func (c *Core) lose(i int) {
	m := &c.members[i]
	c.dirty = true
	if m.broken {
		return
	}
	m.broken, m.lostAt = true, c.now
	if c.leads() {
		c.hearers()
	}
}

// hearers makes the list of those who get ORDs. A list that is out is not
// changed.
func (c *Core) hearers() {
	c.audience = nil
	for i, nk := range c.view.Members {
		if i != c.me && (!c.members[i].broken || mutated(mutNoSticky)) {
			c.audience = append(c.audience, nk)
		}
	}
}
