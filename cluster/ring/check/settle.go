package check

import (
	"slices"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// Settle holds I11 and I8: alive are the nodes that are there, all is healed
// since long, and nobody sends.
func (t *Trace) Settle(alive []ring.NK) {
	var first *node
	for _, nk := range alive {
		x := t.node(nk)
		if x.ring == nil {
			t.add("I11", nk.String(), "is in no ring")
			continue
		}
		if first == nil {
			first = x
			for _, m := range x.ring.members {
				if !slices.Contains(alive, m) {
					t.add("I11", nk.String(), "ring %v still has %v", x.ring.key.id, m)
				}
			}
			if len(x.ring.members) < len(alive) {
				t.add("I11", nk.String(), "ring %v has %v, but %v are there", x.ring.key.id, x.ring.members, alive)
			}
		}
		switch {
		case x.ring != first.ring:
			t.add("I11", nk.String(), "is in ring %v, and %v in %v", x.ring.key.id, first.nk, first.ring.key.id)
		case x.count != first.count || x.hash != first.hash:
			t.add("I11", nk.String(), "has delivered %d messages in ring %v, %v %d, or they differ", x.count, x.ring.key.id, first.nk, first.count)
		}
		if x.own != len(x.accepted) {
			t.add("I8", nk.String(), "has delivered %d of its own messages, and accepted %d", x.own, len(x.accepted))
		}
	}
}

// Held holds I14: n keeps so many bytes for others, of window unstable bytes
// for the whole ring and credit for each of its members.
func (t *Trace) Held(n ring.NK, bytes, window, credit int) {
	members := 1
	if x := t.node(n); x.ring != nil {
		members = len(x.ring.members)
	}
	if limit := window + members*credit; bytes > limit {
		t.add("I14", n.String(), "keeps %d bytes, with %d members no more than %d are allowed", bytes, members, limit)
	}
}
