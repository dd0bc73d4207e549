package ring

import (
	"slices"
	"strings"
	"testing"
	"time"
)

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
