package ring

// index gives a member's place in the member list, or -1. Entries of one origin
// come in runs, so it looks where it looked last.
func (c *Core) index(nk NK) int {
	ms := c.view.Members
	if c.lastIdx < len(ms) && ms[c.lastIdx] == nk {
		return c.lastIdx
	}
	i := memberIndex(ms, nk)
	if i >= 0 {
		c.lastIdx = i
	}
	return i
}

// memberIndex finds a member in a list of which all but the first are sorted.
func memberIndex(ms []NK, nk NK) int {
	if len(ms) == 0 {
		return -1
	}
	if ms[0] == nk {
		return 0
	}
	lo, hi := 1, len(ms)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if CompareNK(ms[mid], nk) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(ms) && ms[lo] == nk {
		return lo
	}
	return -1
}

// onSubmitFrame orders what a member brings.
func (c *Core) onSubmitFrame(from NK, f *SubmitFrame) {
	idx := c.current(from, f.Ring)
	if idx < 0 {
		return
	}
	if !c.leads() {
		c.punish(from, "SUBMIT to a node that is not the sequencer")
		return
	}
	if !c.ack(from, idx, f.Pos) || len(f.Entries) == 0 {
		return
	}
	m := &c.members[idx]
	bytes := 0
	for i := range f.Entries {
		bytes += EntrySize(len(f.Entries[i].Data))
		if (m.unstable > 0 || i > 0) && m.unstable+bytes > 2*c.credit {
			c.punish(from, "SUBMIT beyond twice the credit")
			return
		}
	}
	c.outstanding()
	messages := make([]Message, 0, len(f.Entries))
	wrong := ""
	taken := 0
	for i := range f.Entries {
		e := &f.Entries[i]
		if e.Origin != from {
			wrong = "SUBMIT for another node"
			break
		}
		if wrong = m.fits(e); wrong != "" {
			wrong = "SUBMIT: " + wrong
			break
		}
		messages = c.place(e, idx, messages)
		taken++
	}
	c.foreign = true
	if len(c.unsent) == 0 {
		c.unsent = f.Entries[:taken:taken]
	} else {
		c.unsent = append(c.unsent, f.Entries[:taken]...)
	}
	c.unsentLen += bytes
	c.tellOrder()
	if len(messages) > 0 {
		c.emit(Deliver{Ring: c.view.Ring, Messages: messages})
	}
	if wrong != "" {
		c.punish(from, wrong)
	}
}

// current tells whether a frame of the stream of ring r, from a member, counts:
// its index, or -1. A break between the sequencer and a member is sticky (S1).
func (c *Core) current(from NK, r ID) int {
	if c.state != oper && !mutated(mutOrdAfterPromise) || r != c.view.Ring {
		return -1
	}
	idx := c.index(from)
	if idx < 0 || c.members[idx].broken && !mutated(mutNoSticky) {
		return -1
	}
	return idx
}

// orderOwn orders what this node, the sequencer, has itself. The log grows and
// the messages are delivered at once; an ORD about them may wait for company,
// when this node has just sent another and nobody has answered since.
func (c *Core) orderOwn() {
	c.outstanding()
	var messages []Message
	n := 0
	for {
		e, whole, last, ok := c.next()
		if !ok {
			break
		}
		n++
		c.keep(&e, c.me)
		if last {
			messages = append(messages, Message{
				Origin: c.self, OSeq: e.OSeq, Pos: c.log.end(), Kind: e.Kind, Data: whole,
			})
		}
		c.unsent = append(c.unsent, e)
		c.unsentLen += EntrySize(len(e.Data))
	}
	if n == 0 {
		return
	}
	gather := c.conf.Gather / 4
	if gather <= 0 || c.foreign || c.now-c.ownAt >= gather || c.unsentLen >= gatherBytes {
		c.ownAt, c.foreign = c.now, false
		c.tellOrder()
	} else {
		c.arm(tOrd, gather)
	}
	if len(messages) > 0 {
		c.emit(Deliver{Ring: c.view.Ring, Messages: messages})
	}
}

// tellOrder sends what is ordered and not told, in frames of a bounded size,
// and in any case what is stable.
func (c *Core) tellOrder() {
	c.disarm(tOrd)
	c.disarm(tIdle)
	first := c.log.end() - uint64(len(c.unsent)) + 1
	for rest := c.unsent; ; {
		n, bytes := 0, 0
		for n < len(rest) {
			bytes += EntrySize(len(rest[n].Data))
			if n > 0 && bytes > batchBytes {
				break
			}
			n++
		}
		if len(c.audience) > 0 {
			c.emit(Send{To: c.audience, Frame: &Ord{
				Ring:    c.view.Ring,
				First:   first,
				Stable:  min(c.stable, first-1),
				Credit:  uint32(min(c.credit, 1<<31)),
				Members: c.view.Members,
				Entries: rest[:n:n],
			}})
		}
		first += uint64(n)
		if rest = rest[n:]; len(rest) == 0 {
			break
		}
	}
	c.unsent, c.unsentLen = nil, 0
	c.told, c.untold = c.stable, 0
}

// onOrd takes in what the sequencer has ordered.
func (c *Core) onOrd(from NK, f *Ord) {
	idx := c.current(from, f.Ring)
	if idx < 0 {
		return
	}
	wrong := ""
	switch {
	case idx != 0 || c.leads():
		wrong = "ORD by a node that is not the sequencer"
	case !sameMembers(f.Members, c.view.Members):
		wrong = "ORD of other members"
	case f.First != c.log.end()+1 && !mutated(mutNoSticky):
		wrong = "ORD does not continue the log"
	case f.Stable > c.acked && !mutated(mutNoSticky) && !mutated(mutEarlyGarbage):
		wrong = "ORD calls stable what was not acknowledged"
	}
	if wrong != "" {
		c.punish(from, wrong)
		return
	}
	if f.Credit > 0 {
		c.credit = int(min(f.Credit, 1<<30))
	}
	c.pendSince = c.now
	wrong = c.takeEntries(f.Entries)
	if f.Stable > c.stable {
		c.stable = f.Stable
		c.collect(c.stable)
	}
	if wrong != "" {
		c.punish(from, "ORD: "+wrong)
		return
	}
	if c.state == oper {
		c.pump()
	}
	c.mustAck()
}

// sameMembers is cheap where it matters: the decoder is given the core's list.
func sameMembers(a, b []NK) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
