package ring

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestChange_PromisesBySeqOnly(t *testing.T) {
	b, _, two := pair(t, nil)
	seq := two.core.View().Ring.Seq
	for _, c := range []struct {
		seq  uint64
		nack bool
	}{{seq - 1, true}, {seq, true}, {seq + 5, false}, {seq + 5, true}, {seq + 4, true}, {seq + 6, false}} {
		b.start(9, nil)
		b.connect(2, 9)
		b.link(2, 9).frames = nil
		b.stepNode(two, Received{NK{9, b.nodes[9].nk.Boot}, &Propose{
			Ballot: ID{c.seq, 9}, Set: []NK{two.nk, b.nodes[9].nk}}})
		nacks, reports := frames[*Nack](b, 2, 9), frames[*Report](b, 2, 9)
		if len(nacks)+len(reports) != 1 || len(nacks) == 1 != c.nack {
			t.Errorf("seq %d of %d: got %d NACKs and %d REPORTs, want a NACK: %v", c.seq, seq, len(nacks), len(reports), c.nack)
		}
	}
}

func TestChange_NothingLeavesBeforeTheDiskHasIt(t *testing.T) {
	b := newBus(t)
	one, two := b.start(1, nil), b.start(2, nil)
	// Far ahead of what is on disk.
	for _, n := range []*busNode{one, two} {
		n.slowDisk = true
	}
	three := b.start(3, func(c *Config) { c.MaxSeq = 1 << 20 })
	promised := 0
	b.drop = func(from, to NK, f Frame) bool {
		switch f := f.(type) {
		case *Propose:
			promised++
			if from.ID != 3 {
				t.Errorf("node %v proposes %v", from, f.Ballot)
			}
		case *Report, *Ready:
			t.Errorf("node %v sends a %T", from, f)
		}
		return false
	}
	b.connect(1, 2)
	b.connect(1, 3)
	b.connect(2, 3)
	b.wait(2 * time.Second)
	if promised == 0 {
		t.Error("nobody proposed anything")
	}
	b.drop = nil
	for _, n := range []*busNode{one, two} {
		n.slowDisk = false
		b.stepNode(n, Durable{slices.Max(n.persisted)})
	}
	b.wait(3 * time.Second)
	for _, n := range []*busNode{one, two, three} {
		b.wantMembers(n, 1, 2, 3)
	}
	b.wantNoBreaks()
}

func TestChange_CeilingsAreAskedForAhead(t *testing.T) {
	b, one, two := pair(t, nil)
	for range 20 {
		b.cut(1, 2, true)
		b.wait(time.Second)
		b.connect(1, 2)
		b.wait(time.Second)
	}
	b.wantMembers(two, 1, 2)
	if len(one.persisted) != 1 {
		t.Errorf("got ceilings %v for %d rings, want one", one.persisted, len(one.installs))
	}
	// What the next start is given covers all that was used.
	seq := one.core.View().Ring.Seq
	b.kill(1)
	if again := b.start(1, nil); again.core.View().Ring.Seq <= seq {
		t.Errorf("got ring %v after %d", again.core.View().Ring, seq)
	}
}

func TestChange_NoTimePassesWhenTheDeathIsKnown(t *testing.T) {
	for _, dead := range []uint32{1, 2, 3} {
		b := newBus(t)
		b.cluster(3, nil)
		b.kill(dead)
		b.run()
		for _, id := range []uint32{1, 2, 3} {
			if id != dead {
				b.wantMembers(b.nodes[id], slices.DeleteFunc([]uint32{1, 2, 3}, func(x uint32) bool { return x == dead })...)
				if got, want := b.nodes[id].lastInstall().Cause, fmt.Sprintf("node %d is gone", dead); got != want {
					t.Errorf("got cause %q, want %q", got, want)
				}
			}
		}
		b.wantNoBreaks()
	}
}

func TestChange_ALostCoordinatorIsReplacedByAllTogether(t *testing.T) {
	// The members notice at different times that it does not answer.
	b := newBus(t)
	ns := b.cluster(4, nil)
	for i, id := range []uint32{3, 2, 4} {
		b.now += time.Duration(i) * 80 * time.Millisecond
		b.cut(1, id, false)
		b.wait(0)
	}
	b.wait(2 * time.Second)
	for _, n := range ns[1:] {
		b.wantMembers(n, 2, 3, 4)
		in := n.lastInstall()
		if len(n.installs) != len(ns[1].installs) || len(in.Transitional) != 3 {
			t.Errorf("node %v: got %d installs, the last %+v, want all three to go together", n.nk, len(n.installs), in)
		}
	}
}

func TestChange_AResetCostsNobodyHisMembers(t *testing.T) {
	b := newBus(t)
	ns := b.cluster(3, nil)
	before := len(ns[0].installs)
	b.cut(1, 3, false)
	b.wait(20 * time.Millisecond)
	b.connect(1, 3)
	b.wait(time.Second)
	for _, n := range ns {
		b.wantMembers(n, 1, 2, 3)
		if in := n.lastInstall(); len(in.Transitional) != 3 || in.Cause != "the same members again" {
			t.Errorf("node %v: got %+v, want all to come along", n.nk, in)
		}
	}
	if got := len(ns[0].installs) - before; got != 1 {
		t.Errorf("got %d new rings, want 1", got)
	}
	// One between members does not matter at all.
	b.cut(2, 3, false)
	b.wait(time.Second)
	if got := len(ns[0].installs) - before; got != 1 {
		t.Errorf("got %d new rings after a break between members, want 1", got)
	}
}

func TestChange_ClosesTheLogTheSameEverywhere(t *testing.T) {
	b := newBus(t)
	ns := b.cluster(4, nil)
	ring := ns[0].core.View().Ring
	b.submit(2, "a")
	b.run()
	// These reach the sequencer or not; one ORD reaches node 3 only.
	b.submit(2, "b")
	b.submit(4, "c")
	b.moveOne(2, 1)
	b.moveOne(1, 3)
	b.submit(3, "d")
	b.submit(2, "e")
	b.kill(1)
	b.submit(4, "f")
	b.wait(time.Second)
	want := []string{"a", "b", "e", "d", "c", "f"}
	if c := ns[1].texts(); len(c) == 6 && c[2] == "d" {
		want = c
	}
	for _, n := range ns[1:] {
		b.wantMembers(n, 2, 3, 4)
		got := n.texts()
		if !slices.Equal(got, ns[1].texts()) || len(got) != 6 || got[0] != "a" || got[1] != "b" {
			t.Errorf("node %v: got %q, want something like %q", n.nk, got, want)
		}
		// What was submitted in the old ring is delivered in it, what was not, not.
		for i, text := range got {
			sent := text != "f" && text != "e"
			if (n.rings[i] == ring) != sent {
				t.Errorf("node %v: got %q in ring %v", n.nk, text, n.rings[i])
			}
		}
		if !n.tails[slices.Index(got, "c")] || n.tails[slices.Index(got, "b")] {
			t.Errorf("node %v: got tails %v of %q, want b in the log and c in the tail", n.nk, n.tails, got)
		}
		ask := n.asked[len(n.asked)-1]
		var tail []string
		for i, text := range got {
			if n.tails[i] {
				tail = append(tail, text)
			}
		}
		var asked []string
		for _, m := range ask.Tail {
			asked = append(asked, string(m.Data))
		}
		if !slices.Equal(asked, tail) {
			t.Errorf("node %v: was asked for its state after %q, got the tail %q", n.nk, asked, tail)
		}
	}
	leads := 0
	for _, s := range ns[1].lastInstall().States {
		if s.From != ring || len(s.Data) == 0 {
			t.Errorf("got state %+v, want one from ring %v", s, ring)
		}
		if s.Lead {
			leads++
		}
	}
	if leads != 1 {
		t.Errorf("got %d nodes that lead, want 1", leads)
	}
	b.wantNoBreaks()
}

func TestChange_RecoversThroughTheCoordinator(t *testing.T) {
	b := newBus(t)
	ns := b.cluster(4, nil)
	for i := range 5 {
		b.submit(1, fmt.Sprint("m", i))
		b.now += time.Millisecond
		b.stepNode(ns[0], Tick{})
	}
	for len(b.link(1, 3).frames) > 0 {
		b.moveOne(1, 3)
	}
	b.cut(3, 4, false) // the one who has the log cannot reach one of those who do not
	relayed := 0
	b.drop = func(from, to NK, f Frame) bool {
		if r, ok := f.(*Recover); ok && from.ID == 2 && to.ID == 4 {
			relayed += len(r.Entries)
		}
		return false
	}
	b.kill(1)
	b.wait(time.Second)
	want := []string{"m0", "m1", "m2", "m3", "m4"}
	for _, n := range ns[1:] {
		b.wantMembers(n, 2, 3, 4)
		b.wantTexts(n, want...)
	}
	if relayed != 5 {
		t.Errorf("got %d entries by way of the coordinator, want 5", relayed)
	}
	b.wantNoBreaks()
}

func TestChange_APartialMessageBeginsAgain(t *testing.T) {
	for _, origin := range []uint32{1, 3} {
		t.Run(fmt.Sprint("origin ", origin), func(t *testing.T) {
			b := newBus(t)
			ns := b.cluster(3, func(c *Config) {
				c.Fragment, c.Window, c.MinCredit, c.Gather = 10, 1, 2*EntrySize(10), -1
			})
			ring := ns[0].core.View().Ring
			b.submit(origin, "0123456789abcdefghijABCDEFGHIJ!") // four parts, two may go
			b.submit(origin, "next")
			for len(b.link(origin, 1).frames) > 0 {
				b.moveOne(origin, 1)
			}
			// The parts are everywhere, and nobody has acknowledged them.
			b.drop = func(from, to NK, f Frame) bool {
				_, ack := f.(*Ack)
				return ack
			}
			b.run()
			for _, n := range ns {
				if s := n.core.Stats(); s.Position != 2 || len(n.delivered) != 0 {
					t.Fatalf("node %v: got %+v, want two parts and no message", n.nk, s)
				}
			}
			b.drop = nil
			b.kill(2)
			b.wait(time.Second)
			for _, n := range []*busNode{ns[0], ns[2]} {
				b.wantTexts(n, "0123456789abcdefghijABCDEFGHIJ!", "next")
				if n.rings[0] == ring {
					t.Errorf("node %v: got the message in the old ring %v", n.nk, ring)
				}
			}
			b.wantNoBreaks()
		})
	}
}

func TestChange_AWhollySubmittedMessageIsClosedInItsRing(t *testing.T) {
	b := newBus(t)
	ns := b.cluster(3, func(c *Config) { c.Fragment = 10 })
	ring := ns[0].core.View().Ring
	b.submit(3, "0123456789abcdefghij")
	b.kill(1) // it never came to order it
	b.wait(time.Second)
	for _, n := range ns[1:] {
		b.wantTexts(n, "0123456789abcdefghij")
		if len(n.rings) == 1 && (n.rings[0] != ring || !n.tails[0]) {
			t.Errorf("node %v: got it in ring %v, tail %v, want it in the tail of %v", n.nk, n.rings[0], n.tails[0], ring)
		}
	}
	b.wantNoBreaks()
}

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

func TestChange_TheCoordinatorMayDieAtAnyStep(t *testing.T) {
	for _, victim := range []uint32{1, 2, 3} {
		for steps := range 60 {
			b := newBus(t)
			ns := b.cluster(4, nil)
			b.submit(2, "a")
			b.submit(3, "b")
			b.submit(4, "c")
			b.cut(1, 4, false)
			b.connect(1, 4)
			b.now += 200 * time.Millisecond
			for _, n := range ns {
				b.stepNode(n, Tick{})
			}
			moved := 0
			for again := true; again && moved < steps; {
				again = false
				for _, x := range b.ids {
					for _, y := range b.ids {
						if moved < steps && b.moveOne(x, y) {
							moved++
							again = true
						}
					}
				}
			}
			b.kill(victim)
			b.wait(3 * time.Second)
			var left []*busNode
			var ids []uint32
			for _, n := range ns {
				if n.core != nil {
					left = append(left, n)
					ids = append(ids, n.nk.ID)
				}
			}
			for _, n := range left {
				b.wantMembers(n, ids...)
				for i, text := range []string{"a", "b", "c"} {
					if uint32(i+2) != victim && !slices.Contains(n.texts(), text) {
						t.Errorf("node %v: got %q, want %q too", n.nk, n.texts(), text)
					}
				}
				if !slices.Equal(n.texts(), left[0].texts()) || !slices.Equal(n.rings, left[0].rings) {
					t.Errorf("node %v: got %q, node %v %q", n.nk, n.texts(), left[0].nk, left[0].texts())
				}
			}
			b.wantNoBreaks()
			if t.Failed() {
				t.Fatalf("node %d died after %d frames", victim, steps)
			}
			if moved < steps {
				break
			}
		}
	}
}

func TestChange_WhoDoesNotAnswerIsLeftOut(t *testing.T) {
	b := newBus(t)
	ns := b.cluster(3, nil)
	b.start(4, nil)
	deaf := true
	b.drop = func(from, to NK, f Frame) bool {
		_, info := f.(*Info)
		return deaf && from.ID == 4 && !info
	}
	for id := range uint32(3) {
		b.connect(id+1, 4)
	}
	b.wait(30 * time.Second)
	b.wantMembers(ns[0], 1, 2, 3)
	if got := len(ns[0].installs); got > 10 {
		t.Errorf("got %d rings in 30 s because of a node that does not answer, want few\n%v\n%v", got, strings.Join(ns[0].notes, "\n"), strings.Join(b.nodes[4].notes, "\n"))
	}
	if s := ns[0].core.Stats(); len(s.LeftOut) != 1 || s.LeftOut[0].ID != 4 {
		t.Errorf("got stats %+v, want node 4 to be left out", s)
	}
	deaf = false
	b.wait(31 * time.Second)
	for _, id := range b.ids {
		b.wantMembers(b.nodes[id], 1, 2, 3, 4)
	}
	b.wantNoBreaks()
}

func TestChange_AStateThatNeverComesLeavesTheOthersGoOn(t *testing.T) {
	b := newBus(t)
	ns := b.cluster(3, nil)
	ns[2].noState = true
	b.kill(2)
	b.wait(5 * time.Second)
	b.wantMembers(ns[0], 1)
	asked := ns[2].asked
	if len(asked) == 0 {
		t.Fatal("node 3 was never asked for its state")
	}
	// An answer to an older question does not count.
	ready := 0
	b.drop = func(from, to NK, f Frame) bool {
		if _, ok := f.(*Ready); ok && from.ID == 3 {
			ready++
		}
		return false
	}
	if len(asked) > 1 {
		b.stepNode(ns[2], State{Ballot: asked[0].Ballot})
		if ready != 0 {
			t.Error("got a READY by the state of another ballot")
		}
	}
	ns[2].noState = false
	b.wait(60 * time.Second)
	b.wantMembers(ns[0], 1, 3)
	b.wantMembers(ns[2], 1, 3)
	b.wantNoBreaks()
}

func TestChange_RefusesAnInstallThatCannotBe(t *testing.T) {
	good := func(n *busNode) []NodeState {
		from := n.core.View().Ring
		return []NodeState{{NK{1, 1}, from, true, nil}, {NK{2, 1}, from, false, nil}}
	}
	for _, c := range []struct {
		name   string
		states func(s []NodeState) []NodeState
		want   bool
	}{
		{"as it is", func(s []NodeState) []NodeState { return s }, true},
		{"without states", func(s []NodeState) []NodeState { return nil }, false},
		{"one twice", func(s []NodeState) []NodeState { s[1] = s[0]; return s }, false},
		{"a stranger's", func(s []NodeState) []NodeState { s[1].Node.ID = 5; return s }, false},
		{"from another ring", func(s []NodeState) []NodeState { s[1].From.Seq++; return s }, false},
		{"two that lead", func(s []NodeState) []NodeState { s[1].Lead = true; return s }, false},
	} {
		b, one, two := pair(t, nil)
		b.drop = func(from, to NK, f Frame) bool {
			_, install := f.(*InstallFrame)
			return install
		}
		b.cut(1, 2, false)
		b.connect(1, 2)
		for !two.core.isReady {
			b.now += time.Millisecond
			b.stepNode(one, Tick{})
			b.run()
		}
		ring := two.core.promised
		b.stepNode(two, Received{one.nk, &InstallFrame{Ballot: ring, States: c.states(good(two))}})
		if ok := two.core.View().Ring == ring; ok != c.want || len(two.breaks) > 0 == c.want {
			t.Errorf("%s: got installed %v, breaks %v, want installed %v", c.name, ok, two.breaks, c.want)
		}
	}
}

func TestChange_RingsMergeInFewSteps(t *testing.T) {
	b := newBus(t)
	for id := uint32(1); id <= 6; id++ {
		b.start(id, nil)
	}
	join := func(ids ...uint32) {
		for _, x := range ids {
			for _, y := range ids {
				if x < y && !b.link(x, y).up {
					b.connect(x, y)
				}
			}
		}
	}
	join(1, 2, 3)
	join(4, 5, 6)
	b.wait(3 * time.Second)
	b.wantMembers(b.nodes[2], 1, 2, 3)
	b.wantMembers(b.nodes[5], 4, 5, 6)
	before := len(b.nodes[5].installs)
	b.submit(5, "before")
	b.submit(2, "before")
	b.wait(time.Second)
	join(1, 2, 3, 4, 5, 6)
	b.submit(5, "on the way")
	b.wait(3 * time.Second)
	for _, id := range b.ids {
		b.wantMembers(b.nodes[id], 1, 2, 3, 4, 5, 6)
	}
	five := b.nodes[5]
	if got := len(five.installs) - before; got > 2 {
		t.Errorf("got %d rings for a merge, want 1 or 2\n%v", got, five.notes)
	}
	if in := five.lastInstall(); in.Cause != "node 1 joined, node 2 joined, node 3 joined" {
		t.Errorf("got cause %q", in.Cause)
	}
	b.wantTexts(five, "before", "on the way")
	b.submit(6, "together")
	b.wait(time.Second)
	b.wantTexts(b.nodes[1], "before", "together")
	b.wantNoBreaks()
}

func TestChange_AnotherBootIsAnotherNode(t *testing.T) {
	b := newBus(t)
	ns := b.cluster(3, nil)
	b.submit(3, "x")
	b.wait(time.Second)
	b.kill(3)
	three := b.start(3, nil)
	b.connect(1, 3)
	b.connect(2, 3)
	b.wait(time.Second)
	b.wantMembers(three, 1, 2, 3)
	if !slices.Contains(ns[0].core.View().Members, NK{3, 2}) {
		t.Errorf("got %v, want the second boot of node 3", ns[0].core.View().Members)
	}
	b.submit(3, "y") // its oseqs begin again
	b.wait(time.Second)
	b.wantTexts(ns[1], "x", "y")
	// Without a Down: the session of the second boot is replaced by the third's.
	b.nodes[3].core = nil
	for _, o := range []uint32{1, 2} {
		b.link(3, o).frames, b.link(o, 3).frames = nil, nil
	}
	b.start(3, nil)
	b.connect(1, 3)
	b.connect(2, 3)
	b.wait(time.Second)
	if got := ns[1].core.View().Members; !slices.Contains(got, NK{3, 3}) || len(got) != 3 {
		t.Errorf("got %v, want the third boot of node 3", got)
	}
	b.wantNoBreaks()
}

func TestChange_HeldDownAfterMany(t *testing.T) {
	b, one, _ := pair(t, nil)
	back := func() time.Duration {
		b.cut(1, 2, false)
		b.wait(150 * time.Millisecond)
		b.wantMembers(one, 1)
		b.connect(1, 2)
		since := b.now
		for len(one.core.View().Members) != 2 && b.now-since < 40*time.Second {
			b.wait(10 * time.Millisecond)
		}
		return b.now - since
	}
	for i, want := range []time.Duration{0, 0, 1, 2, 4} {
		want *= time.Second
		got := back()
		// Node 2 holds nobody down before node 1 does, and proposes too.
		if got > want+500*time.Millisecond || want > 0 && got < want/2 {
			t.Errorf("exclusion %d: back after %v, want about %v", i+1, got, want)
		}
	}
	if !strings.Contains(strings.Join(one.notes, "\n"), "held down") {
		t.Errorf("got notes %q, want one about the hold-down", one.notes)
	}
}

func TestChange_ARestartIsNoReasonToHoldDown(t *testing.T) {
	b, one, _ := pair(t, nil)
	for range 6 {
		b.kill(2)
		b.run()
		b.wantMembers(one, 1)
		b.start(2, nil)
		b.connect(1, 2)
		b.wait(200 * time.Millisecond)
		b.wantMembers(one, 1, 2)
	}
}

func TestChange_PauseGivesTime(t *testing.T) {
	b, one, _ := pair(t, nil)
	b.drop = func(from, to NK, f Frame) bool { return from.ID == 2 }
	b.submit(1, "x")
	b.run()
	b.now += 6 * time.Second // nobody ran
	b.stepNode(one, Paused{})
	b.stepNode(one, Tick{})
	b.wantMembers(one, 1, 2)
	if strings.Contains(strings.Join(one.notes, "\n"), "put out") {
		t.Errorf("got notes %q, want nobody to be judged after a pause", one.notes)
	}
	b.drop = nil
	b.wait(time.Second)
	if s := one.core.Stats(); s.Ring.Seq > 2 {
		t.Errorf("got %+v, want the ring as it was", s)
	}
}
