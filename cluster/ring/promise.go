package ring

import (
	"slices"
	"time"
)

// onPropose promises a ballot, or refuses it (P1).
func (c *Core) onPropose(from NK, f *Propose) {
	switch {
	case f.Ballot.Rep != from.ID:
		c.punish(from, "PROPOSE in another's name")
		return
	case !c.plausible(f.Ballot.Seq):
		c.punish(from, "an impossible ring number")
		return
	case !strictlySorted(f.Set) || !slices.Contains(f.Set, c.self) || !slices.Contains(f.Set, from) || len(f.Set) > maxMembers:
		c.punish(from, "PROPOSE of a set that cannot be")
		return
	}
	// By seq only: with equal seqs of two coordinators a ring's number would not
	// increase.
	refuse := f.Ballot.Seq <= c.promised.Seq
	if mutated(mutCompareRep) {
		refuse = f.Ballot.Seq < c.promised.Seq || f.Ballot.Seq == c.promised.Seq && f.Ballot.Rep <= c.promised.Rep
	}
	if mutated(mutReuseSeq) {
		refuse = f.Ballot.Seq < c.promised.Seq
	}
	if refuse {
		c.send(from, &Nack{Ballot: f.Ballot, Promised: c.promised.Seq})
		return
	}
	if c.state == oper && !c.covered(f.Ballot) {
		// Who has promised is out of its ring for good. With a disk that does not
		// take the number that would be for long, so the ring goes on meanwhile.
		c.learn(f.Ballot.Seq)
		c.proposed, c.proposedBy = f, from
		return
	}
	c.promise(f.Ballot, f.Set)
}

func strictlySorted(set []NK) bool {
	for i, nk := range set {
		if nk.ID == 0 || i > 0 && nk.ID <= set[i-1].ID {
			return false
		}
	}
	return len(set) > 0
}

// promise leaves the ring's stream for good: what comes next is this ballot or a
// higher one.
func (c *Core) promise(b ID, set []NK) {
	if c.try != nil && c.try.ballot != b {
		c.note("ring " + c.try.ballot.String() + " gives way to " + b.String())
		c.try = nil
	}
	if c.state == oper {
		c.tries = 0
	}
	for t := range nTimers {
		if t != tRecheck {
			c.disarm(t)
		}
	}
	c.state = flush
	c.unsent, c.unsentLen = nil, 0 // they are in the log
	c.wished, c.yielded = false, false
	c.promised, c.set = b, set
	c.prep, c.group, c.tail = nil, nil, nil
	c.parked, c.parkedLen = nil, 0
	c.stating, c.stated, c.isReady = false, nil, false
	c.learn(b.Seq)
	c.rearm(tFlush, c.flushTime())
	c.owed = true
	c.release()
}

// rank is this node's place in the promised set.
func (c *Core) rank() int { return max(slices.Index(c.set, c.self), 0) }

// flushTime is how long a change may take until this node proposes itself.
func (c *Core) flushTime() time.Duration {
	later := min(time.Duration(c.rank())*40*time.Millisecond, 450*time.Millisecond)
	return c.grow(c.conf.Report+later) + c.between(0, 60*time.Millisecond)
}

// proposer is the node that has proposed the promised ballot.
func (c *Core) proposer() NK {
	for _, nk := range c.set {
		if nk.ID == c.promised.Rep {
			return nk
		}
	}
	assert(false, "a ballot without its proposer was promised")
	return NK{}
}

// sendReport tells the proposer where this node stands.
func (c *Core) sendReport() {
	c.owed = false
	r := &Report{
		Ballot: c.promised,
		Ring:   c.view.Ring,
		Have:   c.log.end(),
		Base:   c.log.base,
		Reach:  c.reachable(),
	}
	if c.ready != nil {
		r.Prepared = c.ready.Ballot
	}
	for i, nk := range c.view.Members {
		if m := &c.members[i]; !m.fresh {
			r.Last = append(r.Last, Last{nk, m.last})
		}
	}
	for i := range c.pend.len() {
		r.Pend = append(r.Pend, *c.pend.at(i))
	}
	if to := c.proposer(); to != c.self {
		c.send(to, r)
	} else {
		c.onReport(c.self, r)
	}
}
