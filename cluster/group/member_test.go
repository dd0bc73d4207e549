package group

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// poll waits for what other goroutines do.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for a minute: %s", what)
		}
	}
}

// soonAfter lets the clock that creations are stamped with go on.
func soonAfter(t testing.TB) {
	now := time.Now().UnixMilli()
	poll(t, "the clock goes on", func() bool { return time.Now().UnixMilli() > now })
}

func TestMember_SendLimits(t *testing.T) {
	w := newWorld(t, 1)
	m := w.join(1, "g", user(11, 0))
	wantErr(t, "a byte too much", m.Send(make([]byte, MaxMessage+1), false), syscall.EMSGSIZE)
	if n := w.nodes[1].sent; n != 0 {
		t.Fatalf("%d messages were submitted", n)
	}
	for _, size := range []int{0, 1, 64, 65, 256, 257, 70000, MaxMessage} {
		want := bytes.Repeat([]byte{byte(size)}, size)
		wantErr(t, "send", m.Send(want, size%2 == 0), 0)
	}
	for range 2 {
		if _, err := m.Next(); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int{0, 1, 64, 65, 256, 257, 70000, MaxMessage} {
		r, err := m.Next()
		if err != nil || !bytes.Equal(r.Data, bytes.Repeat([]byte{byte(size)}, size)) {
			t.Fatalf("a message of %d bytes comes back as %d, %v", size, len(r.Data), err)
		}
	}
}

// A buffer that is not given away may be used again at once; one that is, is
// extended within its capacity only.
func TestMember_SendOwnsOnlyWhatItIsGiven(t *testing.T) {
	w := newWorld(t, 1)
	m := w.join(1, "g", user(11, 0))
	for _, size := range []int{10, 100_000} {
		buf := bytes.Repeat([]byte{'a'}, size)
		wantErr(t, "send", m.Send(buf, false), 0)
		for i := range buf {
			buf[i] = 'b'
		}
		whole := bytes.Repeat([]byte{'c'}, size+10)
		wantErr(t, "send", m.Send(whole[:size:size], true), 0)
		if got := whole[size:]; string(got) != "cccccccccc" {
			t.Errorf("what follows the capacity is %q", got)
		}
	}
	for range 2 {
		m.Next()
	}
	for _, size := range []int{10, 100_000} {
		for _, c := range []byte{'a', 'c'} {
			r, err := m.Next()
			if err != nil || !bytes.Equal(r.Data, bytes.Repeat([]byte{c}, size)) {
				t.Fatalf("message of %d %c: got another, %v", size, c, err)
			}
		}
	}
}

func TestMember_WithoutRoomIsToldOfIt(t *testing.T) {
	w := newWorld(t, 1)
	wantErr(t, "mkdir", w.g(1).Mkdir(soon(t), "g", user(1, 0)), 0)
	m := w.join(1, "g", user(11, 0))
	s, err := w.g(1).Sender("g", user(12, 0))
	wantErr(t, "sender", err, 0)
	read(t, m)
	var toldM, toldS atomic.Int32
	m.Notify(func() { toldM.Add(1) })
	s.Notify(func() { toldS.Add(1) })
	if !m.Room() || !s.Room() {
		t.Fatal("there is no room at the start")
	}
	w.setFull(1, true)
	for range 3 {
		wantErr(t, "send", m.Send([]byte("x"), false), syscall.EAGAIN)
		wantErr(t, "send", s.Send([]byte("x"), false), syscall.EAGAIN)
	}
	if m.Room() || s.Room() {
		t.Fatal("there is room after EAGAIN")
	}
	// Control entries find room: who leaves need not wait.
	w.join(1, "g", user(13, 0)).Leave(Leave)
	told := toldM.Load()
	w.setFull(1, false)
	if toldM.Load() != told+1 || toldS.Load() != 1 {
		t.Fatalf("told of room %d and %d times, want once each", toldM.Load()-told, toldS.Load())
	}
	if !m.Room() || !s.Room() {
		t.Fatal("there is no room after Room")
	}
	wantErr(t, "send", m.Send([]byte("x"), false), 0)
	w.g(1).Room()
	if toldS.Load() != 1 {
		t.Fatal("told of room without having waited")
	}
}

func TestMember_IsToldOfTheFirstRecordOnly(t *testing.T) {
	w := newWorld(t, 1)
	m := w.join(1, "g", user(11, 0))
	read(t, m)
	var told atomic.Int32
	m.Notify(func() { told.Add(1) })
	for range 3 {
		send(t, m, "x")
	}
	if told.Load() != 1 {
		t.Fatalf("told %d times, want once", told.Load())
	}
	if !m.Ready() {
		t.Fatal("is not ready with three records")
	}
	read(t, m)
	if m.Ready() {
		t.Fatal("is ready without a record")
	}
	send(t, m, "x")
	if told.Load() != 2 {
		t.Fatalf("told %d times, want twice", told.Load())
	}
	m.Notify(nil)
	read(t, m)
	send(t, m, "x")
	if told.Load() != 2 {
		t.Fatal("told after Notify(nil)")
	}
}

func TestMember_Leave(t *testing.T) {
	for _, why := range []Reason{Leave, ProcDown} {
		t.Run(why.String(), func(t *testing.T) {
			w := newWorld(t, 1, 2)
			a := w.join(1, "g", user(11, 0))
			b := w.join(2, "g", user(22, 0))
			read(t, a)
			var told atomic.Int32
			b.Notify(func() { told.Add(1) })
			send(t, b, "bye")
			b.Leave(why)
			b.Leave(why)
			if told.Load() == 0 {
				t.Error("nobody was told of the end")
			}
			wantErr(t, "send after leave", b.Send([]byte("x"), false), syscall.EPIPE)
			if !b.Ready() || !b.Room() {
				t.Error("who has left would block")
			}
			expect(t, b, "EOF")
			expect(t, b, "EOF")
			expect(t, a, "msg 2 22 bye", "conf members=1:11 joined=- left=2:22:"+why.String())
			if s := w.g(2).Stats(); s.Local != 0 || s.Queued != 0 {
				t.Errorf("left behind: %+v", s)
			}
			if n := len(w.g(2).feeds); n != 0 || w.g(2).table.groups["g"].feed != nil {
				t.Errorf("%d feeds are left behind", n)
			}
			if n := w.nodes[2].gone; n != 1 {
				t.Errorf("%d leaves were ordered, want 1", n)
			}
		})
	}
}

func TestMember_EvictedReadsItsOwnEnd(t *testing.T) {
	w := newWorld(t, 1, 2)
	a := w.join(1, "g", user(11, 1000))
	b := w.join(2, "g", user(22, 1000))
	read(t, a)
	read(t, b)
	send(t, a, "before")
	ctx := soon(t)
	wantErr(t, "evict by the owner", w.g(1).Evict(ctx, "g", user(11, 1000), b.ID()), syscall.EPERM)
	wantErr(t, "evict", w.g(1).Evict(ctx, "g", user(1, 0), b.ID()), 0)
	wantErr(t, "evict again", w.g(1).Evict(ctx, "g", user(1, 0), b.ID()), syscall.ESRCH)
	wantErr(t, "send of who is out", b.Send([]byte("x"), false), syscall.EPIPE)
	if a.Ended() || !b.Ended() || !b.Ready() {
		t.Errorf("ended: got %v and %v, want the evicted one only, who has records left", a.Ended(), b.Ended())
	}
	send(t, a, "after")
	lines := []string{"msg 1 11 before", "conf members=1:11 joined=- left=2:22:PROCDOWN"}
	expect(t, b, append(lines, "EOF")...)
	expect(t, a, append(lines, "msg 1 11 after")...)
	b.Leave(Leave)
	expect(t, a)
	if n := len(w.g(2).feeds); n != 0 {
		t.Errorf("%d feeds are left behind", n)
	}
	if n := w.nodes[2].gone; n != 0 {
		t.Errorf("%d leaves were ordered, want none", n)
	}
}

func TestMember_ManyInOneGroupShareTheirRecords(t *testing.T) {
	w := newWorld(t, 1, 2)
	var ms []*Member
	for range 3 {
		ms = append(ms, w.join(1, "g", user(11, 0)))
	}
	for _, m := range ms {
		read(t, m)
	}
	if got := ms[2].ID(); got != (Process{1, 11, 3}) {
		t.Fatalf("the third is %v", got)
	}
	send(t, ms[2], "hello")
	first, err := ms[0].Next()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms[1:] {
		if r, err := m.Next(); err != nil || r != first {
			t.Fatalf("another record, %v", err)
		}
	}
	if got := string(first.AppendText(nil)); got != "msg 1 11.3 hello\n" {
		t.Errorf("got %q", got)
	}
	if q := w.g(1).Stats().Queued; q != 0 {
		t.Errorf("%d bytes wait when all have read", q)
	}
}

func TestGroups_CloseEndsAll(t *testing.T) {
	w := newWorld(t, 1)
	m := w.join(1, "g", user(11, 0))
	read(t, m)
	var told atomic.Int32
	m.Notify(func() { told.Add(1) })
	w.hold(1)
	errs := make(chan error)
	go func() { errs <- w.g(1).Mkdir(context.Background(), "h", user(1, 0)) }()
	go func() {
		_, err := w.g(1).Join(context.Background(), "h", user(1, 0), JoinOpts{Create: true})
		errs <- err
	}()
	poll(t, "both are on their way", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.nodes[1].pend) == 2
	})
	w.g(1).Close()
	for range 2 {
		wantErr(t, "a call that waits", <-errs, syscall.ESHUTDOWN)
	}
	if _, err := m.Next(); err != io.EOF || told.Load() == 0 {
		t.Errorf("Next: got %v and was told %d times", err, told.Load())
	}
	_, err := w.g(1).Join(context.Background(), "h", user(1, 0), JoinOpts{})
	wantErr(t, "join", err, syscall.ESHUTDOWN)
	wantErr(t, "mkdir", w.g(1).Mkdir(context.Background(), "h", user(1, 0)), syscall.ESHUTDOWN)
	w.g(1).Close()
	m.Leave(Leave)
}

func TestGroups_ManyMembersOfOneNode(t *testing.T) {
	const n = 1000
	w := newWorld(t, 1, 2)
	var ms []*Member
	for i := range n {
		ms = append(ms, w.join(1, "g", user(100+i, 1000)))
	}
	_, err := w.g(1).Join(soon(t), "g", user(1, 1001), JoinOpts{})
	wantErr(t, "another user", err, syscall.EACCES)
	if in, ok := w.g(2).Group("g"); !ok || len(in.Members) != n {
		t.Fatalf("node 2 knows %d members, want %d", len(in.Members), n)
	}
	send(t, ms[0], "hello")
	for i, m := range ms {
		var last *Record
		for {
			r, err := m.Next()
			if err == syscall.EAGAIN {
				break
			} else if err != nil {
				t.Fatalf("member %d: %v", i, err)
			}
			last = r
		}
		if string(last.Data) != "hello" {
			t.Fatalf("member %d has read last: %s", i, last.AppendText(nil))
		}
	}
}

func TestGroups_ManyGroups(t *testing.T) {
	const n = 1000
	w := newWorld(t, 1, 2)
	var ms []*Member
	for i := range n {
		ms = append(ms, w.join(1, fmt.Sprint("g", i), user(100+i, 1000)))
	}
	if got := len(w.g(2).List()); got != n {
		t.Fatalf("node 2 lists %d groups, want %d", got, n)
	}
	for _, m := range ms {
		m.Leave(ProcDown)
	}
	wantNames(t, w.g(2))
}

// A burst leaves no memory behind.
func TestMember_BurstIsForgotten(t *testing.T) {
	w := newWorld(t, 1)
	m := w.join(1, "g", user(11, 0))
	for range 5 * keepSlots {
		send(t, m, "x")
	}
	skip(t, m)
	if n := len(m.feed.slots); n > keepSlots {
		t.Errorf("an empty queue has room for %d records, want at most %d", n, keepSlots)
	}
	send(t, m, "x")
	expect(t, m, "msg 1 11 x")
}

// fickle has no room, but room again before the caller knows.
type fickle struct {
	g     *Groups
	calls int
}

func (f *fickle) Submit(ring.Kind, []byte) error {
	if f.calls++; f.calls == 1 {
		f.g.Room()
		return syscall.EAGAIN
	}
	return nil
}

// No call of Room follows, so who then waited would wait for ever.
func TestMember_RoomComesBeforeItWaits(t *testing.T) {
	w := newWorld(t, 1)
	m := w.join(1, "g", user(11, 0))
	f := &fickle{g: m.g}
	m.g.conf.Order = f
	wantErr(t, "send", m.Send([]byte("x"), false), 0)
	if f.calls != 2 || !m.Room() {
		t.Errorf("submitted %d times, room is %v", f.calls, m.Room())
	}
}
