package group

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// What may wait for a member.
const (
	maxQueue  = 64 << 20 // bytes, for one member and for all of one user
	slowQueue = 1 << 20  // above this it must read now and then
)

// feed is what the members of one group on this node read: one queue, and a
// place in it for each of them. A record goes when all for whom it was there
// have read it.
type feed struct {
	g    *Groups
	name string

	users int // Groups.lmu; locals of the group

	need atomic.Bool  // the group needs a quorum; changed by the engine's calls
	live atomic.Int32 // members that get what is put in; changed with mu held
	lag  uint64       // records that waited after the last one was put in; the engine's

	mu      sync.Mutex
	slots   []slot    // mu; a ring: record i is at i % len, which is a power of 2
	head    uint64    // mu; the first record that is held
	tail    uint64    // mu; where the next one goes
	held    int       // mu; bytes of those between
	total   uint64    // mu; bytes of all that were ever put in
	members []*Member // mu; those with a place
	idle    []*Member // mu; those who have read all, told of the next record
}

// slot is a record in the queue.
type slot struct {
	rec  *Record
	refs int32 // members that have not read it
	size int32
}

const (
	minSlots  = 16
	keepSlots = 1024 // what an empty queue keeps
)

// push puts r in for all live members. It is the engine's.
func (f *feed) push(r *Record) {
	f.mu.Lock()
	n := f.live.Load()
	if n == 0 {
		f.mu.Unlock()
		return
	}
	size := r.size()
	if int(f.tail-f.head) == len(f.slots) {
		f.grow()
	}
	f.slots[f.tail&uint64(len(f.slots)-1)] = slot{rec: r, refs: n, size: int32(size)}
	f.tail++
	f.held += size
	f.total += uint64(size)
	f.lag = f.tail - f.head
	f.g.queued.Add(int64(size))
	f.g.pushed += int64(size)
	if len(f.idle) > 0 {
		f.wakeIdle()
	}
	held := f.held
	if held > maxQueue {
		f.putOutLongest()
	}
	f.mu.Unlock()
	if held > slowQueue {
		f.g.armScan()
	}
}

// wakeIdle has all told who have read all. The caller holds mu.
func (f *feed) wakeIdle() {
	f.g.wmu.Lock()
	for i, m := range f.idle {
		m.idle = false
		f.g.wake = append(f.g.wake, &m.waker)
		f.idle[i] = nil
	}
	f.g.wmu.Unlock()
	f.idle = f.idle[:0]
}

// grow makes room. The caller holds mu.
func (f *feed) grow() {
	slots := make([]slot, max(minSlots, 2*len(f.slots)))
	for i := f.head; i < f.tail; i++ {
		slots[i&uint64(len(slots)-1)] = f.slots[i&uint64(len(f.slots)-1)]
	}
	f.slots = slots
}

// release says that a member does not need record i any more, and gives it. The
// caller holds mu, and then calls trim.
func (f *feed) release(i uint64) slot {
	s := &f.slots[i&uint64(len(f.slots)-1)]
	s.refs--
	return *s
}

// trim drops what nobody needs: always the oldest, since each member reads in
// order. The caller holds mu.
func (f *feed) trim() {
	freed := 0
	for f.head < f.tail {
		s := &f.slots[f.head&uint64(len(f.slots)-1)]
		if s.refs > 0 {
			break
		}
		freed += int(s.size)
		*s = slot{}
		f.head++
	}
	if freed > 0 {
		f.held -= freed
		f.g.queued.Add(-int64(freed))
	}
	if f.head == f.tail && len(f.slots) > keepSlots {
		f.slots = nil
	}
}

// attach gives m a place at the end. It is the engine's.
func (f *feed) attach(m *Member, first *Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.gone {
		return // it left while it joined
	}
	m.pos, m.read, m.ring = f.tail, f.total, first
	f.members = append(f.members, m)
	f.live.Add(1)
}

// finish lets m read up to here and then the end: the table has it no more. It
// is the engine's.
func (f *feed) finish(m *Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.closed.Store(true)
	if m.gone || m.ended {
		return
	}
	m.ended, m.end, m.last = true, f.tail, f.total
	f.live.Add(-1)
	f.g.notify(&m.waker)
}

// detach takes m's place away, with what waits for it. The caller holds mu.
func (f *feed) detach(m *Member) {
	if m.gone {
		return
	}
	m.gone = true
	m.closed.Store(true)
	m.ring = nil
	i := slices.Index(f.members, m)
	if i < 0 {
		return // it has not joined yet
	}
	f.members = slices.Delete(f.members, i, i+1)
	if m.idle {
		m.idle = false
		i := slices.Index(f.idle, m)
		f.idle = slices.Delete(f.idle, i, i+1)
	}
	end := f.tail
	if m.ended {
		end = m.end
	} else {
		f.live.Add(-1)
	}
	for i := m.pos; i < end; i++ {
		f.release(i)
	}
	f.trim()
}

// waits is how many bytes wait for m. The caller holds mu.
func (f *feed) waits(m *Member) int {
	if m.ended {
		return int(m.last - m.read)
	}
	return int(f.total - m.read)
}

// putOutLongest puts out those for whom more waits than may. The caller holds
// mu.
func (f *feed) putOutLongest() {
	for _, m := range slices.Clone(f.members) {
		if n := f.waits(m); n > maxQueue {
			f.putOut(m, fmt.Sprintf("%d MiB wait for it", n>>20))
		}
	}
}

// putOut ends m at once: what waits for it is dropped, and Flush orders its
// leave. The caller holds mu.
func (f *feed) putOut(m *Member, why string) {
	f.detach(m)
	f.g.putOut.Add(1)
	f.g.wmu.Lock()
	defer f.g.wmu.Unlock()
	f.g.wake = append(f.g.wake, &m.waker)
	f.g.out = append(f.g.out, outNote{m, why})
	if !m.ended {
		f.g.leaves = append(f.g.leaves, leaveNote{m.inc, ProcDown})
	}
}

// drop forgets the feed when nobody needs it.
func (f *feed) drop() {
	f.g.lmu.Lock()
	defer f.g.lmu.Unlock()
	f.dropLocked()
}

// dropLocked is drop for callers that hold Groups.lmu.
func (f *feed) dropLocked() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users == 0 && len(f.members) == 0 && f.g.feeds[f.name] == f {
		delete(f.g.feeds, f.name)
	}
}
