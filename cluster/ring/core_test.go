package ring

import (
	"fmt"
	"testing"
	"time"
)

func TestCore_StartsInARingOfItsOwn(t *testing.T) {
	c := New(Config{Self: NK{7, 3}, MaxSeq: 40, Rand: rnd(1)})
	outs := c.Step(0, Submit{Kind: 1, Data: []byte("a")})
	if len(outs) != 3 || outs[0] != (Persist{41 + reserve}) {
		t.Fatalf("got outputs %+v, want a ceiling, an install and a message", outs)
	}
	in, ok := outs[1].(Install)
	if !ok || in.View.Ring != (ID{41, 7}) || len(in.View.Members) != 1 || in.Cause != "start" {
		t.Errorf("got %+v, want the install of ring 41.7", outs[1])
	}
	d, ok := outs[2].(Deliver)
	if !ok || len(d.Messages) != 1 || d.Messages[0].Pos != 1 || string(d.Messages[0].Data) != "a" {
		t.Errorf("got %+v, want the message at position 1", outs[2])
	}
}

func TestCore_TwoNodesJoinAndOneLeaves(t *testing.T) {
	b := newBus(t)
	b.start(1, nil)
	b.start(2, nil)
	b.submit(1, "alone 1")
	b.submit(2, "alone 2")
	b.connect(1, 2)
	b.wait(60 * time.Millisecond)
	one, two := b.nodes[1], b.nodes[2]
	b.wantMembers(one, 1, 2)
	b.wantMembers(two, 1, 2)
	if got := one.lastInstall(); got.Cause != "node 2 joined" || len(got.Transitional) != 1 || len(got.States) != 2 {
		t.Errorf("got install %+v, want node 2 joined, with two states", got)
	}
	for i := range 3 {
		b.submit(1, fmt.Sprint("one ", i))
		b.submit(2, fmt.Sprint("two ", i))
		b.run()
	}
	b.wait(time.Second)
	b.wantNoBreaks()
	same := []string{"one 0", "two 0", "one 1", "two 1", "one 2", "two 2"}
	if got, want := fmt.Sprint(one.texts()), fmt.Sprint(append([]string{"alone 1"}, same...)); got != want {
		t.Errorf("node 1: got %s, want %s", got, want)
	}
	b.wantTexts(two, append([]string{"alone 2"}, same...)...)
	if s := two.core.Stats(); s.Stable != 6 || s.Unstable != 0 {
		t.Errorf("node 2: got stats %+v, want all 6 stable", s)
	}
	b.kill(1)
	b.submit(2, "left alone")
	b.wait(time.Second)
	b.wantMembers(two, 2)
	if got := two.texts(); got[len(got)-1] != "left alone" {
		t.Errorf("node 2: got %q, want the last message too", got)
	}
	if got := two.lastInstall(); got.Cause != "node 1 is gone" {
		t.Errorf("got cause %q, want that node 1 is gone", got.Cause)
	}
}
