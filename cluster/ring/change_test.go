package ring

import (
	"fmt"
	"slices"
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
