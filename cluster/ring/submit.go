package ring

import "errors"

// The errors of Refused.
var (
	ErrFull    = errors.New("ring: no room for a message now")
	ErrTooLong = errors.New("ring: message too long")
	ErrKind    = errors.New("ring: message without a kind")
)

// queued is a message of this node that is not wholly submitted. It stays whole
// until then, so that a new ring can get it from its first part on.
type queued struct {
	kind Kind
	data []byte
	sent int // bytes in entries of the installed ring
}

// part cuts off the next entry of m, which has no oseq yet.
func (m *queued) part(longest int) Entry {
	e := Entry{Kind: m.kind, Data: m.data[m.sent:]}
	if m.sent == 0 {
		e.Flags |= EntryFirst
	}
	if len(e.Data) > longest {
		e.Data = e.Data[:longest:longest]
		e.Flags |= EntryMore
	}
	return e
}

// Room is the length of the longest data that a Submit may have now, at most
// Config.MaxMessage. With 0 not even an empty one need be taken.
func (c *Core) Room() int {
	if c.queue.len() == 0 {
		return c.conf.MaxMessage
	}
	return min(max(c.conf.Queue-c.queuedBytes-entryOverhead, 0), c.conf.MaxMessage)
}

func (c *Core) onSubmit(ev Submit) {
	limit := c.conf.Queue
	if ev.Urgent {
		limit *= 2
	}
	size := EntrySize(len(ev.Data))
	switch {
	case ev.Kind == 0:
		c.emit(Refused{ErrKind})
		return
	case len(ev.Data) > c.conf.MaxMessage:
		c.emit(Refused{ErrTooLong})
		return
	case c.queue.len() > 0 && c.queuedBytes+size > limit:
		c.emit(Refused{ErrFull})
		return
	}
	if len(c.members) == 1 && c.state == oper {
		assert(c.queue.len() == 0, "a message waits in a ring of one")
		c.emit(Deliver{Ring: c.view.Ring, Messages: []Message{c.alone(ev.Kind, ev.Data)}})
		return
	}
	c.queue.push(queued{kind: ev.Kind, data: ev.Data})
	c.queuedBytes += size
	c.pump()
}

// alone orders a message in a ring of one, where it is stable at once. Its parts
// are counted and never made.
func (c *Core) alone(kind Kind, data []byte) Message {
	n := max(1, (len(data)+c.conf.Fragment-1)/c.conf.Fragment)
	c.log.skip(n)
	c.stable = c.log.end()
	c.oseq += uint64(n)
	c.members[0].last = c.oseq
	return Message{Origin: c.self, OSeq: c.oseq, Pos: c.stable, Kind: kind, Data: data}
}

// pump submits what waits, as far as the rules allow it now.
func (c *Core) pump() {
	if c.state != oper || c.queue.len() == 0 {
		return
	}
	switch {
	case len(c.members) == 1:
		messages := make([]Message, 0, c.queue.len())
		for c.queue.len() > 0 {
			m := c.queue.at(0)
			messages = append(messages, c.alone(m.kind, m.data))
			c.popQueue()
		}
		c.emit(Deliver{Ring: c.view.Ring, Messages: messages})
	case c.leads():
		c.orderOwn()
	case c.members[0].broken && !mutated(mutNoSticky):
		// The next ring takes them.
	case c.pend.len() == 0, c.queuedBytes >= gatherBytes, c.conf.Gather < 0:
		c.submitOwn()
	default:
		c.arm(tGather, c.conf.Gather)
	}
}

func (c *Core) popQueue() {
	c.queuedBytes -= EntrySize(len(c.queue.at(0).data))
	c.queue.pop()
	assert(c.queuedBytes >= 0, "the queue holds less than nothing")
}

// next takes the next entry off the queue, if the credit allows it. last gives
// the whole message with its last entry.
func (c *Core) next() (e Entry, whole []byte, last, ok bool) {
	if c.queue.len() == 0 {
		return Entry{}, nil, false, false
	}
	m := c.queue.at(0)
	e = m.part(c.conf.Fragment)
	onWay := c.members[c.me].unstable + c.pendBytes
	if onWay > 0 && onWay+EntrySize(len(e.Data)) > c.credit && !mutated(mutNoCredit) {
		return Entry{}, nil, false, false
	}
	c.oseq++
	e.Origin, e.OSeq = c.self, c.oseq
	m.sent += len(e.Data)
	if e.Flags&EntryMore == 0 {
		whole, last = m.data, true
		c.popQueue()
	}
	return e, whole, last, true
}

// submitOwn sends to the sequencer what the credit allows. With little credit
// left it waits for more, so as not to send entry by entry.
func (c *Core) submitOwn() {
	c.disarm(tGather)
	onWay := c.members[c.me].unstable + c.pendBytes
	if onWay > 0 && c.credit-onWay < c.credit/8 && !mutated(mutNoCredit) {
		return
	}
	var entries []Entry
	bytes := 0
	for {
		e, _, _, ok := c.next()
		size := EntrySize(len(e.Data))
		if len(entries) > 0 && (!ok || bytes+size > batchBytes) {
			c.send(c.view.Members[0], &SubmitFrame{Ring: c.view.Ring, Pos: c.log.end(), Entries: entries})
			c.haveAcked()
			entries, bytes = nil, 0
		}
		if !ok {
			return
		}
		if c.pend.len() == 0 {
			c.pendSince = c.now
			c.arm(tSlow, c.conf.Slow)
		}
		c.pend.push(e)
		c.pendBytes += size
		entries = append(entries, e)
		bytes += size
	}
}
