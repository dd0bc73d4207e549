package group

import (
	"reflect"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fill sends until more than bytes have been sent.
func fill(t testing.TB, m *Member, bytes int) {
	t.Helper()
	data := make([]byte, MaxMessage-4096)
	for sent := 0; sent <= bytes; sent += len(data) {
		if err := m.Send(data, false); err != nil {
			t.Fatal(err)
		}
	}
}

// skip reads all that waits and tells how many records it was.
func skip(t testing.TB, m *Member) int {
	t.Helper()
	for n := 0; ; n++ {
		if _, err := m.Next(); err == syscall.EAGAIN {
			return n
		} else if err != nil {
			t.Fatalf("%v has read %d records: %v", m.ID(), n, err)
		}
	}
}

func TestSlow_TooMuchWaits(t *testing.T) {
	w := newWorld(t, 1, 2)
	a := w.join(2, "g", user(22, 0))
	b := w.join(1, "g", user(11, 0))
	var told atomic.Int32
	b.Notify(func() { told.Add(1) })
	skip(t, a)
	var out Process
	w.g(1).conf.PutOut = func(group string, p Process, uid uint32, why string) { out = p }
	for range 70 {
		fill(t, a, 0)
		skip(t, a)
		if s := w.g(1).Stats(); s.Queued > maxQueue+2*MaxMessage {
			t.Fatalf("%d bytes wait", s.Queued)
		}
	}
	if s := w.g(1).Stats(); s.Queued != 0 || s.PutOut != 1 || s.Local != 0 {
		t.Fatalf("got %+v, want nothing that waits and one put out", s)
	}
	if out != b.ID() || told.Load() == 0 {
		t.Errorf("told of %v, want %v; it itself %d times", out, b.ID(), told.Load())
	}
	expect(t, b, "EOF")
	wantErr(t, "send of who is out", b.Send(nil, false), syscall.EPIPE)
	if in, _ := w.g(2).Group("g"); len(in.Members) != 1 {
		t.Errorf("members are %+v, want node 2's alone", in.Members)
	}
	b.Leave(Leave)
	if n := len(w.g(1).feeds); n != 0 {
		t.Errorf("%d feeds are left behind", n)
	}
}

// Others see when it is put out: PROCDOWN, at one place of the order.
func TestSlow_IsAPROCDOWN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2)
		a := w.join(2, "g", user(22, 0))
		w.join(1, "g", user(11, 0))
		fill(t, a, slowQueue)
		skip(t, a)
		time.Sleep(29 * time.Second)
		expect(t, a)
		time.Sleep(2 * time.Second)
		expect(t, a, "conf members=2:22 joined=- left=1:11:PROCDOWN")
	})
}

func TestSlow_NotWhileItReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		a := w.join(1, "g", user(11, 0))
		fill(t, a, 10<<20)
		for range 10 {
			time.Sleep(29 * time.Second)
			if _, err := a.Next(); err != nil {
				t.Fatalf("Next: %v", err)
			}
		}
	})
}

// Little may wait for ever, whoever sends it and however late.
func TestSlow_NotForLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		a := w.join(1, "g", user(11, 0))
		time.Sleep(time.Hour)
		for range 9 {
			if err := a.Send(make([]byte, 100<<10), false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if n := skip(t, a); n != 2+9 {
			t.Errorf("has read %d records, want 11", n)
		}
		// Its time counts from when too much waits, not from its last read.
		time.Sleep(time.Hour)
		fill(t, a, slowQueue)
		time.Sleep(29 * time.Second)
		if n := skip(t, a); n != 2 {
			t.Errorf("has read %d records, want 2", n)
		}
		time.Sleep(time.Hour)
		fill(t, a, slowQueue)
		time.Sleep(29 * time.Second)
		a.Leave(Leave)
		time.Sleep(time.Hour)
	})
}

// One that was evicted and never reads its end holds memory like others.
func TestSlow_EvictedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		a := w.join(1, "g", user(11, 0))
		fill(t, a, slowQueue)
		wantErr(t, "evict", w.g(1).Evict(t.Context(), "g", user(1, 0), a.ID()), 0)
		time.Sleep(31 * time.Second)
		expect(t, a, "EOF")
		if s := w.g(1).Stats(); s.Queued != 0 {
			t.Errorf("%d bytes wait", s.Queued)
		}
		if n := len(w.g(1).feeds); n != 0 {
			t.Errorf("%d feeds are left behind", n)
		}
	})
}

// What waits for members of one user in many groups counts together, and once
// for those of one group. Other users and root keep what they have.
func TestSlow_ShareOfAUser(t *testing.T) {
	w := newWorld(t, 1, 2)
	ctx := soon(t)
	var senders, alice []*Member
	for _, name := range []string{"a", "b", "c"} {
		s := w.join(2, name, user(1, 0))
		wantErr(t, "open", w.g(2).Open(ctx, name, user(1, 0), true), 0)
		senders = append(senders, s)
		alice = append(alice, w.join(1, name, user(10, 1001)))
	}
	twin := w.join(1, "a", user(11, 1001))
	bob := w.join(1, "a", user(20, 1002))
	var root []*Member // more waits for them than a user may have
	for _, name := range []string{"a", "b", "c"} {
		root = append(root, w.join(1, name, user(30, 0)))
	}
	fill(t, senders[0], 29<<20)
	fill(t, senders[1], 30<<20)
	if n := w.g(1).Stats().PutOut; n != 0 {
		t.Fatalf("%d were put out: 59 MiB wait", n)
	}
	fill(t, senders[2], 6<<20)
	expect(t, alice[1], "EOF") // the most
	if n := w.g(1).Stats().PutOut; n != 1 {
		t.Fatalf("%d were put out, want 1", n)
	}
	for _, m := range append(root, alice[0], twin, bob, alice[2]) {
		if n := skip(t, m); n < 6 {
			t.Errorf("%v of uid %d has read %d records", m.ID(), m.caller.UID, n)
		}
	}
	if q := w.g(1).Stats().Queued; q != 0 {
		t.Errorf("%d bytes wait", q)
	}
}

// A member that stops in a quiet group must not hold the buffers that a busy
// group's messages came in.
func TestRecord_DoesNotKeepTheBuffer(t *testing.T) {
	buf := make([]byte, 64<<10)
	in := func(r *Record) bool {
		buf[0]++
		return r.Data[0] == buf[0]
	}
	for _, tt := range []struct {
		size int
		lag  uint64
		keep bool
	}{
		{64, 0, false}, {256, 0, false}, {257, 0, true}, {257, 17, false},
		{32 << 10, 0, true}, {32 << 10, 17, false}, {40 << 10, 17, true},
	} {
		if r := newMsg(buf[:tt.size:tt.size], tt.lag); in(r) != tt.keep {
			t.Errorf("%d bytes behind %d records: keeps the buffer is %v", tt.size, tt.lag, !tt.keep)
		}
	}
}

// What waits counts for what it takes.
func TestRecord_Size(t *testing.T) {
	for _, tt := range []struct {
		v    any
		want int
	}{{Record{}, recordBytes}, {slot{}, slotBytes}, {Process{}, processBytes}, {Changed{}, changedBytes}} {
		if got := int(reflect.TypeOf(tt.v).Size()); got != tt.want {
			t.Errorf("%T takes %d bytes, want %d", tt.v, got, tt.want)
		}
	}
	r := Record{Members: make([]Process, 2), Joined: make([]Changed, 3), Left: make([]Changed, 4), Nodes: make([]uint32, 5), Data: make([]byte, 6)}
	if got, want := r.size(), recordOverhead+2*12+7*16+5*4+6; got != want {
		t.Errorf("got %d, want %d", got, want)
	}
}
