package ring

// onInfo takes in where another node stands.
func (c *Core) onInfo(from NK, f *Info) {
	if !c.plausible(f.MaxSeq, f.Ring.Seq) {
		c.punish(from, "an impossible ring number")
		return
	}
	p := c.peer(from.ID)
	c.learn(max(f.MaxSeq, f.Ring.Seq))
	p.ring, p.size, p.acting, p.reach = f.Ring, f.Size, f.Acting, f.Reach
	c.dirty = true
	i := c.index(from)
	if i < 0 || c.state != oper {
		return
	}
	if f.Ring.Seq > c.view.Ring.Seq && !c.members[i].broken {
		// It has moved away, and never comes back to this ring.
		c.members[i].moved = true
		c.lose(i)
	}
	if c.leads() && f.Ring == c.view.Ring {
		c.considerHandover(p)
	}
}

// tell sends INFO to those who cannot know where this node stands. Members of
// the ring know, unless it has another coordinator than the ring.
func (c *Core) tell() {
	c.acting = c.actingNow()
	for _, p := range c.peers {
		if !p.up || p.toldRing == c.view.Ring && p.toldActing == c.acting {
			continue
		}
		knows := c.index(p.nk) >= 0 && p.ring.Seq <= c.view.Ring.Seq && c.acting == c.view.Members[0].ID
		if knows && p.toldRing != (ID{}) && p.toldRing != c.view.Ring {
			continue
		}
		c.sendInfo(p)
	}
}

func (c *Core) sendInfo(p *peer) {
	p.toldRing, p.toldActing = c.view.Ring, c.acting
	c.send(p.nk, &Info{Ring: c.view.Ring, Size: uint32(len(c.members)), Acting: c.acting, MaxSeq: c.maxSeq, Reach: c.reachable()})
}
