package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/cluster/ring/check"
)

// A Result is what came of a run.
type Result struct {
	Violations []check.Violation
	Hash       uint64        // of all that happened
	Settled    time.Duration // when the last ring was installed
	Steps      uint64        // of all cores
	Frames     int
	Delivered  int // messages, at all nodes
	Tail       int // of them, in what closes a ring
	Accepted   int
	Refused    int
	Installs   int
	Late       int // of them, on the way to another ring
	Attempts   int // PROPOSEs
	Failed     int // of them, given up
	Recovers   int // RECOVERs
	Nacks      int
	MostHeld   int // bytes
}

// Add adds another result's counts to r.
func (r *Result) Add(x Result) {
	r.Steps += x.Steps
	r.Frames += x.Frames
	r.Delivered += x.Delivered
	r.Tail += x.Tail
	r.Accepted += x.Accepted
	r.Refused += x.Refused
	r.Installs += x.Installs
	r.Late += x.Late
	r.Attempts += x.Attempts
	r.Failed += x.Failed
	r.Recovers += x.Recovers
	r.Nacks += x.Nacks
	r.MostHeld = max(r.MostHeld, x.MostHeld)
	r.Settled = max(r.Settled, x.Settled)
}

func (r Result) String() string {
	return fmt.Sprintf("%d messages accepted, %d refused, %d deliveries (%d in tails), %d frames, %d steps, %d installs (%d late) in %d attempts (%d failed), %d recovers, %d nacks; at most %d bytes kept; last install at %v",
		r.Accepted, r.Refused, r.Delivered, r.Tail, r.Frames, r.Steps, r.Installs, r.Late, r.Attempts, r.Failed, r.Recovers, r.Nacks, r.MostHeld, r.Settled.Round(time.Millisecond))
}

// count counts a frame that is sent to n nodes.
func (r *Result) count(f ring.Frame, n int) {
	r.Frames += n
	switch f.(type) {
	case *ring.Recover:
		r.Recovers++
	case *ring.Nack:
		r.Nacks++
	}
}

// noted takes a note of the core.
func (l *life) noted(text string) {
	switch r := &l.w.res; {
	case strings.HasPrefix(text, "install ring ") && strings.HasSuffix(text, " late"):
		r.Late++
	case strings.HasPrefix(text, "propose ring "):
		r.Attempts++
	case strings.Contains(text, " is given up: "):
		r.Failed++
	}
	l.logf("%s", text)
}
