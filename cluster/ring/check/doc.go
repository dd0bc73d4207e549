// Package check judges what happened in a cluster, by the invariants of the
// ring. It does not know how the ring works, only what it promises, so it takes
// traces of a simulation as well as those of daemons.
//
// A [Trace] is fed with what the nodes did: which rings they installed, which
// messages they accepted and which they delivered. It holds I1 to I12 and I14:
//
//	I1   one membership per ring, and each node is in its own
//	I2   ring numbers grow at each node, over restarts too
//	I3   the ordered parts of a ring's log are prefixes of each other
//	I4   nodes that go from one ring to the next together have delivered the same
//	I5   no duplicates
//	I6   nothing out of nothing, and in the order of the origin, without holes
//	I7   a message is delivered in one ring, everywhere
//	I8   an origin that stays delivers all that it has accepted
//	I9   an origin delivers its own messages in the order in which it took them
//	I10  the log has no gaps, and its tail ends it
//	I11  when all is healed there is one ring of all, with equal logs
//	I12  the application's tables are equal at nodes that moved together
//	I14  what is kept for others is bounded
//
// [Feeds] judges what members of one group read, where only that is known.
//
// Both take time in proportion to the length of what they are given.
package check

import (
	"fmt"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// A Violation is one broken invariant.
type Violation struct {
	Rule string // "I1" to "I14"
	Node string // where it was seen
	Text string
}

func (v Violation) String() string { return fmt.Sprintf("%s at %s: %s", v.Rule, v.Node, v.Text) }

// maxViolations is how many are kept: the first one is what matters, and what
// follows from it may be as long as the trace.
const maxViolations = 20

// list collects violations.
type list struct{ vs []Violation }

func (l *list) add(rule, node, format string, args ...any) {
	if len(l.vs) < maxViolations {
		l.vs = append(l.vs, Violation{rule, node, fmt.Sprintf(format, args...)})
	}
}

// Sum is a hash of data (FNV-1a, 64 bits), by which messages are compared.
func Sum(data []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range data {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

// mix adds v to the hash h of a sequence.
func mix(h, v uint64) uint64 {
	h = (h ^ v) * 0x9e3779b97f4a7c15
	return h ^ h>>29
}

func mixNK(h uint64, n ring.NK) uint64 { return mix(mix(h, uint64(n.ID)), n.Boot) }
