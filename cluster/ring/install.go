package ring

import (
	"fmt"
	"slices"
	"strings"
)

// onInstall takes in that the change is done.
func (c *Core) onInstall(from NK, f *InstallFrame) {
	if c.state != flush || f.Ballot != c.promised {
		return
	}
	switch {
	case from != c.proposer():
		c.punish(from, "INSTALL by a node that is not the coordinator")
		return
	case !c.isReady:
		c.punish(from, "INSTALL before this node was ready")
		return
	case !statesOf(c.prep, f.States):
		c.punish(from, "INSTALL without the states of its members")
		return
	}
	c.install(f)
}

// statesOf tells whether states has one of every member of a prepared ring,
// sorted, as the groups of the ring say.
func statesOf(p *Prepare, states []NodeState) bool {
	if len(states) != len(p.Members) {
		return false
	}
	for i := range states {
		s := &states[i]
		j := slices.IndexFunc(p.Groups, func(g OldRing) bool { return slices.Contains(g.Parts, s.Node) })
		if i > 0 && CompareNK(states[i-1].Node, s.Node) >= 0 || memberIndex(p.Members, s.Node) < 0 ||
			j < 0 || p.Groups[j].Ring != s.From || s.Lead != (p.Groups[j].Holder == s.Node) {
			return false
		}
	}
	return true
}

// install switches to the promised ballot (P5).
func (c *Core) install(f *InstallFrame) {
	t := c.try
	c.switchTo(c.prep, c.group, c.tail, f)
	c.state = oper
	c.try, c.tries = nil, 0
	for t := range nTimers {
		if t != tRecheck {
			c.disarm(t)
		}
	}
	c.prep, c.group, c.tail = nil, nil, nil
	c.stating, c.stated, c.isReady = false, nil, false
	if c.leads() {
		assert(t != nil, "a ring of ours that we did not form")
		for i, nk := range t.set {
			m := &c.members[memberIndex(c.view.Members, nk)]
			m.last, m.fresh = t.starts[i], false
		}
		c.hearers()
	}
	c.dirty = true
	c.pump()
}

// installLate switches to a ring for which this node was READY, which others
// have installed and have left or are leaving: on the way to the promised one.
func (c *Core) installLate(f *InstallFrame) {
	p := c.ready
	i := slices.IndexFunc(p.Groups, func(g OldRing) bool { return slices.Contains(g.Parts, c.self) })
	g := &p.Groups[i]
	assert(g.Ring == c.view.Ring && (c.log.end() == g.End || mutated(mutOrdAfterPromise) || mutated(mutEarlyReady)),
		"a late install from another place than where this node was ready")
	tail, wrong := c.closing(g)
	assert(wrong == "" || mutated(mutOrdAfterPromise), "a tail that was right is wrong now: "+wrong)
	c.note(fmt.Sprintf("install ring %v late", p.Ballot))
	c.switchTo(p, g, tail, f)
	c.dirty = true
}

// switchTo closes the old ring's log by the tail of this node's group, and
// begins a new one.
func (c *Core) switchTo(p *Prepare, g *OldRing, tail []Message, f *InstallFrame) {
	if len(tail) > 0 {
		c.emit(Deliver{Ring: c.view.Ring, Tail: true, Messages: tail})
	}
	old, members := c.view, c.members
	for i := range g.Tail {
		e := &g.Tail[i]
		members[c.index(e.Origin)].last = e.OSeq
		members[c.index(e.Origin)].fresh = false
	}
	kept := c.pend
	c.pend.clear() // the tail had them all
	c.pendBytes = 0

	c.view = View{Ring: p.Ballot, Members: p.Members}
	c.members = make([]member, len(p.Members))
	c.lastIdx = 0
	c.me = memberIndex(p.Members, c.self)
	assert(c.me >= 0, "this node is not in its own ring")
	from := make([]NK, 0, len(g.Parts))
	for i, nk := range p.Members {
		m := &c.members[i]
		m.fresh = true
		m.ackMoved = c.now
		if j := memberIndex(old.Members, nk); j >= 0 && slices.Contains(g.Parts, nk) {
			from = append(from, nk)
			m.last, m.fresh = members[j].last, members[j].fresh
			if mutated(mutPartialKept) {
				m.parts, m.partBytes = members[j].parts, members[j].partBytes
			}
		}
		if i == c.me {
			m.last, m.fresh = c.oseq, false
		} else if !c.isUp(nk) {
			m.broken, m.lostAt = true, c.now
		}
	}
	slices.SortFunc(from, CompareNK)
	c.log = entryLog{}
	c.stable, c.acked, c.unacked = 0, 0, 0
	c.told, c.untold = 0, 0
	c.unsent, c.unsentLen = nil, 0
	c.ownAt, c.foreign = 0, true
	c.audience = nil
	c.credit = max(c.conf.MinCredit, c.conf.Window/len(p.Members))
	c.born, c.ready = f, nil
	c.installed = c.now
	c.changes++
	if c.queue.len() > 0 && !mutated(mutPartialKept) {
		c.queue.at(0).sent = 0
	}
	if mutated(mutPendKept) {
		c.requeue(kept)
	}
	c.account(old, members, p)
	c.emit(Install{
		View:         c.view,
		Old:          old.Ring,
		Transitional: from,
		States:       f.States,
		Cause:        c.cause(old, members, from),
	})
}

// requeue is a mistake for the mutation gate: what was on its way in the old
// ring is submitted again in the new one.
func (c *Core) requeue(pend deque[Entry]) {
	q := c.queue
	c.queue.clear()
	for i := range pend.len() {
		e := pend.at(i)
		c.queue.push(queued{kind: e.Kind, data: e.Data})
		c.queuedBytes += EntrySize(len(e.Data))
	}
	c.oseq -= uint64(pend.len())
	c.members[c.me].last = c.oseq
	for i := range q.len() {
		c.queue.push(*q.at(i))
	}
}

// account notes for those who have left how it was with them: who was put out by
// this node alive, again and again, is held down (6.2); and the others are where
// they were, in the old ring.
func (c *Core) account(old View, members []member, p *Prepare) {
	for i, nk := range old.Members {
		if nk == c.self || memberIndex(p.Members, nk) >= 0 {
			continue
		}
		peer := c.peer(nk.ID)
		if peer == nil {
			continue
		}
		if peer.nk == nk && peer.ring.Seq < old.Ring.Seq {
			peer.ring, peer.size, peer.acting = old.Ring, uint32(len(old.Members)), old.Members[0].ID
		}
		if p.Members[0] == c.self && !members[i].dead && !members[i].moved {
			peer.excluded(c.now, c.conf.MaxHoldDown)
			if peer.holdUntil > c.now {
				c.note(fmt.Sprintf("node %d was put out %d times in a minute: held down for %v", nk.ID, len(peer.out), peer.holdUntil-c.now))
			}
		}
	}
}

// cause says for people why there is a new ring.
func (c *Core) cause(old View, members []member, from []NK) string {
	var parts []string
	for i, nk := range old.Members {
		if _, ok := slices.BinarySearchFunc(from, nk, CompareNK); ok {
			continue
		}
		why := "left"
		switch m := &members[i]; {
		case m.dead:
			why = "is gone"
		case m.slow:
			why = "was put out, it was too slow"
		case m.moved:
			why = "went to another ring"
		case m.broken:
			why = "is lost, its session broke"
		}
		parts = append(parts, fmt.Sprintf("node %d %s", nk.ID, why))
	}
	for _, nk := range c.view.Members {
		if _, ok := slices.BinarySearchFunc(from, nk, CompareNK); !ok {
			parts = append(parts, fmt.Sprintf("node %d joined", nk.ID))
		}
	}
	if len(parts) == 0 {
		return "the same members again"
	}
	return strings.Join(parts, ", ")
}
