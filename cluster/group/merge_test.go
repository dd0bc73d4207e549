package group

import (
	"math/rand/v2"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// stated gives what node states of t.
func (t *table) stated(node ring.NK, from uint64, lead bool) ring.NodeState {
	return ring.NodeState{
		Node: node, From: ring.ID{Seq: from, Rep: node.ID}, Lead: lead,
		Data: t.appendState(nil, node, lead),
	}
}

func mkdirAt(when int64, name string, uid uint32) op {
	o := verbOp(verbMkdir, name, credFor(uid))
	o.when = when
	return o
}

// mergeOf merges in all orders and checks that it makes no difference.
func mergeOf(t *testing.T, states ...ring.NodeState) *table {
	t.Helper()
	want := merge(states)
	if err := want.check(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		rand.Shuffle(len(states), func(i, j int) { states[i], states[j] = states[j], states[i] })
		if got := merge(states); string(got.dump()) != string(want.dump()) {
			t.Fatal("the merge depends on the order of the statements")
		}
	}
	return want
}

func TestMerge_OlderCreationWins(t *testing.T) {
	tests := []struct {
		name         string
		at1, at2     int64
		owner, other uint32
	}{
		{"older here", 1000, 2000, 1001, 1002},
		{"older there", 2000, 1000, 1002, 1001},
		{"same time, lower node", 1000, 1000, 1001, 1002},
	}
	for _, tt := range tests {
		a, b := newTable(), newTable()
		a.put(t, nk1, KindGroup, mkdirAt(tt.at1, "g", 1001))
		b.put(t, nk2, KindGroup, mkdirAt(tt.at2, "g", 1002))
		a.put(t, nk1, KindJoin, joinOp(1, 11, "g", credFor(1001)))
		b.put(t, nk2, KindJoin, joinOp(1, 22, "g", credFor(1002)))
		b.put(t, nk2, KindJoin, joinOp(2, 23, "g", credFor(0)))
		m := mergeOf(t, a.stated(nk1, 1, true), b.stated(nk2, 2, true))
		g := m.groups["g"]
		if g.uid != tt.owner {
			t.Errorf("%s: owner is %d, want %d", tt.name, g.uid, tt.owner)
		}
		for _, p := range g.members {
			if p.cred.uid == tt.other {
				t.Errorf("%s: %v of uid %d is still a member", tt.name, p.process(), tt.other)
			}
		}
		if len(g.members) != 2 {
			t.Errorf("%s: %d members are left, want the owner's and root's", tt.name, len(g.members))
		}
	}
}

func TestMerge_LaterChangeWins(t *testing.T) {
	chmod := func(mode uint32) op {
		o := verbOp(verbChange, "g", credFor(1001))
		o.set, o.file, o.mode = setMode, Feed, mode
		return o
	}
	mode := func(open bool) op {
		o := verbOp(verbMode, "g", credFor(1001))
		o.on = open
		return o
	}
	for name, tt := range map[string]struct {
		earlier, later op
		want           uint32 // mode of feed
	}{
		"closed after all":   {mode(true), mode(false), 0o600},
		"opened after all":   {mode(false), mode(true), 0o666},
		"chmod, to less":     {chmod(0o666), chmod(0o640), 0o640},
		"chmod, to more":     {chmod(0o640), chmod(0o666), 0o666},
		"chmod after a mode": {mode(false), chmod(0o660), 0o660},
	} {
		a := newTable()
		a.put(t, nk1, KindGroup, mkdirAt(1000, "g", 1001))
		b := a.clone()
		tt.earlier.when, tt.later.when = 1500, 2000
		a.put(t, nk2, KindGroup, tt.earlier)
		b.put(t, nk1, KindGroup, tt.later)
		m := mergeOf(t, b.stated(nk1, 1, true), a.stated(nk2, 2, true))
		if got := m.groups["g"].modes[Feed]; got != tt.want {
			t.Errorf("%s: mode is %03o, want %03o", name, got, tt.want)
		}
	}
}

// Who got in while he had the right to, on the side that wins, stays; who comes
// from the side where the group was still open has no right now.
func TestMerge_OnlyTheSideThatHasLostIsJudged(t *testing.T) {
	a := newTable()
	a.put(t, nk1, KindGroup, mkdirAt(1000, "g", 1001))
	a.put(t, nk1, KindGroup, op{verb: verbMode, when: 1500, name: []byte("g"), cred: credFor(1001), on: true})
	a.put(t, nk2, KindJoin, joinOp(1, 22, "g", credFor(1002)))
	b := a.clone()
	b.put(t, nk1, KindJoin, joinOp(1, 11, "g", credFor(1003)))
	b.put(t, nk1, KindGroup, op{verb: verbMode, when: 2000, name: []byte("g"), cred: credFor(1001)})
	m := mergeOf(t, b.stated(nk1, 1, true), a.stated(nk2, 2, true))
	g := m.groups["g"]
	if g.modes != closedModes {
		t.Errorf("modes are %o, want them closed", g.modes)
	}
	if len(g.members) != 1 || g.members[0].cred.uid != 1003 {
		t.Errorf("%d members are left, want that of uid 1003", len(g.members))
	}
}

func TestMerge_ProcessesAndGroupsStatedTwiceCountOnce(t *testing.T) {
	a := newTable()
	a.put(t, nk1, KindJoin, joinOp(1, 11, "g", credFor(1001)))
	once := a.stated(nk1, 1, true)
	twice := once
	p, g := a.nodes[nk1][1], a.groups["g"]
	twice.Data = le.AppendUint32(le.AppendUint32(nil, 2), 2)
	for range 2 {
		twice.Data = appendSized(twice.Data, p.append)
	}
	for range 2 {
		twice.Data = appendSized(twice.Data, g.append)
	}
	if m := mergeOf(t, twice); string(m.dump()) != string(a.dump()) {
		t.Errorf("the group has %d members, want 1", len(m.groups["g"].members))
	}
}

// A statement may have the members of a group in any order, and many of them.
func TestMerge_MembersStatedInAnyOrder(t *testing.T) {
	const n = 100000
	up, down := le.AppendUint64(nil, n), le.AppendUint64(nil, n)
	p := proc{n: 1, cred: credFor(1001), group: &group{name: "g"}}
	for i := range uint32(n) {
		p.inc, p.pid = i+1, i+1
		up = appendSized(up, p.append)
		p.inc, p.pid = n-i, n-i
		down = appendSized(down, p.append)
	}
	s := ring.NodeState{Node: nk1, Lead: true, Data: down}
	got := merge([]ring.NodeState{s})
	if err := got.check(); err != nil {
		t.Fatal(err)
	}
	s.Data = up
	if want := merge([]ring.NodeState{s}); string(got.dump()) != string(want.dump()) || len(got.groups["g"].members) != n {
		t.Errorf("%d members, want %d, and the order of the statement to make no difference", len(got.groups["g"].members), n)
	}
}

func TestMerge_KeptStaysKept(t *testing.T) {
	a, b := newTable(), newTable()
	a.put(t, nk1, KindJoin, joinOp(1, 11, "g", credFor(1001))) // at 1000
	b.put(t, nk2, KindGroup, mkdirAt(3000, "g", 1002))
	m := mergeOf(t, a.stated(nk1, 1, true), b.stated(nk2, 2, true))
	if g := m.groups["g"]; !g.kept || g.uid != 1001 {
		t.Errorf("kept is %v and the owner %d, want true and 1001", g.kept, g.uid)
	}
}

// A ring that changes and merges with nobody takes nobody's right.
func TestMerge_WhoIsInStaysIn(t *testing.T) {
	a := newTable()
	a.put(t, nk1, KindGroup, op{verb: verbMkdir, when: 1000, name: []byte("g"), cred: credFor(1001)})
	a.put(t, nk1, KindGroup, op{verb: verbMode, when: 1500, name: []byte("g"), cred: credFor(1001), on: true})
	a.put(t, nk2, KindJoin, joinOp(1, 22, "g", credFor(1002)))
	a.put(t, nk1, KindGroup, op{verb: verbMode, when: 2000, name: []byte("g"), cred: credFor(1001)})
	m := mergeOf(t, a.stated(nk1, 1, true), func() ring.NodeState {
		s := a.stated(nk2, 1, false)
		s.From.Rep = 1
		return s
	}())
	if string(m.dump()) != string(a.dump()) {
		t.Error("the table has changed with the ring")
	}
}

func TestMerge_GroupsGoWithTheirMembers(t *testing.T) {
	a := newTable()
	a.put(t, nk1, KindGroup, mkdirAt(1000, "kept", 1001))
	a.put(t, nk2, KindJoin, joinOp(1, 22, "kept", credFor(1001)))
	a.put(t, nk2, KindJoin, joinOp(2, 22, "lost", credFor(1001)))
	m := mergeOf(t, a.stated(nk1, 1, true)) // node 2 is not there
	if m.groups["lost"] != nil || m.groups["kept"] == nil {
		t.Errorf("got %d groups, want only the one that is kept", len(m.groups))
	}
}

func TestMerge_BrokenStatementsStateNothing(t *testing.T) {
	a, b := newTable(), newTable()
	a.put(t, nk1, KindJoin, joinOp(1, 11, "g", credFor(1001)))
	b.put(t, nk2, KindJoin, joinOp(1, 22, "g", credFor(1001)))
	good := a.stated(nk1, 1, true)
	bad := b.stated(nk2, 2, true)
	for n := range len(bad.Data) {
		s := bad
		s.Data = bad.Data[:n]
		m := mergeOf(t, good, s)
		if string(m.dump()) != string(a.dump()) {
			t.Fatalf("%d of %d bytes have changed the table", n, len(bad.Data))
		}
	}
	s := bad
	s.Data = append(append([]byte(nil), bad.Data...), 1, 2, 3)
	if m := mergeOf(t, good, s); len(m.groups["g"].members) != 2 {
		t.Error("a statement of a later version, with more at its end, is not understood")
	}
}

// No node leaves a group out of which it states members; one that does must
// not make the nodes differ, or give the group to anybody.
func TestMerge_OrphansHaveTheirFirstMembersGroup(t *testing.T) {
	a := newTable()
	first := joinOp(1, 11, "g", credFor(1001))
	a.put(t, nk1, KindJoin, first)
	b := newTable()
	second := joinOp(1, 22, "g", credFor(1002))
	second.when = first.when + 1
	b.put(t, nk2, KindJoin, second)
	m := mergeOf(t, a.stated(nk1, 1, false), b.stated(nk2, 2, false))
	if g := m.groups["g"]; g.uid != 1001 || len(g.members) != 1 {
		t.Errorf("owner is %d with %d members, want 1001 with 1", g.uid, len(g.members))
	}
}

func FuzzState(f *testing.F) {
	a := newTable()
	a.put(f, nk1, KindGroup, mkdirAt(1000, "g", 1001))
	a.put(f, nk1, KindJoin, joinOp(1, 11, "g", credFor(1001, 5, 6)))
	a.put(f, nk2, KindJoin, joinOp(1, 22, "h", credFor(0)))
	f.Add(a.appendState(nil, nk1, true), a.appendState(nil, nk2, false))
	f.Fuzz(func(t *testing.T, x, y []byte) {
		states := []ring.NodeState{
			{Node: nk1, From: ring.ID{Seq: 1, Rep: 1}, Lead: true, Data: x},
			{Node: nk2, From: ring.ID{Seq: 2, Rep: 2}, Lead: true, Data: y},
		}
		m := merge(states)
		if err := m.check(); err != nil {
			t.Fatal(err)
		}
		// All of them come from one ring now: the next is the same.
		again := merge([]ring.NodeState{m.stated(nk1, 3, true), m.stated(nk2, 3, false)})
		if err := again.check(); err != nil {
			t.Fatal(err)
		}
		next := m.stated(nk2, 3, false)
		next.From.Rep = nk1.ID
		if again := merge([]ring.NodeState{m.stated(nk1, 3, true), next}); string(again.dump()) != string(m.dump()) {
			t.Fatal("a change of the ring has changed the table")
		}
	})
}
