package ring

import "time"

// reachable lists whom this node would have in a ring, sorted.
func (c *Core) reachable() []NK {
	out := make([]NK, 0, len(c.peers))
	for _, p := range c.peers {
		if c.takeable(p) {
			out = append(out, p.nk)
		}
	}
	return out
}

// actingNow is whom this node takes for the coordinator of its ring: the most
// senior member that it reaches and that is still in the ring.
func (c *Core) actingNow() uint32 {
	for i, nk := range c.view.Members {
		if i == c.me {
			return c.self.ID
		}
		if p := c.peer(nk.ID); p != nil && p.up && p.nk == nk && p.ring.Seq <= c.view.Ring.Seq {
			return nk.ID
		}
	}
	assert(false, "this node is not in its own ring")
	return 0
}

// leaderOf tells whom a node takes for its coordinator, as far as is known here,
// and whether it is in the ring of this node.
func (c *Core) leaderOf(p *peer) (id uint32, fellow bool) {
	if c.index(p.nk) < 0 || p.ring.Seq > c.view.Ring.Seq {
		return p.acting, false
	}
	if p.ring == c.view.Ring {
		return p.acting, true
	}
	return c.view.Members[0].ID, true
}

// takeable tells whether this node may have another in a proposal. It takes
// nobody from a ring whose coordinator it cannot reach, and no part of a ring
// without the rest: where links are not transitive, nodes would steal each other
// for ever.
func (c *Core) takeable(p *peer) bool {
	if !p.up || p.leftOut(c.now) {
		return false
	}
	id, fellow := c.leaderOf(p)
	if fellow {
		l := c.peer(id)
		return id == c.self.ID || id == p.nk.ID || l != nil && l.up || c.deadMember(id)
	}
	if c.ready != nil && p.ring == c.ready.Ballot {
		return true // this node is about to be in that ring
	}
	if id != c.self.ID && id != p.nk.ID {
		if l := c.peer(id); l == nil || !l.up || l.leftOut(c.now) {
			return false
		}
	}
	return p.size > 0 && c.known(p.ring) >= int(p.size)
}

// known counts the members of another ring that this node could have, or that
// nobody can, or that it is itself: it was READY for a ring, and went elsewhere
// before that was installed.
func (c *Core) known(r ID) int {
	n := 0
	if r == c.wasReady {
		n = 1
	}
	for _, p := range c.peers {
		if p.ring == r && (p.gone || p.up && !p.leftOut(c.now)) {
			n++
		}
	}
	return n
}

// deadMember tells whether the member of that number is known not to run.
func (c *Core) deadMember(id uint32) bool {
	for i, nk := range c.view.Members {
		if nk.ID == id {
			return c.members[i].dead
		}
	}
	return false
}

// undecided tells until when a proposal should wait for word of members that
// seem to have a coordinator which this node cannot reach: mostly they have lost
// it too, a moment later.
func (c *Core) undecided() time.Duration {
	until := time.Duration(0)
	for i, nk := range c.view.Members {
		p := c.peer(nk.ID)
		if i == c.me || p == nil || !p.up || p.nk != nk || p.leftOut(c.now) || c.takeable(p) {
			continue
		}
		id, fellow := c.leaderOf(p)
		if !fellow {
			continue
		}
		for j, other := range c.view.Members {
			if other.ID == id && c.members[j].broken {
				until = max(until, c.members[j].lostAt+10*c.conf.Grace)
			}
		}
	}
	return until
}
