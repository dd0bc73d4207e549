package ring

import (
	"slices"
	"testing"
	"time"
)

// halfInstalled is a ring of 1 to 4 of which the coordinator, 1, has died right
// after it has told 2 but not 3 and 4; 2 has a message of it too.
func halfInstalled(t *testing.T) (b *bus, ring ID) {
	b = newBus(t)
	ns := b.cluster(3, nil)
	b.start(4, nil)
	for id := range uint32(3) {
		b.connect(id+1, 4)
	}
	b.drop = func(from, to NK, f Frame) bool {
		switch f.(type) {
		case *InstallFrame, *Ord:
			return to.ID > 2
		}
		return false
	}
	b.submit(1, "old ring")
	for len(ns[0].core.View().Members) < 4 {
		b.now += time.Millisecond
		for _, id := range b.ids {
			b.stepNode(b.nodes[id], Tick{})
		}
		b.run()
	}
	ring = ns[0].core.View().Ring
	b.submit(1, "new ring")
	b.run()
	if ns[1].core.View().Ring != ring || len(ns[1].delivered) != 2 || ns[2].core.View().Ring == ring {
		t.Fatalf("got %v at node 2, %v at node 3, want ring %v at 2 only", ns[1].core.View(), ns[2].core.View(), ring)
	}
	return b, ring
}

func TestChange_InstallsLateWhatOthersHaveInstalled(t *testing.T) {
	b, ring := halfInstalled(t)
	b.drop = nil
	b.kill(1)
	b.wait(2 * time.Second)
	for id := uint32(2); id <= 4; id++ {
		n := b.nodes[id]
		b.wantMembers(n, 2, 3, 4)
		i := slices.IndexFunc(n.installs, func(in Install) bool { return in.View.Ring == ring })
		if i < 0 || len(n.installs[i].States) != 4 || len(n.installs[i].View.Members) != 4 {
			t.Fatalf("node %v: got installs %+v, want ring %v among them, with its states", n.nk, n.installs, ring)
		}
		if in := n.installs[i+1]; in.Old != ring || len(in.Transitional) != 3 {
			t.Errorf("node %v: got %+v next, want all to come from ring %v", n.nk, in, ring)
		}
		if id < 4 {
			b.wantTexts(n, "old ring", "new ring")
		} else {
			b.wantTexts(n, "new ring")
		}
		if got := n.rings[len(n.rings)-1]; got != ring {
			t.Errorf("node %v: got the message in ring %v, want it in %v", n.nk, got, ring)
		}
	}
	b.wantNoBreaks()
}

func TestChange_NeverLateWhenTheOldLogWentOn(t *testing.T) {
	b, ring := halfInstalled(t)
	three := b.nodes[3]
	old := three.core.View()
	if r := three.core.ready; r == nil || r.Ballot != ring {
		t.Fatalf("got ready %+v, want it for ring %v", r, ring)
	}
	// Node 2, say, has more of the old log, by a ballot that fails afterwards.
	have := three.core.Stats().Position
	two := NK{2, 1}
	from := func(f Frame) { b.stepNode(three, Received{two, f}) }
	bal := ID{ring.Seq + 10, 2}
	from(&Propose{Ballot: bal, Set: []NK{two, three.nk}})
	if r := frames[*Report](b, 3, 2); len(r) != 1 || r[0].Prepared != ring {
		t.Fatalf("got %+v, want a REPORT that tells of ring %v", r, ring)
	}
	from(&Prepare{Ballot: bal, Members: []NK{two, three.nk}, Groups: []OldRing{{
		Ring: old.Ring, Parts: []NK{two, three.nk}, Have: []uint64{have + 1, have}, Base: have, End: have + 1, Holder: two,
	}}})
	b.link(3, 2).frames = nil
	last := three.core.members[memberIndex(old.Members, two)].last
	from(&Recover{Ballot: bal, Ring: old.Ring, Target: three.nk, First: have + 1, Entries: []Entry{{two, last + 1, 1, EntryFirst, []byte("x")}}})
	bal.Seq++
	b.nodes[3].noState = true
	from(&Propose{Ballot: bal, Set: []NK{two, three.nk}})
	r := frames[*Report](b, 3, 2)
	if len(r) != 1 || r[0].Have != have+1 {
		t.Fatalf("got %+v, want a REPORT of %d entries", r, have+1)
	}
	// It was READY for the ballot before, too, with the longer log, and that is
	// what counts; for the half-installed ring it is not any more.
	if r[0].Prepared == ring {
		t.Errorf("got a REPORT that tells of ring %v, in which the old log is shorter", ring)
	}
	b.wantNoBreaks()
}
