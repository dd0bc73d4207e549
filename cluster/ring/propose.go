package ring

import (
	"fmt"
	"slices"
	"time"
)

// attempt is a change of the ring that this node coordinates.
type attempt struct {
	ballot   ID
	set      []NK
	sent     bool      // PROPOSE has left
	handover bool      // it is made to hand over
	reports  []*Report // by set
	prepare  *Prepare  // once all reports are here
	starts   []uint64  // by set: the last oseq that the node has given
	states   []*Ready  // by set
}

// propose begins an attempt (P0).
func (c *Core) propose(cause string) {
	seq := max(c.maxSeq, c.promised.Seq) + 1
	if mutated(mutReuseSeq) {
		seq = c.promised.Seq
	}
	if c.state == oper && !c.covered(ID{Seq: seq}) {
		c.learn(seq) // as in onPropose; what is durable then is looked at by reconsider
		return
	}
	set := c.candidates()
	c.note(fmt.Sprintf("propose ring %v of %v: %s", ID{seq, c.self.ID}, set, cause))
	c.try = &attempt{
		ballot:  ID{seq, c.self.ID},
		set:     set,
		reports: make([]*Report, len(set)),
		states:  make([]*Ready, len(set)),
	}
	c.promise(c.try.ballot, set)
}

// candidates are those whom a proposal goes to, this node among them.
func (c *Core) candidates() []NK {
	set := make([]NK, 0, len(c.peers)+1)
	for _, p := range c.peers {
		if c.takeable(p) && len(set) < maxMembers-1 {
			set = append(set, p.nk)
		}
	}
	i, _ := slices.BinarySearchFunc(set, c.self, CompareNK)
	return slices.Insert(set, i, c.self)
}

func (c *Core) sendPropose() {
	t := c.try
	t.sent = true
	if to := others(t.set, c.self); len(to) > 0 {
		c.emit(Send{To: to, Frame: &Propose{Ballot: t.ballot, Set: t.set}})
	}
	c.rearm(tReport, c.grow(c.conf.Report))
}

// others is set without one of it.
func others(set []NK, nk NK) []NK {
	out := make([]NK, 0, len(set))
	for _, o := range set {
		if o != nk {
			out = append(out, o)
		}
	}
	return out
}

// grow makes a time longer when attempts fail again and again: links may be
// slow, and logs and tables long.
func (c *Core) grow(d time.Duration) time.Duration {
	for i := 3; i < c.tries && d < 5*time.Second; i++ {
		d += d / 2
	}
	return d
}

// abort ends an attempt of this node. Another follows, soon: the others would
// propose too.
func (c *Core) abort(reason string) {
	c.abortFor(reason, 0, 10*time.Millisecond)
}

func (c *Core) abortFor(reason string, lo, hi time.Duration) {
	c.note(fmt.Sprintf("ring %v is given up: %s", c.try.ballot, reason))
	c.try = nil
	c.tries++
	c.disarm(tReport)
	c.disarm(tFlush)
	c.rearm(tRetry, c.between(lo, hi))
}

// reportsMissing ends an attempt to which not all have answered.
func (c *Core) reportsMissing() {
	t := c.try
	if t == nil || t.prepare != nil {
		return
	}
	var missing []NK
	for i, r := range t.reports {
		if r == nil && t.set[i] != c.self {
			missing = append(missing, t.set[i])
		}
	}
	c.leaveOut(missing)
	c.abort(fmt.Sprintf("no REPORT of %v", missing))
}

// leaveOut keeps nodes that did not answer out of the next attempts.
func (c *Core) leaveOut(nks []NK) {
	for _, nk := range nks {
		if p := c.peer(nk.ID); p != nil && p.nk == nk {
			p.shun(c.now)
			c.dirty = true
		}
	}
}

// flushTimeout is run when a change that this node has promised does not end.
func (c *Core) flushTimeout() {
	if c.state != flush {
		return
	}
	if !c.covered(c.promised) {
		c.rearm(tFlush, c.flushTime()) // our own disk is what is slow
		return
	}
	t := c.try
	if t == nil {
		c.tries++
		c.proposeAgain("the change of the ring does not end")
		return
	}
	if t.prepare == nil {
		return // that is for reportsMissing
	}
	var missing []NK
	for i, r := range t.states {
		if r == nil && t.set[i] != c.self {
			missing = append(missing, t.set[i])
		}
	}
	// Once may be a long log; who misses again is left out.
	if c.tries > 0 {
		c.leaveOut(missing)
	}
	c.abort(fmt.Sprintf("no READY of %v", missing))
}

// proposeAgain proposes out of a change that has failed, unless there may be
// word in a moment of members that would be lost by it.
func (c *Core) proposeAgain(cause string) {
	if c.undecided() > c.now {
		c.rearm(tRetry, c.between(30*time.Millisecond, 50*time.Millisecond))
		return
	}
	c.propose(cause)
}

// downInChange takes in the end of a session while the ring changes.
func (c *Core) downInChange(nk NK, dead bool) {
	if c.state != flush {
		return
	}
	if t := c.try; t != nil {
		if slices.Contains(t.set, nk) {
			c.abort(fmt.Sprintf("the session with node %v broke", nk))
		}
		return
	}
	if nk.ID != c.promised.Rep {
		return
	}
	// Its change cannot end any more: it gives it up too, and may try again soon.
	wait := time.Duration(c.rank())*40*time.Millisecond + c.between(0, 60*time.Millisecond)
	if !dead {
		wait += c.conf.Grace
	}
	c.arm(tFlush, wait)
}

// onNack takes in that a proposal was refused, or that another node is to
// propose.
func (c *Core) onNack(from NK, f *Nack) {
	if !c.plausible(f.Promised) {
		c.punish(from, "an impossible ring number")
		return
	}
	c.learn(f.Promised)
	if c.state != flush {
		return
	}
	if f.Prefer == 0 {
		if c.try != nil && f.Ballot == c.try.ballot && slices.Contains(c.try.set, from) {
			// Another node proposes: whoever is first must have the time to end.
			c.abortFor(fmt.Sprintf("node %v has promised %d", from, f.Promised), 30*time.Millisecond, 250*time.Millisecond)
		}
		return
	}
	if c.try != nil || f.Ballot != c.promised || from.ID != f.Ballot.Rep {
		return
	}
	if f.Prefer == c.self.ID {
		c.propose(fmt.Sprintf("handed over by node %v", from))
		return
	}
	c.rearm(tFlush, c.flushTime())
}

// handOver gives an attempt to a node that reaches more than this one, once in a
// while (5.4).
func (c *Core) handOver() bool {
	t := c.try
	if !t.handover && c.now < c.handoverAt {
		return false
	}
	best, most := -1, 0
	for i, r := range t.reports {
		if t.set[i] == c.self {
			continue
		}
		if gain := c.gain(t.set, t.set[i], r.Reach); gain > most {
			best, most = i, gain
		}
	}
	if best < 0 {
		return false
	}
	if !t.handover {
		c.handoverLater()
	}
	c.note(fmt.Sprintf("ring %v is handed over to node %v, which reaches %d more", t.ballot, t.set[best], most))
	c.try = nil
	c.disarm(tReport)
	c.emit(Send{To: others(t.set, c.self), Frame: &Nack{
		Ballot: t.ballot, Promised: c.promised.Seq, Prefer: t.set[best].ID,
	}})
	c.rearm(tFlush, c.flushTime())
	return true
}

// gain is how many more nodes would be in a ring that nk forms than in set.
// Those who are up here were left out by this node for a reason.
func (c *Core) gain(set []NK, nk NK, reach []NK) int {
	n := 0
	for _, o := range reach {
		if _, ok := slices.BinarySearchFunc(set, o, CompareNK); !ok && !c.isUp(o) {
			n++
		}
	}
	for _, o := range set {
		if o != nk && !slices.Contains(reach, o) {
			n--
		}
	}
	return n
}
