package ring

import (
	"testing"
	"time"
)

// settled waits, and demands that the rings do not change any more then.
func (b *bus) settled(after time.Duration) {
	b.t.Helper()
	b.wait(after)
	before := map[uint32]int{}
	for _, id := range b.ids {
		before[id] = len(b.nodes[id].installs)
	}
	b.wait(2 * time.Minute)
	for _, id := range b.ids {
		if got := len(b.nodes[id].installs); got != before[id] {
			b.t.Errorf("node %d: %d rings more in two minutes, want rest\n%v", id, got-before[id], b.nodes[id].notes)
		}
	}
}

func TestReach_TheNodeThatReachesAllLeads(t *testing.T) {
	// 1 and 2 do not reach each other, 3 reaches both.
	b := newBus(t)
	for id := uint32(1); id <= 3; id++ {
		b.start(id, nil)
	}
	b.connect(1, 3)
	b.connect(2, 3)
	b.settled(10 * time.Second)
	for _, id := range b.ids {
		n := b.nodes[id]
		b.wantMembers(n, 1, 2, 3)
		if got := n.core.View().Members[0].ID; got != 3 {
			t.Errorf("node %d: got coordinator %d, want 3", id, got)
		}
	}
	b.submit(1, "x")
	b.wait(time.Second)
	b.wantTexts(b.nodes[2], "x")
	b.wantNoBreaks()
}

func TestReach_ACutBetweenMembersOfARingEndsWell(t *testing.T) {
	b := newBus(t)
	b.cluster(3, nil)
	b.cut(1, 2, false) // the coordinator and a member; 3 reaches both
	b.settled(30 * time.Second)
	for _, id := range b.ids {
		b.wantMembers(b.nodes[id], 1, 2, 3)
	}
	b.connect(1, 2)
	b.settled(10 * time.Second)
	for _, id := range b.ids {
		b.wantMembers(b.nodes[id], 1, 2, 3)
	}
	b.wantNoBreaks()
}

func TestReach_NobodyStealsForEver(t *testing.T) {
	for _, c := range []struct {
		name  string
		n     uint32
		links [][2]uint32
	}{
		{"a chain of four", 4, [][2]uint32{{1, 2}, {2, 3}, {3, 4}}},
		{"a chain of five", 5, [][2]uint32{{1, 2}, {2, 3}, {3, 4}, {4, 5}}},
		{"a circle of five", 5, [][2]uint32{{1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 1}}},
		{"a circle the other way about", 5, [][2]uint32{{1, 3}, {3, 5}, {5, 2}, {2, 4}, {4, 1}}},
		{"two triangles that share a node", 5, [][2]uint32{{1, 2}, {1, 3}, {2, 3}, {3, 4}, {3, 5}, {4, 5}}},
		{"two triangles with a bridge", 6, [][2]uint32{{1, 2}, {1, 3}, {2, 3}, {3, 4}, {4, 5}, {4, 6}, {5, 6}}},
		{"a square", 4, [][2]uint32{{1, 2}, {2, 3}, {3, 4}, {4, 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBus(t)
			for id := range c.n {
				b.start(id+1, nil)
			}
			for _, l := range c.links {
				b.connect(l[0], l[1])
			}
			b.settled(2 * time.Minute)
			for _, id := range b.ids {
				b.submit(id, "still served")
			}
			b.wait(time.Second)
			for _, id := range b.ids {
				if n := b.nodes[id]; len(n.delivered) == 0 {
					t.Errorf("node %d delivers nothing: %+v", id, n.core.Stats())
				}
			}
			b.wantNoBreaks()
		})
	}
}

func TestReach_RefusesImpossiblePeers(t *testing.T) {
	for _, c := range []struct {
		up    Up
		learn uint64
	}{
		{Up{Peer: NK{1, 2}}, 1},
		{Up{Peer: NK{0, 1}}, 1},
		{Up{Peer: NK{2, 1}, MaxSeq: 1<<32 + 2}, 1<<32 + 1},
		{Up{Peer: NK{2, 1}, Ring: ID{^uint64(0), 2}}, 1<<32 + 1},
	} {
		b := newBus(t)
		n := b.start(1, nil)
		b.stepNode(n, c.up)
		if len(n.breaks) != 1 || n.breaks[0].Peer != c.up.Peer {
			t.Errorf("%+v: got breaks %v, want one", c.up, n.breaks)
		}
		if s := n.core.Stats(); s.MaxSeq != c.learn {
			t.Errorf("%+v: got seq %d learned, want %d", c.up, s.MaxSeq, c.learn)
		}
	}
	b := newBus(t)
	n := b.start(1, nil)
	b.stepNode(n, Up{Peer: NK{3, 1}, Ring: ID{7, 3}, MaxSeq: 1<<32 + 1})
	if s := n.core.Stats(); len(n.breaks) != 0 || s.MaxSeq != 1<<32+1 {
		t.Errorf("got breaks %v and seq %d, want a step of 2^32 to be believed", n.breaks, s.MaxSeq)
	}
}

// Nobody uses up the ring numbers by many steps that could each be true.
func TestReach_NumbersGoUpByABoundASecond(t *testing.T) {
	b := newBus(t)
	n := b.start(1, nil)
	top := func() uint64 { return n.core.Stats().MaxSeq }
	first := top()
	for second := uint64(1); second <= 3; second++ {
		for id := uint32(2); id < 20; id++ {
			b.stepNode(n, Up{Peer: NK{id, second}, Ring: ID{7, id}, MaxSeq: top() + 1<<31})
		}
		if got := top(); got > first+second*maxSeqStep || got < first+second*maxSeqStep-1<<31 {
			t.Errorf("second %d: got seq %d, want one step of 2^32 a second from %d on", second, got, first)
		}
		b.now += time.Second
	}
}

func TestReach_ForgetsNodesThatAreGone(t *testing.T) {
	b := newBus(t)
	n := b.start(1, nil)
	for id := uint32(2); id < 1000; id++ {
		b.stepNode(n, Up{Peer: NK{id, 1}, Ring: ID{1, id}, MaxSeq: 1})
		b.stepNode(n, Down{Peer: NK{id, 1}})
	}
	if got := len(n.core.peers); got > 2 {
		t.Errorf("got %d peers remembered, want only the last", got)
	}
}
