package ring

import "fmt"

// outstanding is called before the sequencer's log grows: who has it all so far
// is given time from now on to acknowledge what comes.
func (c *Core) outstanding() {
	end := c.log.end()
	for i := range c.members {
		if m := &c.members[i]; i != c.me && m.ack == end {
			m.ackMoved = c.now
		}
	}
	c.arm(tSlow, c.conf.Slow)
}

// mustAck sees to it that the sequencer learns soon how much of the log is here.
func (c *Core) mustAck() {
	if c.state != oper || c.acked == c.log.end() {
		return
	}
	if c.unacked >= min(ackBytes, c.credit/2) {
		c.sendAck()
		return
	}
	c.arm(tAck, c.conf.Ack)
}

func (c *Core) sendAck() {
	c.disarm(tAck)
	if c.state != oper || c.leads() || c.acked == c.log.end() || c.members[0].broken {
		return
	}
	c.send(c.view.Members[0], &Ack{Ring: c.view.Ring, Pos: c.log.end()})
	c.haveAcked()
}

func (c *Core) haveAcked() {
	c.disarm(tAck)
	c.acked, c.unacked = c.log.end(), 0
}

func (c *Core) onAckFrame(from NK, f *Ack) {
	idx := c.current(from, f.Ring)
	if idx < 0 {
		return
	}
	if !c.leads() {
		c.punish(from, "ACK to a node that is not the sequencer")
		return
	}
	c.ack(from, idx, f.Pos)
}

// ack takes in how much of the log a member has. It is false for a lie.
func (c *Core) ack(from NK, idx int, pos uint64) bool {
	m := &c.members[idx]
	told := c.log.end() - uint64(len(c.unsent))
	switch {
	case pos < m.ack || pos > told:
		c.punish(from, fmt.Sprintf("ACK of %d, after %d, of %d entries", pos, m.ack, told))
		return false
	case pos == m.ack:
		return true
	}
	m.ack, m.ackMoved = pos, c.now
	c.advance()
	return true
}

// advance finds out how much of the log every member has, at the sequencer.
func (c *Core) advance() {
	low := c.log.end()
	if mutated(mutEarlyGarbage) {
		low = 0
	}
	for i := range c.members {
		if i == c.me {
			continue
		}
		if mutated(mutEarlyGarbage) {
			low = max(low, c.members[i].ack)
		} else {
			low = min(low, c.members[i].ack)
		}
	}
	if low <= c.stable {
		return
	}
	c.stable = low
	c.collect(low)
	// Those who wait for credit must hear of it before they stand still.
	if c.untold >= max(1, c.credit/4) {
		c.tellOrder()
	} else {
		c.arm(tIdle, c.conf.Idle)
	}
	c.pump()
}

// collect drops the entries up to position to, which every member has.
func (c *Core) collect(to uint64) {
	if to > 0 {
		c.born = nil // position 0
	}
	for c.log.base < to && c.log.items.len() > 0 {
		it := c.log.items.at(0)
		size := EntrySize(len(it.Data))
		m := &c.members[it.idx]
		m.unstable -= size
		assert(m.unstable >= 0, "less than nothing is unstable")
		c.untold += size
		c.log.drop()
	}
}

// findSlow puts out the members that leave the ring waiting.
func (c *Core) findSlow() {
	if c.state != oper {
		return
	}
	if !c.leads() {
		c.findSlowSequencer()
		return
	}
	end := c.log.end()
	for i := range c.members {
		m := &c.members[i]
		if i == c.me || m.broken || m.ack >= end {
			continue
		}
		nk := c.view.Members[i]
		if wait := m.ackMoved + c.conf.Slow - c.now; wait > 0 {
			c.arm(tSlow, wait)
			continue
		}
		c.note(fmt.Sprintf("node %v has not acknowledged anything for %v, at %d of %d: it is put out", nk, c.conf.Slow, m.ack, end))
		m.slow = true
		c.lose(i)
		if p := c.peer(nk.ID); p != nil && p.nk == nk {
			p.shun(c.now)
		}
	}
}

// findSlowSequencer breaks with a sequencer that lives and does not order: only
// a new ring can help then, and the others may still be served by it.
func (c *Core) findSlowSequencer() {
	m := &c.members[0]
	if m.broken || c.pend.len() == 0 {
		return
	}
	if wait := c.pendSince + c.conf.Slow - c.now; wait > 0 {
		c.arm(tSlow, wait)
		return
	}
	c.punish(c.view.Members[0], fmt.Sprintf("it has ordered nothing for %v", c.conf.Slow))
}
