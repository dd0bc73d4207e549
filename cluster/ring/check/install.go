package check

import (
	"slices"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// An Install is a ring that a node has installed.
type Install struct {
	View         ring.View
	Old          ring.ID // zero at the start
	Transitional []ring.NK

	// Before and After are hashes of the application's tables, before and
	// behind the install. Optional: 0 is not looked at.
	Before, After uint64
}

// Install tells that n has installed a ring.
func (t *Trace) Install(n ring.NK, in Install) {
	x := t.node(n)
	if x.stopped {
		t.add("I10", n.String(), "installs ring %v after its end", in.View.Ring)
		return
	}
	if !t.sane(n, in) {
		return
	}
	if x.ring != nil && in.Old != x.ring.key.id {
		t.add("I4", n.String(), "ring %v follows %v, but the node is in %v", in.View.Ring, in.Old, x.ring.key.id)
	}
	// A node that dies before its disk has a word of it may start in a ring of the
	// same number again: nobody else can have been in it, nor heard of it.
	first := in.Old == ring.ID{} && len(in.View.Members) == 1
	if last := t.last[n.ID]; in.View.Ring.Seq < last.id.Seq || in.View.Ring.Seq == last.id.Seq && !(first && last.first) {
		t.add("I2", n.String(), "ring %v after %v", in.View.Ring, last.id)
	}
	t.last[n.ID] = lastRing{in.View.Ring, first}
	t.leave(x)
	r := t.ring(n, in.View)
	if x.ring != nil {
		t.together(x, r, in)
	}
	t.sources(x, r, in)
	if in.After != 0 {
		if r.tabled && r.after != in.After {
			t.add("I12", n.String(), "the tables behind the install of %v differ from those of others", in.View.Ring)
		}
		r.after, r.tabled = in.After, true
	}
	x.ring, x.next, x.count, x.hash, x.tail, x.pos = r, 0, 0, 0, false, 0
	x.cur = make([]*seen, len(r.members))
}

// sane holds what a view must be by itself: I1.
func (t *Trace) sane(n ring.NK, in Install) bool {
	m := in.View.Members
	if !slices.Contains(m, n) {
		t.add("I1", n.String(), "is not in its own ring %v: %v", in.View.Ring, m)
		return false
	}
	if m[0].ID != in.View.Ring.Rep {
		t.add("I1", n.String(), "ring %v is led by %v", in.View.Ring, m[0])
		return false
	}
	for i := 2; i < len(m); i++ {
		if m[i-1].ID >= m[i].ID {
			t.add("I1", n.String(), "the members of ring %v are not in order: %v", in.View.Ring, m)
			return false
		}
	}
	return true
}

// ring gives what is known about the ring of a view, and holds I1.
func (t *Trace) ring(n ring.NK, v ring.View) *ringLog {
	key := ringKey{v.Ring, v.Members[0].Boot}
	if other, ok := t.ids[v.Ring]; ok && other != key && !t.lost && (len(v.Members) > 1 || len(t.rings[other].members) > 1) {
		t.add("I1", n.String(), "ring %v was formed by %d/%d before", v.Ring, v.Ring.Rep, other.boot)
	}
	t.ids[v.Ring] = key
	r := t.rings[key]
	if r == nil {
		r = &ringLog{key: key, members: slices.Clone(v.Members)}
		r.from = make([]claim, len(r.members))
		t.rings[key] = r
	} else if !slices.Equal(r.members, v.Members) {
		t.add("I1", n.String(), "the members of ring %v are %v, and elsewhere %v", v.Ring, v.Members, r.members)
	}
	return r
}

// together holds I4 and I12 for x, which goes to r.
func (t *Trace) together(x *node, r *ringLog, in Install) {
	m := t.moves[move{x.ring.key, r.key}]
	if m == nil {
		t.moves[move{x.ring.key, r.key}] = &moved{x.nk, x.count, x.hash, slices.Clone(in.Transitional), in.Before}
		return
	}
	switch {
	case m.count != x.count || m.hash != x.hash:
		t.add("I4", x.nk.String(), "from ring %v to %v: %d messages were delivered, at %v %d, or they differ", x.ring.key.id, r.key.id, x.count, m.by, m.count)
	case !slices.Equal(m.transitional, in.Transitional):
		t.add("I4", x.nk.String(), "from ring %v to %v: comes with %v, by %v it is %v", x.ring.key.id, r.key.id, in.Transitional, m.by, m.transitional)
	case m.before != 0 && in.Before != 0 && m.before != in.Before:
		t.add("I12", x.nk.String(), "the tables at the end of ring %v differ from those of %v", x.ring.key.id, m.by)
	}
}

// sources holds the rest of I4: who is said to come from which ring does, and
// who does is said to.
func (t *Trace) sources(x *node, r *ringLog, in Install) {
	if !slices.Contains(in.Transitional, x.nk) {
		t.add("I4", x.nk.String(), "does not come to ring %v with itself: %v", r.key.id, in.Transitional)
		return
	}
	for _, nk := range in.Transitional {
		i := slices.Index(r.members, nk)
		if i < 0 {
			t.add("I4", x.nk.String(), "comes to ring %v with %v, which is not in it", r.key.id, nk)
			return
		}
		if c := &r.from[i]; c.known && c.old != in.Old {
			t.add("I4", x.nk.String(), "%v comes to ring %v from %v, but by %v from %v", nk, r.key.id, in.Old, c.by, c.old)
		} else {
			*c = claim{nk, in.Old, x.nk, true}
		}
	}
	for i, c := range r.from {
		if c.known && c.old == in.Old && !slices.Contains(in.Transitional, r.members[i]) {
			t.add("I4", x.nk.String(), "%v comes to ring %v from %v too, but is not told of", c.nk, r.key.id, in.Old)
		}
	}
}
