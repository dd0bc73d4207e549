package ring

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// frames gives what waits on a link, of one type.
func frames[F Frame](b *bus, from, to uint32) []F {
	var out []F
	for _, f := range b.link(from, to).frames {
		if f, ok := f.(F); ok {
			out = append(out, f)
		}
	}
	return out
}

// pair is a ring of nodes 1, the sequencer, and 2.
func pair(t *testing.T, change func(*Config)) (b *bus, one, two *busNode) {
	b = newBus(t)
	ns := b.cluster(2, change)
	if ns[1].core.View().Members[0].ID != 1 {
		t.Fatalf("got members %v, want node 1 as the sequencer", ns[1].core.View().Members)
	}
	return b, ns[0], ns[1]
}

func TestSubmit_ALoneMessageGoesAtOnceAndOthersGather(t *testing.T) {
	b, _, two := pair(t, nil)
	b.submit(2, "first")
	if got := frames[*SubmitFrame](b, 2, 1); len(got) != 1 || len(got[0].Entries) != 1 {
		t.Fatalf("got %+v, want one SUBMIT with the first message", got)
	}
	b.submit(2, "second")
	b.submit(2, "third")
	if got := frames[*SubmitFrame](b, 2, 1); len(got) != 1 {
		t.Fatalf("got %d SUBMITs while the first is on its way, want 1", len(got))
	}
	b.moveOne(2, 1)
	b.moveOne(1, 2) // the ORD: nothing is on its way any more
	if got := frames[*SubmitFrame](b, 2, 1); len(got) != 1 || len(got[0].Entries) != 2 {
		t.Fatalf("got %+v, want one SUBMIT with both", got)
	}
	b.run()
	b.wantTexts(two, "first", "second", "third")
}

func TestSubmit_GatheringEnds(t *testing.T) {
	for _, c := range []struct {
		name   string
		gather time.Duration
		size   int
		wait   time.Duration
		want   int // SUBMITs
	}{
		{"not yet", 0, 10, 900 * time.Microsecond, 1},
		{"by time", 0, 10, time.Millisecond, 2},
		{"by bytes", 0, gatherBytes, 0, 2},
		{"it never begins", -1, 10, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, _, _ := pair(t, func(conf *Config) { conf.Gather = c.gather })
			b.submit(2, "first")
			hold := b.link(2, 1).frames
			b.link(2, 1).frames = nil // it stays on its way
			b.submit(2, string(make([]byte, c.size)))
			b.now += c.wait
			b.stepNode(b.nodes[2], Tick{})
			if got := len(hold) + len(frames[*SubmitFrame](b, 2, 1)); got != c.want {
				t.Errorf("got %d SUBMITs, want %d", got, c.want)
			}
		})
	}
}

func TestSubmit_SequencerTellsALoneMessageAtOnceAndGathersAFlood(t *testing.T) {
	b, one, two := pair(t, nil)
	for i := range 10 {
		b.submit(1, fmt.Sprint("m", i))
	}
	if got := frames[*Ord](b, 1, 2); len(got) != 1 || len(got[0].Entries) != 1 {
		t.Fatalf("got %+v, want one ORD with the first", got)
	}
	if len(one.delivered) != 10 {
		t.Errorf("the sequencer has delivered %d messages, want all 10 at once", len(one.delivered))
	}
	b.wait(time.Millisecond)
	if len(two.delivered) != 10 {
		t.Errorf("the member has delivered %d messages after a millisecond, want 10", len(two.delivered))
	}
	// Messages that answer each other do not wait.
	for i := range 5 {
		b.submit(2, fmt.Sprint("ping", i))
		b.run()
		b.submit(1, fmt.Sprint("pong", i))
		b.run()
		if got := string(two.delivered[len(two.delivered)-1].Data); got != fmt.Sprint("pong", i) {
			t.Fatalf("got %q last, want pong %d without a wait", got, i)
		}
	}
}

func TestSubmit_KeepsToItsCredit(t *testing.T) {
	const credit = 10 * (100 + entryOverhead)
	b, one, two := pair(t, func(c *Config) {
		c.Window, c.MinCredit, c.Gather = 1, credit, -1
	})
	for i := range 100 {
		b.submit(2, string(bytes.Repeat([]byte{byte('0' + i%10)}, 100)))
	}
	if got := two.core.Stats().OnWay; got > credit || got < credit*7/8 {
		t.Errorf("got %d bytes on their way, want nearly the credit of %d", got, credit)
	}
	worst := 0
	b.drop = func(from, to NK, f Frame) bool {
		worst = max(worst, one.core.Stats().Unstable, two.core.Stats().Unstable+two.core.Stats().OnWay)
		return false
	}
	before := b.now
	b.wait(200 * time.Millisecond)
	if len(one.delivered) != 100 || len(two.delivered) != 100 {
		t.Errorf("got %d and %d messages after %v, want 100", len(one.delivered), len(two.delivered), b.now-before)
	}
	if worst > credit {
		t.Errorf("%d bytes were unstable, want at most the credit of %d", worst, credit)
	}
	b.wantNoBreaks()
}

func TestSubmit_OneEntryAlwaysGoesHoweverSmallTheCredit(t *testing.T) {
	b, one, two := pair(t, func(c *Config) { c.Window, c.MinCredit = 1, 1 })
	for i := range 20 {
		b.submit(1, fmt.Sprint("one", i))
		b.submit(2, fmt.Sprint("two", i))
	}
	b.wait(time.Second)
	if len(one.delivered) != 40 || !slices.Equal(one.texts(), two.texts()) {
		t.Errorf("got %q and %q, want the same 40", one.texts(), two.texts())
	}
	b.wantNoBreaks()
}

func TestSubmit_RefusesWhatHasNoRoom(t *testing.T) {
	b, _, two := pair(t, func(c *Config) {
		c.Queue, c.MaxMessage, c.Window, c.MinCredit = 1000, 600, 1, 1
	})
	refused := func(kind Kind, size int, urgent bool) error {
		t.Helper()
		two.refused = nil
		b.stepNode(two, Submit{Kind: kind, Data: make([]byte, size), Urgent: urgent})
		if len(two.refused) == 0 {
			return nil
		}
		return two.refused[0]
	}
	if err := refused(0, 1, false); !errors.Is(err, ErrKind) {
		t.Errorf("without a kind: got %v, want %v", err, ErrKind)
	}
	if err := refused(1, 601, false); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long: got %v, want %v", err, ErrTooLong)
	}
	if err := refused(1, 600, false); err != nil {
		t.Errorf("of the greatest length: got %v", err)
	}
	// It is on its way. These wait.
	if got := two.core.Room(); got != 600 {
		t.Errorf("got room for %d, want 600", got)
	}
	if err := refused(1, 500, false); err != nil {
		t.Errorf("the first that waits: got %v", err)
	}
	room := two.core.Room()
	if want := 1000 - 500 - 2*entryOverhead; room != want {
		t.Errorf("got room for %d, want %d", room, want)
	}
	if err := refused(1, room+1, false); !errors.Is(err, ErrFull) {
		t.Errorf("beyond the room: got %v, want %v", err, ErrFull)
	}
	if err := refused(1, room, false); err != nil {
		t.Errorf("what fills the room: got %v", err)
	}
	if got := two.core.Room(); got != 0 {
		t.Errorf("got room for %d, want none", got)
	}
	if err := refused(1, 0, false); !errors.Is(err, ErrFull) {
		t.Errorf("an empty one without room: got %v, want %v", err, ErrFull)
	}
	if err := refused(1, 500, true); err != nil {
		t.Errorf("an urgent one: got %v", err)
	}
	if err := refused(1, 600, true); !errors.Is(err, ErrFull) {
		t.Errorf("an urgent one beyond twice the queue: got %v, want %v", err, ErrFull)
	}
	b.wait(time.Second)
	if len(two.delivered) != 4 {
		t.Errorf("got %d messages, want the 4 that were taken", len(two.delivered))
	}
}

func TestSubmit_LongMessagesAreCutAndJoined(t *testing.T) {
	for _, size := range []int{0, 1, 999, 1000, 1001, 2000, 2001, 12345} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			b, one, two := pair(t, func(c *Config) { c.Fragment = 1000 })
			long := make([]byte, size)
			for i := range long {
				long[i] = byte(i * 31 >> 2)
			}
			b.stepNode(two, Submit{Kind: 5, Data: long})
			b.submit(1, "between")
			b.stepNode(one, Submit{Kind: 6, Data: long})
			b.submit(2, "after")
			b.wait(time.Second)
			b.wantNoBreaks()
			parts := uint64(max(1, (size+999)/1000))
			for _, n := range []*busNode{one, two} {
				if len(n.delivered) != 4 {
					t.Fatalf("node %v: got %d messages, want 4", n.nk, len(n.delivered))
				}
				for _, m := range n.delivered {
					if m.Kind != 1 && (!bytes.Equal(m.Data, long) || m.OSeq < parts) {
						t.Errorf("node %v: got kind %d, oseq %d, %d bytes, want the long message again", n.nk, m.Kind, m.OSeq, len(m.Data))
					}
				}
				if s := n.core.Stats(); s.Position != 2*parts+2 {
					t.Errorf("node %v: got a log of %d, want %d", n.nk, s.Position, 2*parts+2)
				}
			}
		})
	}
}

func TestSubmit_AMillionBytesInAQueueOfThatSize(t *testing.T) {
	b, one, two := pair(t, nil)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if len(data) != 1<<20 {
		t.Fatal(len(data))
	}
	for range 3 {
		if two.core.Room() < len(data) {
			t.Fatalf("got room for %d, want %d", two.core.Room(), len(data))
		}
		b.stepNode(two, Submit{Kind: 1, Data: data})
	}
	b.wait(time.Second)
	if len(one.delivered) != 3 || !bytes.Equal(one.delivered[2].Data, data) || len(two.delivered) != 3 {
		t.Errorf("got %d and %d messages, want 3 of a MiB", len(one.delivered), len(two.delivered))
	}
	b.wantNoBreaks()
}
