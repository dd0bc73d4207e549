package ring

import (
	"math"
	"time"
)

// timer is one of the core's timers. They are few and fixed, so an array serves
// better than a heap.
type timer int

const (
	tOrd     timer = iota // the sequencer's own entries have waited enough for company
	tGather               // a member's entries have
	tAck                  // tell the sequencer how much of the log is here
	tIdle                 // tell the members what is stable
	tSlow                 // see who does not acknowledge
	tWish                 // propose, if a new ring is still wanted
	tInfo                 // ask the acting coordinator again
	tRecheck              // somebody who was left out may be taken again
	tReport               // reports are missing
	tRetry                // propose again
	tFlush                // the change does not end
	nTimers
)

const never = time.Duration(math.MaxInt64)

// Next tells when a Tick is due, if any.
func (c *Core) Next() (at time.Duration, ok bool) {
	at = never
	for _, t := range c.timers {
		at = min(at, t)
	}
	return at, at != never
}

// arm sets a timer that is not set, or set for later.
func (c *Core) arm(t timer, d time.Duration) { c.timers[t] = min(c.timers[t], c.now+d) }

// rearm sets a timer whatever it was.
func (c *Core) rearm(t timer, d time.Duration) { c.timers[t] = c.now + d }

func (c *Core) disarm(t timer) { c.timers[t] = never }

// tick runs the timers that are due.
func (c *Core) tick() {
	for t := range nTimers {
		if c.timers[t] > c.now {
			continue
		}
		c.timers[t] = never
		switch t {
		case tOrd:
			if c.state == oper && c.leads() && len(c.unsent) > 0 {
				c.ownAt, c.foreign = c.now, false
				c.tellOrder()
			}
		case tGather:
			if c.state == oper && !c.leads() && !c.members[0].broken {
				c.submitOwn()
			}
		case tAck:
			c.sendAck()
		case tIdle:
			if c.state == oper && c.leads() && c.stable > c.told {
				c.tellOrder()
			}
		case tSlow:
			c.findSlow()
		case tWish, tInfo, tRecheck:
			c.dirty = true
		case tReport:
			c.reportsMissing()
		case tRetry:
			if c.state == flush {
				c.proposeAgain("the last attempt failed")
			}
		case tFlush:
			c.flushTimeout()
		}
	}
}

// between is a random time.
func (c *Core) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(c.conf.Rand()%uint64(hi-lo+1))
}

// onPaused gives everybody time again: that they were not heard was our fault.
func (c *Core) onPaused() {
	c.pendSince = c.now
	for i := range c.members {
		c.members[i].ackMoved = c.now
	}
	if c.timers[tReport] != never {
		c.rearm(tReport, c.conf.Report)
	}
	if c.timers[tFlush] != never {
		c.rearm(tFlush, c.flushTime())
	}
}
