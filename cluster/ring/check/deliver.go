package check

import (
	"slices"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// A Delivery is one message that a node has delivered.
type Delivery struct {
	Origin ring.NK
	Seq    uint64 // grows with each message of the origin
	Ring   ring.ID
	Pos    uint64 // in the ring's log
	Tail   bool   // among those that close the log
	Sum    uint64 // of what it holds, as at Accept
}

// Deliver tells that n has delivered a message.
func (t *Trace) Deliver(n ring.NK, d Delivery) {
	x := t.node(n)
	switch {
	case x.stopped:
		t.add("I10", n.String(), "delivers after its end")
		return
	case x.ring == nil || x.ring.key.id != d.Ring:
		t.add("I7", n.String(), "delivers message %d of %v in ring %v, but is in %v", d.Seq, d.Origin, d.Ring, ringID(x.ring))
		return
	}
	i := slices.Index(x.ring.members, d.Origin)
	if i < 0 {
		t.add("I7", n.String(), "delivers a message of %v in ring %v, in which that is not", d.Origin, d.Ring)
		return
	}
	t.ordered(x, d)
	s := x.cur[i]
	if s == nil {
		if s = x.origins[d.Origin]; s == nil {
			s = &seen{origin: t.node(d.Origin)}
			x.origins[d.Origin] = s
		}
		x.cur[i] = s
	}
	if !t.fifo(x, s, d) {
		return
	}
	t.same(x, s, d)
	if d.Origin == n {
		t.mine(x, d)
	}
	x.count++
	x.hash = mix(mix(mixNK(x.hash, d.Origin), d.Seq), d.Sum)
}

func ringID(r *ringLog) ring.ID {
	if r == nil {
		return ring.ID{}
	}
	return r.key.id
}

// ordered holds I3 and I10.
func (t *Trace) ordered(x *node, d Delivery) {
	if d.Tail {
		x.tail = true
		return
	}
	if x.tail {
		t.add("I10", x.nk.String(), "message %d of %v at %d follows the tail of ring %v", d.Seq, d.Origin, d.Pos, d.Ring)
		return
	}
	if d.Pos <= x.pos {
		t.add("I10", x.nk.String(), "position %d follows %d in ring %v", d.Pos, x.pos, d.Ring)
		return
	}
	x.pos = d.Pos
	p := place{d.Origin, d.Seq, d.Pos}
	if x.next == len(x.ring.log) {
		x.ring.log = append(x.ring.log, p)
	} else if want := x.ring.log[x.next]; want != p {
		t.add("I3", x.nk.String(), "in ring %v, message %d is %d of %v at %d, and elsewhere %d of %v at %d",
			d.Ring, x.next+1, d.Seq, d.Origin, d.Pos, want.seq, want.origin, want.pos)
	}
	x.next++
}

// fifo holds I5 and the order of I6.
func (t *Trace) fifo(x *node, s *seen, d Delivery) bool {
	if n := len(s.seqs); n > 0 && d.Seq <= s.seqs[n-1] {
		if _, twice := slices.BinarySearch(s.seqs, d.Seq); twice {
			t.add("I5", x.nk.String(), "message %d of %v a second time, in ring %v at %d", d.Seq, d.Origin, d.Ring, d.Pos)
		} else {
			t.add("I6", x.nk.String(), "message %d of %v after %d, in ring %v at %d", d.Seq, d.Origin, s.seqs[n-1], d.Ring, d.Pos)
		}
		return false
	}
	s.seqs = append(s.seqs, d.Seq)
	if s.count == 0 {
		s.first = d.Seq
	}
	s.count++
	return true
}

// same holds I7, and that a message is the same everywhere.
func (t *Trace) same(x *node, s *seen, d Delivery) {
	o := s.origin
	i := s.at + 1
	if len(s.seqs) == 1 {
		i = 0
	}
	if i >= len(o.msgs) || o.msgs[i].seq != d.Seq {
		var there bool
		if i, there = find(o.msgs, d.Seq); !there {
			o.msgs = slices.Insert(o.msgs, i, message{seq: d.Seq, sum: d.Sum, ring: x.ring, deliver: x.nk})
		}
	}
	s.at = i
	m := &o.msgs[i]
	if m.sum != d.Sum {
		t.add("I6", x.nk.String(), "message %d of %v is another one than at %v", d.Seq, d.Origin, m.deliver)
	}
	if m.ring != x.ring {
		t.add("I7", x.nk.String(), "message %d of %v in ring %v, and at %v in %v", d.Seq, d.Origin, d.Ring, m.deliver, m.ring.key.id)
	}
}

// mine holds I9.
func (t *Trace) mine(x *node, d Delivery) {
	switch {
	case x.own >= len(x.accepted):
		t.add("I6", x.nk.String(), "delivers its own message %d, which it never accepted", d.Seq)
	case x.accepted[x.own] != d.Sum:
		t.add("I9", x.nk.String(), "its own message %d is not the %d. that it accepted", d.Seq, x.own+1)
	}
	x.own++
}
