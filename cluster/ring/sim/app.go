package sim

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// An app is the application of a node: tables that are a fold of the log. Each
// node of the ring has a part of its own in them, which only its own messages
// change, and there is a part that belongs to nobody and that all change.
type app struct {
	ring   ring.ID
	parts  []part // sorted
	shared uint64
}

type part struct {
	nk  ring.NK
	sum uint64
}

func mix(h, v uint64) uint64 {
	h = (h ^ v) * 0x9e3779b97f4a7c15
	return h ^ h>>29
}

// hash is that of a message; eight bytes at a time, since it is taken at each
// delivery.
func hash(data []byte) uint64 {
	h := uint64(len(data)) + 1
	for ; len(data) >= 8; data = data[8:] {
		h = mix(h, binary.LittleEndian.Uint64(data))
	}
	for _, b := range data {
		h = mix(h, uint64(b))
	}
	return h
}

func (a *app) part(nk ring.NK) *part {
	i, ok := slices.BinarySearchFunc(a.parts, nk, func(p part, nk ring.NK) int { return ring.CompareNK(p.nk, nk) })
	if !ok {
		a.parts = slices.Insert(a.parts, i, part{nk: nk})
	}
	return &a.parts[i]
}

// apply takes a message of the log in.
func (a *app) apply(origin ring.NK, sum uint64) {
	p := a.part(origin)
	p.sum = mix(p.sum, sum)
	a.shared = mix(mix(mix(a.shared, uint64(origin.ID)), origin.Boot), sum)
}

// hash is that of all tables; never 0.
func (a *app) hash() uint64 {
	h := mix(1, a.shared)
	for _, p := range a.parts {
		h = mix(mix(mix(h, uint64(p.nk.ID)), p.nk.Boot), p.sum)
	}
	return h | 1
}

// state is what a node says of the tables as they will be after the tail, with
// so many bytes of nothing.
func (a *app) state(self ring.NK, ask ring.AskState, fill int) []byte {
	b := app{parts: slices.Clone(a.parts), shared: a.shared}
	for _, m := range ask.Tail {
		b.apply(m.Origin, hash(m.Data))
	}
	out := binary.LittleEndian.AppendUint64(nil, b.part(self).sum)
	if ask.Lead {
		out = binary.LittleEndian.AppendUint64(out, b.shared)
	}
	return append(out, make([]byte, fill)...)
}

// install takes a new ring in, after it has compared what is stated with what
// this node knows of it.
func (a *app) install(self ring.NK, in ring.Install) error {
	defer func() { a.ring = in.View.Ring }()
	if len(in.States) == 0 && len(in.View.Members) == 1 && in.Old == (ring.ID{}) {
		a.parts = []part{{nk: self}}
		return nil // the first ring of a life
	}
	next := app{}
	var leads []ring.NodeState
	for _, m := range in.View.Members {
		i := slices.IndexFunc(in.States, func(s ring.NodeState) bool { return s.Node == m })
		if i < 0 {
			return fmt.Errorf("%v states nothing", m)
		}
		s := in.States[i]
		if want := 8; len(s.Data) < want || s.Lead && len(s.Data) < 2*want {
			return fmt.Errorf("%v states %d bytes", m, len(s.Data))
		}
		if s.Lead {
			leads = append(leads, s)
		}
		sum := binary.LittleEndian.Uint64(s.Data)
		if together := slices.Contains(in.Transitional, m); together != (s.From == in.Old) {
			return fmt.Errorf("%v is from %v, and comes along from %v: %v", m, s.From, in.Old, together)
		} else if together && a.part(m).sum != sum {
			return fmt.Errorf("%v states another part than it is known to have", m)
		}
		next.part(m).sum = sum
	}
	if len(in.States) != len(in.View.Members) {
		return fmt.Errorf("%d states for %d members", len(in.States), len(in.View.Members))
	}
	slices.SortFunc(leads, func(a, b ring.NodeState) int { return int(a.From.Seq) - int(b.From.Seq) })
	for i, s := range leads {
		shared := binary.LittleEndian.Uint64(s.Data[8:])
		switch {
		case i > 0 && leads[i-1].From == s.From:
			return fmt.Errorf("%v and %v lead those from %v", leads[i-1].Node, s.Node, s.From)
		case s.From == in.Old && shared != a.shared:
			return fmt.Errorf("%v states other shared tables than are here", s.Node)
		}
		next.shared = mix(next.shared, shared)
	}
	if !slices.ContainsFunc(leads, func(s ring.NodeState) bool { return s.From == in.Old }) {
		return fmt.Errorf("nobody leads those from %v", in.Old)
	}
	*a = next
	return nil
}
