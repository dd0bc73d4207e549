package engine

import (
	"fmt"
	"time"

	"github.com/convoke-fs/convoke/cluster/quorum"
	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/cluster/session"
)

// Status is where the ring stands.
type Status struct {
	View    ring.View
	Since   time.Time // when it was installed
	Quorum  quorum.Status
	Age     time.Duration // since the coordinator was heard; 0 at the coordinator itself
	Stale   bool
	Changes uint64 // rings that were installed since the start
	Core    ring.Stats
	Session session.Stats
	// Delivered counts messages; Latency is a histogram of how long this node's
	// own took, with the bounds of LatencyBounds and one more for what is beyond.
	Delivered    uint64
	Carried      uint64 // bytes of them, with what each costs beside its data
	Latency      []uint64
	LatencySum   time.Duration
	LatencyCount uint64
}

// LatencyBounds are the upper bounds of Status.Latency.
func LatencyBounds() []time.Duration { return latencyBounds[:] }

// Status answers from memory.
func (e *Engine) Status() Status {
	age := e.age()
	e.mu.Lock()
	s := Status{
		View: e.view, Since: e.since, Quorum: e.quorum, Age: age, Stale: e.isStale, Changes: e.changes,
		Core: e.core.Stats(), Delivered: e.received, Carried: e.carried, LatencySum: e.latency.sum,
	}
	for _, n := range e.latency.buckets {
		s.Latency = append(s.Latency, n)
		s.LatencyCount += n
	}
	m := e.manager
	e.mu.Unlock()
	if m != nil {
		s.Session = m.Stats()
	}
	return s
}

// QuorumLine is the text of the file cluster/quorum, without its newline.
func (e *Engine) QuorumLine() string {
	age := e.age()
	e.mu.Lock()
	defer e.mu.Unlock()
	yes := "no"
	if e.quorum.Quorate {
		yes = "yes"
	}
	return fmt.Sprintf("quorate=%s votes=%d expected=%d ring=%s age=%.1f", yes, e.quorum.Votes, e.quorum.Expected, e.view.Ring, age.Seconds())
}

// age is how long ago the coordinator was heard. The session, whose heartbeat is
// word from it, too, is asked without the lock: it asks the engine for its ring
// while it greets others.
func (e *Engine) age() time.Duration {
	e.mu.Lock()
	age, m := time.Since(e.start), e.manager
	var c ring.NK
	if len(e.view.Members) > 0 {
		c, age = e.view.Members[0], time.Since(e.heard)
	}
	self := c == e.conf.Self
	e.mu.Unlock()
	if self {
		return 0
	}
	if m != nil {
		if heard, ok := m.Heard(c); ok {
			age = min(age, heard)
		}
	}
	return age
}

// watch looks every second whether the node has been alone with an old ring for
// too long.
func (e *Engine) watch() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var changing time.Time // since when there is no ring; zero: there is one
	for {
		select {
		case <-e.stop:
			return
		case <-tick.C:
			silent := e.age() > staleAfter
			e.mu.Lock()
			if e.core.Stats().State == "oper" {
				changing = time.Time{}
			} else if changing.IsZero() {
				changing = time.Now()
			}
			e.setStale(silent || !changing.IsZero() && time.Since(changing) > staleAfter)
			e.unlock()
		}
	}
}

// setStale tells of a change; mu is held.
func (e *Engine) setStale(stale bool) {
	if stale == e.isStale {
		return
	}
	e.isStale = stale
	if e.conf.Stale != nil {
		e.conf.Stale(stale)
	}
}
