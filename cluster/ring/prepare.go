package ring

import (
	"cmp"
	"fmt"
	"slices"
)

// onReport collects the promises for an attempt of this node.
func (c *Core) onReport(from NK, r *Report) {
	t := c.try
	if t == nil || r.Ballot != t.ballot || t.prepare != nil {
		return
	}
	i := slices.Index(t.set, from)
	wrong := ""
	switch {
	case i < 0:
		wrong = "REPORT without being asked"
	case t.reports[i] != nil:
		wrong = "a second REPORT"
	default:
		wrong = checkReport(from, r)
	}
	if wrong != "" {
		c.punish(from, wrong)
		return
	}
	t.reports[i] = r
	if p := c.peer(from.ID); p != nil {
		p.shunDelay = 0
	}
	if !slices.Contains(t.reports, nil) {
		c.disarm(tReport)
		c.arrange()
	}
}

func checkReport(from NK, r *Report) string {
	switch {
	case r.Base > r.Have:
		return "REPORT of a log that is dropped beyond its end"
	case r.Ring.Seq >= r.Ballot.Seq && !mutated(mutReuseSeq), r.Prepared.Seq >= r.Ballot.Seq && !mutated(mutReuseSeq):
		return "REPORT of a ring that is not older"
	case len(r.Last) > maxMembers, len(r.Reach) > maxMembers:
		return "REPORT of too many nodes"
	}
	for i := range r.Pend {
		e := &r.Pend[i]
		if e.Origin != from || e.Kind == 0 || e.OSeq == 0 || len(e.Data) > maxFragment || i > 0 && e.OSeq != r.Pend[i-1].OSeq+1 {
			return "REPORT of entries that cannot be"
		}
	}
	return ""
}

// last is the highest oseq of a node that a reporter has delivered; not known if
// it has seen nothing of it.
func (r *Report) last(nk NK) (uint64, bool) {
	for _, l := range r.Last {
		if l.Origin == nk {
			return l.OSeq, true
		}
	}
	return 0, false
}

// arrange decides on the next view, and how each old log is closed, when all
// reports are here (P2).
func (c *Core) arrange() {
	if c.handOver() {
		return
	}
	t := c.try
	late := t.late()
	p := &Prepare{Ballot: t.ballot, Members: append([]NK{c.self}, others(t.set, c.self)...)}
	t.starts = make([]uint64, len(t.set))
	for i, r := range t.reports {
		t.starts[i], _ = r.last(t.set[i])
		if n := len(r.Pend); n > 0 && !mutated(mutPendKept) {
			t.starts[i] = r.Pend[n-1].OSeq
		}
		ring := r.Ring
		if late[i] {
			ring = r.Prepared
		}
		if slices.ContainsFunc(p.Groups, func(g OldRing) bool { return g.Ring == ring }) {
			continue
		}
		g, culprit, wrong := t.closeRing(ring, late)
		if wrong != "" {
			if culprit == c.self {
				culprit = g.Holder
			}
			if culprit != c.self {
				c.punish(culprit, wrong)
			}
			if c.try == t { // the break has not ended it
				c.abort(wrong)
			}
			return
		}
		p.Groups = append(p.Groups, g)
	}
	t.prepare = p
	if to := others(t.set, c.self); len(to) > 0 {
		c.emit(Send{To: to, Frame: p})
	}
	c.rearm(tFlush, c.flushTime())
	c.onPrepare(c.self, p)
}

// late finds the nodes that are READY for a ring which another has installed:
// they install it first. The other must be in that ring itself, so that there is
// somebody who has its log; hence newer rings come first.
func (t *attempt) late() []bool {
	late := make([]bool, len(t.set))
	if mutated(mutNoLate) {
		return late
	}
	var order []int
	for i, r := range t.reports {
		if r.Prepared != (ID{}) && r.Prepared.Seq > r.Ring.Seq {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return -cmp.Compare(t.reports[a].Prepared.Seq, t.reports[b].Prepared.Seq)
	})
	for _, i := range order {
		found, dropped := false, false
		for j, r := range t.reports {
			if !late[j] && r.Ring == t.reports[i].Prepared {
				found = true
				dropped = dropped || r.Base > 0
			}
		}
		// Nothing is dropped before every member has acknowledged it, and this one
		// has not: whoever says otherwise cannot serve it.
		late[i] = found && !dropped
	}
	return late
}

// closeRing decides how the log of one old ring ends. If something in the
// reports cannot be, it says what, and whose report it is.
func (t *attempt) closeRing(ring ID, late []bool) (g OldRing, culprit NK, wrong string) {
	g = OldRing{Ring: ring}
	var holder *Report
	var in []int
	for i, r := range t.reports {
		if late[i] && r.Prepared == ring {
			g.Parts, g.Have = append(g.Parts, t.set[i]), append(g.Have, 0)
			g.Late = append(g.Late, t.set[i])
			continue
		}
		if late[i] || r.Ring != ring {
			continue
		}
		in = append(in, i)
		g.Parts, g.Have = append(g.Parts, t.set[i]), append(g.Have, r.Have)
		better := holder == nil || r.Have > holder.Have
		if mutated(mutSmallestHolder) {
			better = holder == nil || r.Have < holder.Have
		}
		if better {
			holder, g.Holder, g.End = r, t.set[i], r.Have
		}
	}
	g.Base = slices.Min(g.Have)
	if g.Base < holder.Base {
		return g, g.Parts[slices.Index(g.Have, g.Base)], fmt.Sprintf(
			"the log of ring %v is needed from %d on, and dropped up to %d", ring, g.Base, holder.Base)
	}
	oldSequencer := slices.ContainsFunc(g.Parts, func(nk NK) bool { return nk.ID == ring.Rep })
	if mutated(mutPendKept) && oldSequencer {
		return g, NK{}, ""
	}
	for _, i := range in {
		last, known := holder.last(t.set[i])
		for _, e := range t.reports[i].Pend {
			if e.OSeq <= last && !mutated(mutTailUnfiltered) {
				continue
			}
			if known && e.OSeq != last+1 && !mutated(mutTailUnfiltered) {
				return g, t.set[i], fmt.Sprintf("entry %d of node %v does not follow its %d", e.OSeq, t.set[i], last)
			}
			g.Tail = append(g.Tail, e)
			last, known = e.OSeq, true
		}
	}
	return g, NK{}, ""
}
