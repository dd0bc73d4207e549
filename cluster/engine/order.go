package engine

import (
	"syscall"
	"time"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/cluster/ring"
)

// order is the log as the groups use it.
type order struct{ e *Engine }

var _ group.Order = order{}

// Submit implements group.Order.
func (o order) Submit(kind ring.Kind, data []byte) error {
	e := o.e
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return syscall.ENODEV
	}
	urgent := kind != group.KindMulticast && kind != group.KindSend
	if !urgent && e.core.Room() < len(data) {
		e.full = true
		e.mu.Unlock()
		return syscall.EAGAIN
	}
	e.refused = nil
	e.latency.submitted()
	e.step(ring.Submit{Kind: kind, Data: data, Urgent: urgent})
	err := e.refused
	e.unlock()
	if err != nil {
		return syscall.ENOBUFS // of those that find room when messages do not
	}
	return nil
}

// latency measures how long messages of this node take until they are delivered
// here, one at a time: what is delivered comes in the order of what was
// submitted, so counting is enough.
type latency struct {
	sent, seen uint64 // messages
	probe      uint64 // which of them is measured, 0: none
	at         time.Time
	buckets    [len(latencyBounds) + 1]uint64
	sum        time.Duration
}

// latencyBounds are the upper bounds of the histogram's buckets.
var latencyBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond,
	50 * time.Millisecond, 200 * time.Millisecond, time.Second,
}

func (l *latency) submitted() {
	l.sent++
	if l.probe == 0 {
		l.probe, l.at = l.sent, time.Now()
	}
}

func (l *latency) delivered(ms []ring.Message, self ring.NK) {
	for i := range ms {
		if ms[i].Origin == self {
			l.seen++
		}
	}
	if l.probe == 0 || l.seen < l.probe {
		return
	}
	d := time.Since(l.at)
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	l.buckets[i]++
	l.sum += d
	l.probe = 0
}

// drop forgets the present measurement, which a change of the ring has spoilt.
func (l *latency) drop() { l.probe = 0 }
