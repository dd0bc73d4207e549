package ring

import (
	"fmt"
	"slices"
)

// parked is a RECOVER that came before its PREPARE: they use different links.
type parked struct {
	from NK
	r    *Recover
}

// onPrepare begins to complete the old log (P3).
func (c *Core) onPrepare(from NK, p *Prepare) {
	if c.state != flush || p.Ballot != c.promised {
		return
	}
	g, wrong := c.checkPrepare(from, p)
	if wrong != "" {
		c.failChange(from, "PREPARE: "+wrong)
		return
	}
	c.prep, c.group = p, g
	c.rearm(tFlush, c.flushTime())
	if g.Holder == c.self {
		for i, nk := range g.Parts {
			if g.Have[i] < g.End || slices.Contains(g.Late, nk) {
				if wrong := c.recover(nk, g.Have[i]); wrong != "" {
					c.failChange(from, "PREPARE: "+wrong)
					return
				}
			}
		}
	}
	for _, k := range c.takeParked() {
		c.onRecover(k.from, k.r)
		if c.prep != p {
			return // it was wrong, and ended the change
		}
	}
	c.complete()
}

func (c *Core) takeParked() []parked {
	ks := c.parked
	c.parked, c.parkedLen = nil, 0
	return ks
}

// failChange gives up a change because of what a node has sent. When that was
// this node, as the coordinator, it was misled by a report; mostly by the one of
// the holder.
func (c *Core) failChange(from NK, reason string) {
	if from != c.self {
		c.punish(from, reason)
		return
	}
	t := c.try
	if c.group != nil && c.group.Holder != c.self {
		c.punish(c.group.Holder, reason)
	}
	if c.try != nil && c.try == t {
		c.abort(reason)
	}
}

// checkPrepare finds the group of this node, or what is wrong.
func (c *Core) checkPrepare(from NK, p *Prepare) (*OldRing, string) {
	if from.ID != p.Ballot.Rep {
		return nil, "not by the coordinator"
	}
	if c.prep != nil {
		return nil, "a second one"
	}
	if len(p.Members) != len(c.set) || p.Members[0] != from {
		return nil, "not the members that were proposed"
	}
	if !slices.Equal(p.Members[1:], others(c.set, from)) {
		return nil, "not the members that were proposed"
	}
	var mine *OldRing
	at := -1
	for i := range p.Groups {
		g := &p.Groups[i]
		if len(g.Parts) != len(g.Have) {
			return nil, "a group without the lengths of its logs"
		}
		if j := slices.Index(g.Parts, c.self); j >= 0 {
			if mine != nil {
				return nil, "this node in two groups"
			}
			mine, at = g, j
		}
	}
	if mine == nil {
		return nil, "this node in no group"
	}
	switch {
	case slices.Contains(mine.Late, c.self):
		if c.ready == nil || mine.Ring != c.ready.Ballot || mine.Have[at] != 0 || mine.Holder == c.self {
			return nil, "a late install of a ring for which this node is not ready"
		}
		return mine, ""
	case mine.Ring != c.view.Ring:
		return nil, "this node in a ring where it is not"
	case mine.Have[at] != c.log.end() && !mutated(mutOrdAfterPromise):
		return nil, "another length of this node's log than it has"
	case c.log.end() > mine.End && !mutated(mutSmallestHolder) && !mutated(mutOrdAfterPromise):
		return nil, "a log that ends before this node's"
	case mine.Holder == c.self && c.log.end() != mine.End && !mutated(mutOrdAfterPromise), !slices.Contains(mine.Parts, mine.Holder):
		return nil, "a holder that cannot be"
	}
	for _, nk := range mine.Parts {
		if c.index(nk) < 0 {
			return nil, "a node from a ring where it is not"
		}
	}
	return mine, ""
}

// recover sends a node what it is missing of the old log, directly or through
// the coordinator.
func (c *Core) recover(nk NK, have uint64) string {
	r := &Recover{Ballot: c.promised, Ring: c.view.Ring, Target: nk, First: have + 1}
	if slices.Contains(c.group.Late, nk) {
		if c.born == nil {
			return "a late install of a ring that all have acknowledged"
		}
		r.Late = c.born
	}
	if have < c.log.base {
		return "entries are wanted that all have acknowledged"
	}
	if mutated(mutRecoverAnywhere) && have > c.log.base {
		r.First--
	}
	to := nk
	if !c.isUp(nk) {
		to = c.proposer()
		if to == c.self {
			return "" // the attempt ends with that session
		}
	}
	for end := c.log.end(); ; {
		if r.First <= end {
			r.Entries = c.log.from(r.First, recoverBytes)
		}
		c.send(to, r)
		next := r.First + uint64(len(r.Entries))
		if next > end {
			return ""
		}
		r = &Recover{Ballot: r.Ballot, Ring: r.Ring, Target: nk, First: next}
	}
}

// onRecover takes in missing entries of the old log, or hands them on.
func (c *Core) onRecover(from NK, r *Recover) {
	if r.Target != c.self {
		c.relay(from, r)
		return
	}
	if c.state != flush || r.Ballot != c.promised {
		return
	}
	if c.prep == nil {
		size := 0
		for i := range r.Entries {
			size += EntrySize(len(r.Entries[i].Data))
		}
		if c.parkedLen+size <= maxParked && len(c.parked) < maxMembers {
			c.parked = append(c.parked, parked{from, r})
			c.parkedLen += size
		}
		return
	}
	g := c.group
	if from != g.Holder && from != c.proposer() {
		c.punish(from, "RECOVER by a node that is not the holder")
		return
	}
	if r.Ring != g.Ring || c.stating {
		return
	}
	c.rearm(tFlush, c.flushTime())
	if c.view.Ring != g.Ring {
		if r.Late == nil {
			return
		}
		if r.Late.Ballot != g.Ring || !statesOf(c.ready, r.Late.States) {
			c.punish(from, "RECOVER with the install of another ring")
			return
		}
		c.installLate(r.Late)
	}
	end := c.log.end()
	entries := r.Entries
	if !mutated(mutRecoverAnywhere) {
		switch {
		case r.First > end+1:
			return
		case r.First+uint64(len(entries)) <= end+1:
			entries = nil
		default:
			entries = entries[end+1-r.First:]
		}
		if end+uint64(len(entries)) > g.End {
			c.punish(from, "RECOVER beyond the end of the log")
			return
		}
	}
	if len(entries) > 0 {
		// The log of this ring goes on here beyond where the ballot that this node was
		// READY for has closed it: it must not be installed late any more.
		c.ready = nil
	}
	if wrong := c.takeEntries(entries); wrong != "" {
		c.punish(from, "RECOVER: "+wrong)
		return
	}
	c.complete()
}

// relay hands a RECOVER on for a holder that has no link to its target.
func (c *Core) relay(from NK, r *Recover) {
	t := c.try
	if t == nil || t.ballot != r.Ballot || t.prepare == nil || !c.isUp(r.Target) {
		return
	}
	for i := range t.prepare.Groups {
		g := &t.prepare.Groups[i]
		if g.Holder == from && g.Ring == r.Ring && slices.Contains(g.Parts, r.Target) {
			c.rearm(tFlush, c.flushTime())
			c.send(r.Target, r)
			return
		}
	}
}

// complete asks for the application's state once the old log is complete.
func (c *Core) complete() {
	g := c.group
	if c.state != flush || g == nil || c.stating || c.view.Ring != g.Ring {
		return
	}
	if c.log.end() < g.End && !mutated(mutEarlyReady) {
		return
	}
	tail, wrong := c.closing(g)
	if wrong != "" {
		c.failChange(c.proposer(), "PREPARE: "+wrong)
		return
	}
	c.tail, c.stating = tail, true
	c.emit(AskState{Ballot: c.promised, Tail: tail, Lead: g.Holder == c.self})
}

// closing gives the messages of a group's tail, behind the log as it is here.
// Parts of messages that it does not complete are nobody's: their origin sends
// the message again.
func (c *Core) closing(g *OldRing) ([]Message, string) {
	ms := slices.Clone(c.members)
	for i := range ms {
		ms[i].parts = slices.Clip(ms[i].parts)
	}
	var messages []Message
	own := 0
	for i := range g.Tail {
		e := &g.Tail[i]
		idx := c.index(e.Origin)
		if idx < 0 || !slices.Contains(g.Parts, e.Origin) {
			return nil, "the tail has entries of a node that does not come from the ring"
		}
		m := &ms[idx]
		if wrong := m.fits(e); wrong != "" {
			return nil, "the tail has " + wrong
		}
		if idx == c.me && !mutated(mutTailUnfiltered) {
			if own == c.pend.len() || !sameEntry(c.pend.at(own), e) {
				return nil, "the tail has other entries of this node than it has submitted"
			}
			own++
		}
		m.last, m.fresh = e.OSeq, false
		if data, ok := join(&m.parts, &m.partBytes, e); ok {
			messages = append(messages, Message{
				Origin: e.Origin, OSeq: e.OSeq, Pos: g.End + uint64(i) + 1, Kind: e.Kind, Data: data,
			})
		}
	}
	if own != c.pend.len() && !mutated(mutTailUnfiltered) && !mutated(mutPendKept) && !mutated(mutEarlyReady) {
		return nil, fmt.Sprintf("the tail has %d of the %d entries that this node has on their way", own, c.pend.len())
	}
	if mutated(mutNoTail) {
		return nil, ""
	}
	return messages, ""
}

// onState takes in the application's state.
func (c *Core) onState(s State) {
	if c.state != flush || !c.stating || c.isReady || c.stated != nil || s.Ballot != c.promised && !mutated(mutWrongState) {
		return
	}
	c.stated = &s
	c.release()
}

// sendReady tells the coordinator that this node may switch. From now on it may
// have to install this ballot late.
func (c *Core) sendReady() {
	r := &Ready{Ballot: c.promised, Data: c.stated.Data}
	c.stated, c.isReady, c.ready = nil, true, c.prep
	c.wasReady = c.promised
	if to := c.proposer(); to != c.self {
		c.send(to, r)
	} else {
		c.onReady(c.self, r)
	}
}

// onReady collects the states of an attempt of this node; with the last one the
// ring is there (P4).
func (c *Core) onReady(from NK, r *Ready) {
	t := c.try
	if t == nil || t.ballot != r.Ballot || t.prepare == nil {
		return
	}
	i := slices.Index(t.set, from)
	if i < 0 || t.states[i] != nil {
		c.punish(from, "READY without being asked")
		return
	}
	t.states[i] = r
	if slices.Contains(t.states, nil) {
		return
	}
	f := &InstallFrame{Ballot: t.ballot, States: make([]NodeState, 0, len(t.set))}
	for i, nk := range t.set {
		for j := range t.prepare.Groups {
			if g := &t.prepare.Groups[j]; slices.Contains(g.Parts, nk) {
				f.States = append(f.States, NodeState{Node: nk, From: g.Ring, Lead: g.Holder == nk, Data: t.states[i].Data})
			}
		}
	}
	if to := others(t.set, c.self); len(to) > 0 {
		c.emit(Send{To: to, Frame: f})
	}
	c.install(f)
}
