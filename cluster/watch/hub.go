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
	State string // "alive", "leaving", "left" or "failed": what gossip says
	Boot  uint64 // which start of the member this is
}

// snapshot is a table rendered for readers; shared by all that begin with it.
type snapshot []*record

// Hub keeps the table of members and tells every reader what changes in it.
// All methods may be called from any goroutine. None of them blocks on a reader.
type Hub struct {
	mu      sync.Mutex
	members map[string]Member    // mu; by name
	ring    string               // mu; the ring's name, "" before the first
	in      map[uint32]Member    // mu; who is in the ring, by ID
	stale   bool                 // mu
	invalid bool                 // mu
	readers map[*Reader]struct{} // mu
	at      time.Time            // mu; of the last change of the table
	snap    snapshot             // mu; the table as it is now, nil when it has to be rendered
}

// NewHub gives an empty hub.
func NewHub() *Hub {
	return &Hub{at: time.Now(), members: map[string]Member{}, in: map[uint32]Member{}, readers: map[*Reader]struct{}{}}
}

// Update puts m into the table, in place of the member with its name. Nothing is
// posted: gossip's belief is no membership.
func (h *Hub) Update(m Member) {
	h.change(func() []*record {
		if old, known := h.members[m.Name]; !known || old != m {
			h.members[m.Name] = m
			h.changed()
		}
		return nil
	})
}

// Remove takes the member out of the table. A name that is not in it is ignored.
func (h *Hub) Remove(name string) {
	h.change(func() []*record {
		if _, known := h.members[name]; known {
			delete(h.members, name)
			h.changed()
		}
		return nil
	})
}

// Ring says who is in the cluster from now on, with the ring's name as it is to
// be shown; State is of no meaning. It posts MEMBER_LEFT for each that was in
// and is not, and MEMBER_JOINED for each that is and was not, each by ID; one
// that is in with another boot has left and joined.
func (h *Hub) Ring(ring string, members []Member) {
	h.change(func() []*record {
		now := h.changed()
		h.ring = ring
		next := make(map[uint32]Member, len(members))
		for _, m := range members {
			next[m.ID] = m
		}
		var gone, come []*record
		for _, m := range byID(h.in) {
			if n, still := next[m.ID]; !still || n.Boot != m.Boot {
				gone = append(gone, h.record(now, MemberLeft, id(m), h.nameOf(m)))
			}
		}
		for _, m := range byID(next) {
			if o, was := h.in[m.ID]; !was || o.Boot != m.Boot {
				come = append(come, h.record(now, MemberJoined, id(m), h.nameOf(m)))
			}
		}
		h.in = next
		return append(gone, come...)
	})
}

// Condition says whether this node has been cut off from its ring for long
// (stale), and whether it has lost the quorum that was asked for (invalid). It
// posts STALE_CLUSTER and INVALID_CLUSTER when these begin, and VALID_CLUSTER
// when the last of them has ended.
func (h *Hub) Condition(stale, invalid bool) {
	h.change(func() []*record {
		if stale == h.stale && invalid == h.invalid {
			return nil
		}
		now := h.changed()
		var recs []*record
		if stale && !h.stale {
			recs = append(recs, h.record(now, StaleCluster))
		}
		if invalid && !h.invalid {
			recs = append(recs, h.record(now, InvalidCluster))
		}
		if !stale && !invalid {
			recs = append(recs, h.record(now, ValidCluster))
		}
		h.stale, h.invalid = stale, invalid
		return recs
	})
}

// record renders a record with the ring at its end. The caller holds h.mu.
func (h *Hub) record(at time.Time, kind Kind, fields ...string) *record {
	if h.ring != "" {
		fields = append(fields, "ring="+h.ring)
	}
	return newRecord(at, kind, fields...)
}

// nameOf gives the name under which a member of the ring is known here: the
// ring may know a number only. The caller holds h.mu.
func (h *Hub) nameOf(m Member) string {
	if m.Name != "" {
		return m.Name
	}
	for _, t := range h.members {
		if t.ID == m.ID {
			return t.Name
		}
	}
	return ""
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
	if h.snap != nil {
		return h.snap
	}
	s := make(snapshot, 0, len(h.members)+1)
	for _, m := range h.sorted() {
		role := "out"
		if _, in := h.in[m.ID]; in {
			role = "in"
		}
		s = append(s, h.record(h.at, Snap, id(m), m.Name, m.State, role))
	}
	if h.stale {
		s = append(s, h.record(h.at, StaleCluster))
	}
	if h.invalid {
		s = append(s, h.record(h.at, InvalidCluster))
	}
	h.snap = append(s, h.record(h.at, SnapEnd))
	return h.snap
}

// sorted is the table in its one order, and who is in the ring of whom gossip
// has not told yet. The caller holds h.mu.
func (h *Hub) sorted() []Member {
	all := slices.Collect(maps.Values(h.members))
	for _, m := range h.in {
		if !slices.ContainsFunc(all, func(t Member) bool { return t.ID == m.ID }) {
			m.State = "alive"
			all = append(all, m)
		}
	}
	slices.SortFunc(all, compare)
	return all
}

func byID(ms map[uint32]Member) []Member { return slices.SortedFunc(maps.Values(ms), compare) }

func compare(a, b Member) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Name, b.Name))
}

func id(m Member) string { return strconv.FormatUint(uint64(m.ID), 10) }
