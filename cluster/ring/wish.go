package ring

import (
	"fmt"
	"time"
)

// wish is why this node wants another ring.
type wish struct {
	since time.Duration
	at    time.Duration // when to propose, if it is this node that proposes
	lost  bool          // for a member that is lost
	cause string
}

// reconsider is run after everything that may change who reaches whom.
func (c *Core) reconsider() {
	c.dirty = false
	c.tell()
	c.disarm(tRecheck)
	for _, p := range c.peers {
		if p.up {
			if until := max(p.shunUntil, p.holdUntil); until > c.now {
				c.arm(tRecheck, until-c.now)
			}
		}
	}
	if c.state != oper {
		return
	}
	w, ok := c.wish()
	if !ok {
		c.wished, c.yielded = false, false
		c.disarm(tWish)
		c.disarm(tInfo)
		return
	}
	if !c.wished {
		c.wished, c.wishSince = true, c.now
	}
	if c.acting != c.self.ID {
		c.wishElsewhere(w)
		return
	}
	c.disarm(tInfo)
	at := max(w.at, c.yieldUntil, c.undecided())
	if at > c.now {
		c.rearm(tWish, at-c.now)
		return
	}
	if !w.lost && c.yields() && (!c.yielded || c.conf.Rand()%4 != 0) {
		c.yielded = true
		c.yieldUntil = c.now + c.between(80*time.Millisecond, 160*time.Millisecond)
		c.rearm(tWish, c.yieldUntil-c.now)
		return
	}
	c.propose(w.cause)
}

// wish finds out whether this node wants another ring (5.1).
func (c *Core) wish() (wish, bool) {
	w := wish{since: never}
	urgent := false
	redial := time.Duration(0)
	for i, nk := range c.view.Members {
		m := &c.members[i]
		if i == c.me || !m.broken || !c.leads() && i != 0 {
			continue
		}
		w.lost = true
		if m.lostAt < w.since {
			w.since, w.cause = m.lostAt, fmt.Sprintf("node %v is lost", nk)
		}
		if m.dead {
			w.cause = fmt.Sprintf("node %v is gone", nk)
		}
		if m.dead || m.moved || m.slow {
			urgent = true
		} else if !c.isUp(nk) {
			redial = max(redial, m.lostAt+c.conf.Grace)
		}
	}
	for _, p := range c.peers {
		if i := c.index(p.nk); i >= 0 && p.ring.Seq <= c.view.Ring.Seq || !c.takeable(p) {
			continue
		}
		if p.upAt < w.since {
			w.since = p.upAt
			if w.cause == "" {
				w.cause = fmt.Sprintf("node %v is there", p.nk)
			}
		}
	}
	if w.since == never {
		return w, false
	}
	w.at = max(w.since, c.installed) + c.conf.Join
	w.at = max(w.at, min(redial, w.at+2*c.conf.Grace))
	if urgent {
		w.at = c.now
	}
	return w, true
}

// wishElsewhere asks the acting coordinator for a new ring. When it has lost the
// sequencer and the acting coordinator does nothing for long, it proposes itself.
func (c *Core) wishElsewhere(w wish) {
	c.yielded = false
	if w.lost {
		patience := c.wishSince + 20*c.conf.Grace + time.Duration(c.me)*40*time.Millisecond
		if patience <= c.now {
			c.propose(w.cause + ", and the acting coordinator does nothing")
			return
		}
		c.rearm(tWish, patience-c.now)
	} else {
		c.disarm(tWish)
	}
	if c.timers[tInfo] != never {
		return
	}
	c.arm(tInfo, c.between(60*time.Millisecond, 120*time.Millisecond))
	p := c.peer(c.acting)
	assert(p != nil && p.up, "the acting coordinator is out of reach")
	c.sendInfo(p)
}

// yields tells whether another ring's coordinator should propose instead: it
// reaches this node, and comes first by number.
func (c *Core) yields() bool {
	for _, p := range c.peers {
		if i := c.index(p.nk); i >= 0 && p.ring.Seq <= c.view.Ring.Seq || !c.takeable(p) || p.acting >= c.self.ID {
			continue
		}
		if l := c.peer(p.acting); l != nil && l.up {
			return true
		}
	}
	return false
}

// considerHandover starts a change of the ring for a member that reaches nodes
// which this one, the coordinator, does not: it may become the coordinator
// (5.4).
func (c *Core) considerHandover(p *peer) {
	if c.now < c.handoverAt {
		return
	}
	if c.gain(c.candidates(), p.nk, p.reach) <= 0 {
		return
	}
	c.propose(fmt.Sprintf("node %v reaches more", p.nk))
	if c.try != nil {
		c.try.handover = true
	}
	c.handoverLater()
}

// handoverLater spaces hand-overs, the more the more of them there were.
func (c *Core) handoverLater() {
	c.handoverAt = c.now + c.handoverGap
	c.handoverGap = min(2*c.handoverGap, handoverMax)
}
