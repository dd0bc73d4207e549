package ring

import "time"

// learn raises the highest ring seq that is known, and asks for a ceiling on
// disk before the one held is reached.
func (c *Core) learn(seq uint64) {
	c.maxSeq = max(c.maxSeq, seq)
	if c.maxSeq+reserveAhead > c.asked {
		c.asked = c.maxSeq + reserve
		c.emit(Persist{c.asked})
	}
}

// plausible tells whether ring seqs told by another node may be believed: without
// the bound one lie would use up all numbers (S13), and without one for each
// second many small lies would, in some hours. Beyond it this node still moves up
// by the bound: whoever was lied to just below it must not stay apart from the
// others for ever.
func (c *Core) plausible(seqs ...uint64) bool {
	if c.now-c.seqAt >= time.Second {
		c.seqFrom, c.seqAt = c.maxSeq, c.now
	}
	for _, seq := range seqs {
		if seq > c.seqFrom && seq-c.seqFrom > maxSeqStep {
			c.learn(c.seqFrom + maxSeqStep)
			return false
		}
	}
	return true
}

// covered tells whether frames of a ballot may leave: after a restart this node
// must not be able to use or promise the number again.
func (c *Core) covered(b ID) bool { return b.Seq <= c.durable || mutated(mutEarlyReport) }

func (c *Core) onDurable(ceiling uint64) {
	c.durable = max(c.durable, ceiling)
	c.dirty = true // this node may have wanted to propose
	c.release()
	if f := c.proposed; f != nil && c.covered(f.Ballot) {
		c.proposed = nil
		if c.isUp(c.proposedBy) {
			c.onPropose(c.proposedBy, f)
		}
	}
}

// release sends what has waited for the disk.
func (c *Core) release() {
	if t := c.try; t != nil && !t.sent && c.covered(t.ballot) {
		c.sendPropose()
	}
	if c.owed && c.covered(c.promised) {
		c.sendReport()
	}
	if c.stated != nil && c.covered(c.promised) {
		c.sendReady()
	}
}
