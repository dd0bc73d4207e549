package group

import (
	"cmp"
	"slices"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// side is what one old ring brings along: the groups as they were at its end.
type side map[string]attrs

// merge makes the table of a new ring. It depends on the statements alone, not
// on their order, so all members of the ring come to the same.
func merge(states []ring.NodeState) *table {
	states = slices.Clone(states)
	slices.SortStableFunc(states, func(a, b ring.NodeState) int { return ring.CompareNK(a.Node, b.Node) })
	states = slices.CompactFunc(states, func(a, b ring.NodeState) bool { return a.Node == b.Node })

	t := newTable()
	sides := make(map[ring.ID]side)
	procs := make([][]*proc, len(states))
	for i, st := range states {
		s, ok := decodeState(st.Data)
		if !ok {
			continue
		}
		procs[i] = s.procs
		if st.Lead && sides[st.From] == nil {
			sides[st.From] = t.takeSide(s.groups)
		}
	}
	for i, st := range states {
		for _, p := range procs[i] {
			p.node = st.Node
		}
	}
	t.adopt(slices.Concat(procs...))
	for i, st := range states {
		t.admit(procs[i], sides[st.From])
	}
	t.settle()
	return t
}

// takeSide takes in the groups of one old ring and gives them as its side.
func (t *table) takeSide(groups []*group) side {
	s := make(side, len(groups))
	for _, g := range groups {
		if _, twice := s[g.name]; twice {
			continue
		}
		s[g.name] = g.attrs
		have := t.groups[g.name]
		if have == nil {
			t.groups[g.name] = &group{name: g.name, attrs: g.attrs}
			continue
		}
		kept := have.kept || g.kept
		if g.beats(&have.attrs) {
			have.attrs = g.attrs
		}
		have.kept = kept
	}
	return s
}

// beats tells whether the group with a wins over the one with b: the older
// creation, then the later change. The rest only makes the order total.
func (a *attrs) beats(b *attrs) bool {
	c := cmp.Or(
		cmp.Compare(a.created, b.created), cmp.Compare(a.maker, b.maker),
		cmp.Compare(b.changed, a.changed), cmp.Compare(b.changer, a.changer),
		cmp.Compare(a.uid, b.uid), cmp.Compare(a.gid, b.gid), slices.Compare(a.modes[:], b.modes[:]),
		cmp.Compare(a.flags(), b.flags()))
	return c < 0
}

// adopt makes the groups that processes are in and nobody has stated, which no
// correct node leaves out: each is as if its first member had just made it.
func (t *table) adopt(procs []*proc) {
	orphans := slices.DeleteFunc(slices.Clone(procs), func(p *proc) bool { return t.groups[p.group.name] != nil })
	slices.SortStableFunc(orphans, func(a, b *proc) int {
		return cmp.Or(cmp.Compare(a.joined, b.joined), ring.CompareNK(a.node, b.node), cmp.Compare(a.inc, b.inc))
	})
	for _, p := range orphans {
		if t.groups[p.group.name] == nil {
			t.groups[p.group.name] = &group{name: p.group.name, attrs: attrs{
				uid: p.cred.uid, gid: p.cred.gid, modes: closedModes,
				created: p.joined, maker: p.node.ID,
			}}
		}
	}
}

// admit takes in a node's processes, except those whose side has lost a group
// in which they have no right now. Where the rights have not changed, who is in
// stays in, as a file stays open after a chmod.
func (t *table) admit(procs []*proc, s side) {
	for _, p := range procs {
		g := t.groups[p.group.name]
		if t.nodes[p.node][p.inc] != nil {
			continue // stated twice
		}
		was, stated := s[g.name]
		if (!stated || !was.sameRights(&g.attrs)) && !g.allows(p.cred, Feed, mayRead|mayWrite) {
			continue
		}
		p.group = g
		g.members = append(g.members, p) // settle sorts them
		if t.nodes[p.node] == nil {
			t.nodes[p.node] = make(map[uint32]*proc)
		}
		t.nodes[p.node][p.inc] = p
	}
}

// settle ends the groups that nothing keeps, and sorts and counts the others.
func (t *table) settle() {
	t.empty = make(map[uint32]int)
	for name, g := range t.groups {
		if len(g.members) == 0 && !g.kept {
			delete(t.groups, name)
			continue
		}
		slices.SortFunc(g.members, compareProcs)
		t.count(g, +1)
	}
}
