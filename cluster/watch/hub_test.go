package watch

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func alive(id uint32, name string) Member {
	return Member{ID: id, Name: name, State: "alive", Boot: 1}
}

// tell puts m into the table, and everybody who is alive or leaving into the
// ring.
func tell(h *Hub, m Member) {
	h.Update(m)
	ringOf(h)
}

// drop takes a member out of the table and the ring.
func drop(h *Hub, name string) {
	h.Remove(name)
	ringOf(h)
}

func ringOf(h *Hub) {
	h.mu.Lock()
	var in []Member
	for _, m := range h.members {
		if takesPart(m) {
			in = append(in, m)
		}
	}
	ring := h.ring
	h.mu.Unlock()
	h.Ring(ring, in)
}

func takesPart(m Member) bool { return m.State == "alive" || m.State == "leaving" }

// readAll reads until nothing is there.
func readAll(t *testing.T, r *Reader) string {
	t.Helper()
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, ok := r.Read(buf)
		if !ok {
			if n != 0 || r.Ready() {
				t.Fatalf("Read = %d, false; Ready = %v", n, r.Ready())
			}
			return b.String()
		}
		b.Write(buf[:n])
	}
}

// bodies drops number and time of each line.
func bodies(lines string) []string {
	var out []string
	for line := range strings.Lines(lines) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		out = append(out, f[len(f)-1])
	}
	return out
}

func wantBodies(t *testing.T, got string, want ...string) {
	t.Helper()
	if g, w := strings.Join(bodies(got), "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func TestHub_LinesAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		tell(h, alive(2, "web2"))
		tell(h, alive(1, "web1"))
		r := h.Open(nil, 0)
		time.Sleep(1500 * time.Millisecond)
		tell(h, Member{ID: 2, Name: "web2", State: "failed", Boot: 1})
		tell(h, alive(2, "web2"))
		const want = `1 2000-01-01T00:00:00.000Z SNAP 1 web1 alive in
2 2000-01-01T00:00:00.000Z SNAP 2 web2 alive in
3 2000-01-01T00:00:00.000Z SNAPEND
4 2000-01-01T00:00:01.500Z MEMBER_LEFT 2 web2
5 2000-01-01T00:00:01.500Z MEMBER_JOINED 2 web2
`
		if got := readAll(t, r); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestHub_OnlyChangesOfMembershipAreTold(t *testing.T) {
	h := NewHub()
	r := h.Open([]Kind{MemberJoined, MemberLeft}, 0)
	with := func(state string, id uint32, boot uint64) Member {
		return Member{ID: id, Name: "a", State: state, Boot: boot}
	}
	for _, step := range []struct {
		do   Member
		want []string
	}{
		{with("failed", 1, 1), nil}, // heard of, never seen
		{with("alive", 1, 1), []string{"MEMBER_JOINED 1 a"}},
		{with("alive", 1, 1), nil},
		{with("leaving", 1, 1), nil},
		{with("alive", 1, 1), nil},
		{with("alive", 1, 2), []string{"MEMBER_LEFT 1 a", "MEMBER_JOINED 1 a"}},
		{with("alive", 9, 2), []string{"MEMBER_LEFT 1 a", "MEMBER_JOINED 9 a"}},
		{with("leaving", 9, 2), nil},
		{with("left", 9, 2), []string{"MEMBER_LEFT 9 a"}},
		{with("failed", 9, 2), nil},
		{with("alive", 9, 3), []string{"MEMBER_JOINED 9 a"}},
		{with("failed", 9, 3), []string{"MEMBER_LEFT 9 a"}},
	} {
		tell(h, step.do)
		wantBodies(t, readAll(t, r), step.want...)
	}
	drop(h, "a")
	wantBodies(t, readAll(t, r))
	tell(h, with("alive", 9, 3))
	drop(h, "a")
	drop(h, "a")
	wantBodies(t, readAll(t, r), "MEMBER_JOINED 9 a", "MEMBER_LEFT 9 a")
	if got := h.Members(); len(got) != 0 {
		t.Errorf("Members() = %v, want none", got)
	}
}

func TestHub_RingDecidesWhoIsIn(t *testing.T) {
	h := NewHub()
	h.Update(alive(1, "a"))
	h.Update(alive(2, "b"))
	h.Ring("4.1", []Member{{ID: 1, Name: "a", Boot: 1}})
	r := h.Open(nil, 0)
	wantBodies(t, readAll(t, r), "SNAP 1 a alive in ring=4.1", "SNAP 2 b alive out ring=4.1", "SNAPEND ring=4.1")
	// Of node 3 gossip has not told yet, and b is known to the ring by number only.
	h.Ring("5.1", []Member{{ID: 3, Name: "c", Boot: 1}, {ID: 2, Boot: 1}, {ID: 1, Name: "a", Boot: 1}})
	h.Ring("6.1", []Member{{ID: 3, Name: "c", Boot: 2}, {ID: 1, Name: "a", Boot: 1}})
	wantBodies(t, readAll(t, r),
		"MEMBER_JOINED 2 b ring=5.1", "MEMBER_JOINED 3 c ring=5.1",
		"MEMBER_LEFT 2 b ring=6.1", "MEMBER_LEFT 3 c ring=6.1", "MEMBER_JOINED 3 c ring=6.1")
	wantBodies(t, readAll(t, h.Open(nil, 0)), "SNAP 1 a alive in ring=6.1", "SNAP 2 b alive out ring=6.1",
		"SNAP 3 c alive in ring=6.1", "SNAPEND ring=6.1")
}

func TestHub_Conditions(t *testing.T) {
	h := NewHub()
	h.Ring("1.1", nil)
	r := h.Open(nil, 0)
	h.Condition(false, false)
	h.Condition(true, false)
	h.Condition(true, true)
	h.Condition(true, true)
	wantBodies(t, readAll(t, h.Open(nil, 0)), "STALE_CLUSTER ring=1.1", "INVALID_CLUSTER ring=1.1", "SNAPEND ring=1.1")
	h.Condition(false, true)
	h.Condition(false, false)
	wantBodies(t, readAll(t, r), "SNAPEND ring=1.1", "STALE_CLUSTER ring=1.1", "INVALID_CLUSTER ring=1.1", "VALID_CLUSTER ring=1.1")
}

func TestHub_ForeignNameStaysOneField(t *testing.T) {
	h := NewHub()
	r := h.Open(nil, 0)
	tell(h, alive(3, "a\n9 b\x1b"))
	wantBodies(t, readAll(t, r), "SNAPEND", `MEMBER_JOINED 3 a\x0A9\x20b\x1B`)
}

func TestHub_SnapshotIsTakenAtOpen(t *testing.T) {
	h := NewHub()
	tell(h, alive(1, "a"))
	r := h.Open(nil, 0)
	tell(h, Member{ID: 1, Name: "a", State: "failed", Boot: 1})
	late := h.Open(nil, 0)
	wantBodies(t, readAll(t, r), "SNAP 1 a alive in", "SNAPEND", "MEMBER_LEFT 1 a")
	wantBodies(t, readAll(t, late), "SNAP 1 a failed out", "SNAPEND")
}

func TestHub_ReadersShareSnapshotsAndRecords(t *testing.T) {
	h := NewHub()
	for i := range 64 {
		tell(h, alive(uint32(i+1), "m"+strings.Repeat("x", i)))
	}
	const readers = 1000
	rs := make([]*Reader, readers)
	for i := range rs {
		rs[i] = h.Open(nil, 0)
	}
	tell(h, Member{ID: 1, Name: "m", State: "left", Boot: 1})
	for _, r := range rs[1:] {
		if &r.snap[0] != &rs[0].snap[0] || r.queue[0] != rs[0].queue[0] {
			t.Fatal("two readers hold copies of their own")
		}
	}
}
