package ring

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// lies are frames that break the protocol, from the sequencer (1) to a member
// (2) or back; each ends the session, and nothing else.
func TestOrder_EveryLieEndsTheSession(t *testing.T) {
	e := func(origin NK, oseq uint64, flags uint8, data string) Entry {
		return Entry{Origin: origin, OSeq: oseq, Kind: 1, Flags: flags, Data: []byte(data)}
	}
	n1, n2 := NK{1, 1}, NK{2, 1}
	whole := uint8(EntryFirst)
	long := string(make([]byte, maxFragment+1))
	for _, c := range []struct {
		name string
		to   uint32
		make func(r ID, ms []NK) Frame
		want string
	}{
		{"ORD with a gap", 2, func(r ID, ms []NK) Frame {
			return &Ord{Ring: r, First: 3, Members: ms, Entries: []Entry{e(n1, 2, whole, "x")}}
		}, "continue"},
		{"ORD again", 2, func(r ID, ms []NK) Frame {
			return &Ord{Ring: r, First: 1, Members: ms, Entries: []Entry{e(n1, 2, whole, "x")}}
		}, "continue"},
		{"ORD with an oseq that does not follow", 2, func(r ID, ms []NK) Frame {
			return &Ord{Ring: r, First: 2, Members: ms, Entries: []Entry{e(n1, 3, whole, "x")}}
		}, "follow"},
		{"ORD of an entry that was not submitted", 2, func(r ID, ms []NK) Frame {
			return &Ord{Ring: r, First: 2, Members: ms, Entries: []Entry{e(n2, 1, whole, "x")}}
		}, "did not submit"},
		{"ORD of a node that is no member", 2, func(r ID, ms []NK) Frame {
			return &Ord{Ring: r, First: 2, Members: ms, Entries: []Entry{e(NK{3, 1}, 1, whole, "x")}}
		}, "no member"},
		{"ORD of a last part without a first", 2, func(r ID, ms []NK) Frame {
			return &Ord{Ring: r, First: 2, Members: ms, Entries: []Entry{e(n1, 2, 0, "x")}}
		}, "parts before"},
		{"ORD of a first part within a message", 2, func(r ID, ms []NK) Frame {
			return &Ord{Ring: r, First: 2, Members: ms, Entries: []Entry{
				e(n1, 2, EntryFirst|EntryMore, ""), e(n1, 3, EntryFirst, "")}}
		}, "parts before"},
		{"ORD of an endless entry", 2, func(r ID, ms []NK) Frame {
			return &Ord{Ring: r, First: 2, Members: ms, Entries: []Entry{e(n1, 2, whole, long)}}
		}, "too long"},
		{"ORD that calls too much stable", 2, func(r ID, ms []NK) Frame {
			return &Ord{Ring: r, First: 2, Stable: 2, Members: ms}
		}, "stable"},
		{"ORD for other members", 2, func(r ID, ms []NK) Frame {
			return &Ord{Ring: r, First: 2, Members: ms[:1]}
		}, "other members"},
		{"ORD to the sequencer", 1, func(r ID, ms []NK) Frame {
			return &Ord{Ring: r, First: 2, Members: ms}
		}, "not the sequencer"},
		{"SUBMIT to a member", 2, func(r ID, ms []NK) Frame { return &SubmitFrame{Ring: r} }, "not the sequencer"},
		{"ACK to a member", 2, func(r ID, ms []NK) Frame { return &Ack{Ring: r} }, "not the sequencer"},
		{"SUBMIT with a wrong oseq", 1, func(r ID, ms []NK) Frame {
			return &SubmitFrame{Ring: r, Pos: 1, Entries: []Entry{e(n2, 2, whole, "x")}}
		}, "follow"},
		{"SUBMIT for another", 1, func(r ID, ms []NK) Frame {
			return &SubmitFrame{Ring: r, Pos: 1, Entries: []Entry{e(n1, 2, whole, "x")}}
		}, "another node"},
		{"SUBMIT without a kind", 1, func(r ID, ms []NK) Frame {
			return &SubmitFrame{Ring: r, Pos: 1, Entries: []Entry{{Origin: n2, OSeq: 1, Flags: whole}}}
		}, "kind"},
		{"SUBMIT beyond the credit", 1, func(r ID, ms []NK) Frame {
			f := &SubmitFrame{Ring: r, Pos: 1}
			for i := range uint64(100) {
				f.Entries = append(f.Entries, e(n2, i+1, whole, long[:64<<10]))
			}
			return f
		}, "credit"},
		{"ACK of what is not there", 1, func(r ID, ms []NK) Frame { return &Ack{Ring: r, Pos: 2} }, "ACK of 2"},
		{"ACK of less than before", 1, func(r ID, ms []NK) Frame { return &Ack{Ring: r, Pos: 0} }, "ACK of 0"},
		{"an INFO with an impossible seq", 1, func(r ID, ms []NK) Frame {
			return &Info{Ring: r, MaxSeq: 1<<33 + 9}
		}, "impossible"},
		{"a PROPOSE with an impossible seq", 1, func(r ID, ms []NK) Frame {
			return &Propose{Ballot: ID{1 << 60, 2}, Set: []NK{n1, n2}}
		}, "impossible"},
		{"a NACK with an impossible seq", 1, func(r ID, ms []NK) Frame {
			return &Nack{Ballot: r, Promised: ^uint64(0)}
		}, "impossible"},
		{"a PROPOSE in another's name", 1, func(r ID, ms []NK) Frame {
			return &Propose{Ballot: ID{99, 1}, Set: []NK{n1, n2}}
		}, "another's name"},
		{"a PROPOSE without us", 1, func(r ID, ms []NK) Frame {
			return &Propose{Ballot: ID{99, 2}, Set: []NK{n2}}
		}, "set"},
		{"a PROPOSE that is not sorted", 1, func(r ID, ms []NK) Frame {
			return &Propose{Ballot: ID{99, 2}, Set: []NK{n2, n1}}
		}, "set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, _, _ := pair(t, nil)
			b.submit(1, "one")
			b.wait(time.Second)
			n := b.nodes[c.to]
			from := NK{3 - c.to, 1}
			v := n.core.View()
			b.stepNode(n, Received{from, c.make(v.Ring, v.Members)})
			if len(n.breaks) != 1 || n.breaks[0].Peer != from || !strings.Contains(n.breaks[0].Reason, c.want) {
				t.Fatalf("got breaks %+v, want one because of %q", n.breaks, c.want)
			}
			if len(n.delivered) > 2 {
				t.Errorf("got messages %q, want nothing of the lie", n.texts())
			}
			// Whoever broke comes back, and all goes on.
			for range 3 { // a lie that was half believed may end another session
				if !b.link(1, 2).up {
					b.connect(1, 2)
				}
				b.wait(time.Second)
			}
			b.wantMembers(n, 1, 2)
			b.submit(3-c.to, "after")
			b.wait(time.Second)
			if got := n.texts(); got[len(got)-1] != "after" {
				t.Errorf("got %q, want a message afterwards", got)
			}
		})
	}
}

func TestOrder_UnknownAndStrangeFramesDoNotCount(t *testing.T) {
	b, one, two := pair(t, nil)
	v := two.core.View()
	old := ID{v.Ring.Seq - 1, 1}
	for _, f := range []Frame{
		&Ord{Ring: old, First: 9}, &SubmitFrame{Ring: old, Pos: 9}, &Ack{Ring: old, Pos: 9},
		&Report{Ballot: old}, &Prepare{Ballot: old}, &Recover{Ballot: old, Target: two.nk}, &Recover{Ballot: old, Target: NK{9, 9}},
		&Ready{Ballot: old}, &InstallFrame{Ballot: old}, &Nack{Ballot: old}, &Nack{Ballot: v.Ring, Prefer: 2},
	} {
		b.stepNode(two, Received{one.nk, f})
		b.stepNode(one, Received{two.nk, f})
		// Of a session that is not there.
		b.stepNode(one, Received{NK{2, 7}, f})
	}
	b.stepNode(one, State{Ballot: old})
	b.wait(time.Second)
	b.wantNoBreaks()
	if one.core.View().Ring != v.Ring || two.core.View().Ring != v.Ring {
		t.Errorf("got rings %v and %v, want %v still", one.core.View().Ring, two.core.View().Ring, v.Ring)
	}
}

func TestOrder_AcknowledgesAfterBytesOrTime(t *testing.T) {
	b, one, _ := pair(t, nil)
	b.submit(1, "x")
	b.moveOne(1, 2)
	if got := frames[*Ack](b, 2, 1); len(got) != 0 {
		t.Fatalf("got %d ACKs at once, want none", len(got))
	}
	b.wait(4 * time.Millisecond)
	if s := one.core.Stats(); s.Stable != 0 || s.Unstable == 0 {
		t.Errorf("got stats %+v before the ACK, want one entry kept", s)
	}
	b.wait(time.Millisecond)
	if s := one.core.Stats(); s.Stable != 1 || s.Unstable != 0 {
		t.Errorf("got stats %+v after 5 ms, want all stable", s)
	}
	b.submit(1, string(make([]byte, ackBytes)))
	b.moveOne(1, 2)
	if got := frames[*Ack](b, 2, 1); len(got) != 1 || got[0].Pos != 2 {
		t.Errorf("got %+v after %d bytes, want an ACK of 2", got, ackBytes)
	}
	b.run()
	b.submit(1, "y")
	b.wait(time.Millisecond)
	b.submit(2, "z")
	if got := frames[*SubmitFrame](b, 2, 1); len(got) != 1 || got[0].Pos != 3 {
		t.Errorf("got %+v, want a SUBMIT that acknowledges 3", got)
	}
}

func TestOrder_NothingIsDroppedBeforeAllHaveIt(t *testing.T) {
	b := newBus(t)
	ns := b.cluster(3, nil)
	b.drop = func(from, to NK, f Frame) bool {
		_, ack := f.(*Ack)
		return ack && from.ID == 3
	}
	b.submit(1, "x")
	b.wait(time.Second)
	for _, n := range ns {
		if s := n.core.Stats(); s.Stable != 0 || s.Position != 1 || s.Unstable == 0 {
			t.Errorf("node %v: got %+v, want an entry that is not stable", n.nk, s)
		}
	}
	b.drop = nil
	b.submit(1, "y")
	b.wait(time.Second)
	for _, n := range ns {
		if s := n.core.Stats(); s.Stable != 2 || s.Unstable != 0 {
			t.Errorf("node %v: got %+v, want all stable, the idle ORD has told it", n.nk, s)
		}
	}
}

func TestOrder_OrdsAndSubmitsAreBounded(t *testing.T) {
	b, one, two := pair(t, func(c *Config) { c.Gather = 5 * time.Millisecond })
	worst, frames := 0, 0
	b.drop = func(from, to NK, f Frame) bool {
		var es []Entry
		switch f := f.(type) {
		case *Ord:
			es = f.Entries
		case *SubmitFrame:
			es = f.Entries
		}
		if len(es) > 0 {
			frames++
		}
		if n := dataSize(es) + entryOverhead*len(es); len(es) > 1 {
			worst = max(worst, n)
		}
		return false
	}
	for i := range 500 {
		b.stepNode(two, Submit{Kind: 1, Data: make([]byte, 2000+i)})
	}
	for range 3 {
		b.stepNode(one, Submit{Kind: 1, Data: make([]byte, 65<<10)})
	}
	b.wait(time.Second)
	if len(one.delivered) != 503 || worst > batchBytes || worst < batchBytes/2 || frames > 200 {
		t.Errorf("got %d messages, %d bytes in the largest of %d frames, want 503 and at most %d", len(one.delivered), worst, frames, batchBytes)
	}
	b.wantNoBreaks()
}

func TestOrder_TheBreakIsSticky(t *testing.T) {
	b, one, two := pair(t, func(c *Config) { c.Join, c.Grace = time.Second, time.Second })
	ring := one.core.View().Ring
	b.submit(2, "lost on the way") // in the session that breaks
	b.cut(1, 2, false)
	b.connect(1, 2)
	b.submit(1, "by the sequencer")
	b.submit(2, "by the member")
	b.run()
	if n := len(frames[*Ord](b, 1, 2)) + len(frames[*SubmitFrame](b, 2, 1)); n != 0 || len(two.delivered) != 0 || len(one.delivered) != 1 {
		t.Errorf("got %d frames of the broken stream, %q and %q, want silence", n, one.texts(), two.texts())
	}
	// Even what is sent all the same does not count.
	b.stepNode(two, Received{one.nk, &Ord{Ring: ring, First: 1, Members: one.core.View().Members,
		Entries: []Entry{{one.nk, 1, 1, EntryFirst, []byte("x")}}}})
	b.stepNode(one, Received{two.nk, &SubmitFrame{Ring: ring, Entries: []Entry{{two.nk, 1, 1, EntryFirst, []byte("x")}}}})
	b.wantNoBreaks()
	b.wait(3 * time.Second)
	b.wantMembers(one, 1, 2)
	if in := two.lastInstall(); in.Old != ring || len(in.Transitional) != 2 {
		t.Errorf("got %+v, want both to come from ring %v", in, ring)
	}
	want := []string{"by the sequencer", "lost on the way", "by the member"}
	b.wantTexts(one, want...)
	b.wantTexts(two, want...)
	if !slices.Equal(two.rings[:2], []ID{ring, ring}) || !two.tails[1] {
		t.Errorf("got rings %v, tails %v, want what was on its way at the end of the old ring", two.rings, two.tails)
	}
}

func TestOrder_WhoDoesNotAcknowledgeIsPutOut(t *testing.T) {
	b := newBus(t)
	ns := b.cluster(3, nil)
	b.drop = func(from, to NK, f Frame) bool { return from.ID == 3 } // it lives, but says nothing
	b.submit(1, "x")
	b.wait(4900 * time.Millisecond)
	b.wantMembers(ns[0], 1, 2, 3)
	b.wait(200 * time.Millisecond)
	b.wantMembers(ns[0], 1, 2)
	b.wantMembers(ns[1], 1, 2)
	if got := ns[1].lastInstall().Cause; !strings.Contains(got, "node 3") {
		t.Errorf("got cause %q, want it to name node 3", got)
	}
	if got := ns[0].lastInstall().Cause; got != "node 3 was put out, it was too slow" {
		t.Errorf("got cause %q", got)
	}
	b.drop = nil
	b.wait(2 * time.Second)
	b.wantMembers(ns[2], 1, 2, 3)
}

func TestOrder_ASequencerThatDoesNotOrderIsLeft(t *testing.T) {
	b := newBus(t)
	ns := b.cluster(3, nil)
	deaf := true
	b.drop = func(from, to NK, f Frame) bool { return deaf && (from.ID == 1 || to.ID == 1) }
	b.submit(2, "x")
	b.wait(5100 * time.Millisecond)
	if len(ns[1].breaks) != 1 || ns[1].breaks[0].Peer.ID != 1 {
		t.Fatalf("got breaks %v, want one with the sequencer", ns[1].breaks)
	}
	deaf = false
	b.connect(1, 2)
	b.wait(3 * time.Second)
	for _, n := range ns {
		b.wantMembers(n, 1, 2, 3)
	}
	b.wantTexts(ns[1], "x") // if alone, in the ring in which it was submitted
}

func TestOrder_ManyNodesOneOrder(t *testing.T) {
	b := newBus(t)
	ns := b.cluster(7, func(c *Config) { c.Fragment = 50 })
	for i := range 300 {
		b.submit(uint32(i*i%7+1), fmt.Sprintf("%d %s", i, strings.Repeat("z", i%160)))
		if i%3 == 0 {
			b.moveOne(uint32(i%7+1), 1)
			b.moveOne(1, uint32(i%5+2))
		}
		if i%50 == 0 {
			b.wait(time.Millisecond)
		}
	}
	b.wait(2 * time.Second)
	b.wantNoBreaks()
	for _, n := range ns {
		if len(n.delivered) != 300 || !slices.Equal(n.texts(), ns[0].texts()) {
			t.Errorf("node %v: got %d messages, want the same 300 as node 1", n.nk, len(n.delivered))
		}
		for i := range n.delivered {
			if m, w := n.delivered[i], ns[0].delivered[i]; m.Pos != w.Pos || m.OSeq != w.OSeq || m.Origin != w.Origin {
				t.Fatalf("node %v: got %+v, want %+v", n.nk, m, w)
			}
		}
	}
}
