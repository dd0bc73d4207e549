package ring

import (
	"testing"
	"time"
)

// step gives an event to a core and tells what kinds of outputs came.
func outputsOf(c *Core, now time.Duration, ev Event) (proposes int, reports int, delivered int) {
	for _, o := range c.Step(now, ev) {
		switch o := o.(type) {
		case Send:
			switch o.Frame.(type) {
			case *Propose:
				proposes++
			case *Report:
				reports++
			}
		case Deliver:
			delivered += len(o.Messages)
		}
	}
	return proposes, reports, delivered
}

func TestDisk_RingGoesOnWhileANumberIsNotDurable(t *testing.T) {
	for _, c := range []struct {
		name string
		self uint32
		peer uint32
	}{{"as who proposes", 1, 2}, {"as who is asked", 2, 1}} {
		t.Run(c.name, func(t *testing.T) {
			core := New(Config{Self: NK{c.self, 1}, MaxSeq: 10, Ceiling: 20, Rand: func() uint64 { return 0 }})
			core.Step(0, Tick{})
			peer := NK{c.peer, 1}
			foreign := ID{Seq: 5000, Rep: c.peer}
			core.Step(time.Millisecond, Up{Peer: peer, Ring: foreign, MaxSeq: 5000})
			core.Step(2*time.Millisecond, Received{peer, &Info{Ring: foreign, Acting: c.peer, MaxSeq: 5000, Size: 1, Reach: []NK{{c.self, 1}}}})
			now := 3 * time.Millisecond
			if c.self == 2 {
				ask := &Propose{Ballot: ID{5001, 1}, Set: []NK{{1, 1}, {2, 1}}}
				if _, r, _ := outputsOf(core, now, Received{peer, ask}); r != 0 {
					t.Fatal("it has promised a number that is not on its disk")
				}
			}
			// The disk is full for long.
			for range 20 {
				now += 100 * time.Millisecond
				if p, r, _ := outputsOf(core, now, Tick{}); p+r != 0 {
					t.Fatal("it has used a number that is not on its disk")
				}
				if _, _, n := outputsOf(core, now, Submit{Kind: 1, Data: []byte("x")}); n != 1 {
					t.Fatal("its own ring stands still")
				}
			}
			p, r, _ := outputsOf(core, now, Durable{Ceiling: 1 << 20})
			for range 10 {
				now += 100 * time.Millisecond
				p2, r2, _ := outputsOf(core, now, Tick{})
				p, r = p+p2, r+r2
			}
			if c.self == 1 && p == 0 {
				t.Error("it does not propose when the number is on its disk")
			}
			if c.self == 2 && r == 0 {
				t.Error("it does not answer when the number is on its disk")
			}
		})
	}
}
