package watch

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Member is what the hub knows of a member.
type Member struct {
	ID    uint32 // the member's number
	Name  string // unique among members
	State string // "alive", "leaving", "left" or "failed"
	Boot  uint64 // which start of the member this is
}

// in tells whether the member takes part. One that is about to leave still does:
// its MEMBER_LEFT is yet to come, and a reader that replays records must have it.
func (m Member) in() bool { return m.State == "alive" || m.State == "leaving" }

func (m Member) role() string {
	if m.in() {
		return "in"
	}
	return "out"
}

// snapshot is a table rendered for readers; shared by all that begin with it.
type snapshot []*record

// Hub keeps the table of members and tells every reader what changes in it.
// All methods may be called from any goroutine. None of them blocks on a reader.
type Hub struct {
	mu      sync.Mutex
	members map[string]Member    // mu; by name
	readers map[*Reader]struct{} // mu
	at      time.Time            // mu; of the last change of the table
	snap    snapshot             // mu; the table as it is now, nil when it has to be rendered
}

// NewHub gives an empty hub.
func NewHub() *Hub {
	return &Hub{at: time.Now(), members: map[string]Member{}, readers: map[*Reader]struct{}{}}
}

// Update puts m into the table, in place of the member with its name. It posts
// MEMBER_JOINED when the member was out and is in, MEMBER_LEFT when it was in
// and is out, and both, LEFT first and with state=failed, when it is in with
// another ID or boot: then it died and came back unseen. Anything else changes
// the table only.
func (h *Hub) Update(m Member) {
	h.change(func() []*record {
		old, known := h.members[m.Name]
		if known && old == m {
			return nil
		}
		h.members[m.Name] = m
		now := h.changed()
		switch {
		case known && old.in() && m.in() && (old.ID != m.ID || old.Boot != m.Boot):
			return []*record{left(now, old, "failed"), joined(now, m)}
		case known && old.in() && !m.in():
			return []*record{left(now, m, m.State)}
		case (!known || !old.in()) && m.in():
			return []*record{joined(now, m)}
		}
		return nil
	})
}

// Remove takes the member out of the table and posts MEMBER_LEFT with
// state=left if it was in. A name that is not in the table is ignored.
func (h *Hub) Remove(name string) {
	h.change(func() []*record {
		old, known := h.members[name]
		if !known {
			return nil
		}
		delete(h.members, name)
		now := h.changed()
		if !old.in() {
			return nil
		}
		return []*record{left(now, old, "left")}
	})
}

// Members gives the table, sorted by ID and name.
func (h *Hub) Members() []Member {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sorted()
}

// change runs f, which changes the table and says what is to be posted, posts
// it under the same lock, and wakes the readers afterwards, without any lock.
func (h *Hub) change(f func() []*record) {
	h.mu.Lock()
	recs := f()
	var wake []func()
	if len(recs) > 0 {
		for r := range h.readers {
			if notify := r.post(recs); notify != nil {
				wake = append(wake, notify)
			}
		}
	}
	h.mu.Unlock()
	for _, notify := range wake {
		notify()
	}
}

// changed notes that the table is another one since now. The caller holds h.mu.
func (h *Hub) changed() time.Time {
	h.at, h.snap = time.Now(), nil
	return h.at
}

// snapshot renders the table, or gives what the last call rendered when nothing
// has changed since. The caller holds h.mu.
func (h *Hub) snapshot() snapshot {
	if h.snap == nil {
		s := make(snapshot, 0, len(h.members)+1)
		for _, m := range h.sorted() {
			s = append(s, newRecord(h.at, Snap, id(m), m.Name, m.State, m.role()))
		}
		h.snap = append(s, newRecord(h.at, SnapEnd))
	}
	return h.snap
}

// sorted is the table in its one order. The caller holds h.mu.
func (h *Hub) sorted() []Member {
	return slices.SortedFunc(maps.Values(h.members), func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Name, b.Name))
	})
}

func id(m Member) string { return strconv.FormatUint(uint64(m.ID), 10) }

func joined(at time.Time, m Member) *record {
	return newRecord(at, MemberJoined, id(m), m.Name)
}

func left(at time.Time, m Member, state string) *record {
	return newRecord(at, MemberLeft, id(m), m.Name, "state="+state)
}
