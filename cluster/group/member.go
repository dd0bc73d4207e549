package group

import (
	"io"
	"sync/atomic"
	"syscall"
)

// Member is a membership of a process of this node. Its methods may be called
// from any goroutine, and none but Leave's effect waits for anything.
type Member struct {
	waker
	answer // to Join
	g      *Groups
	feed   *feed
	inc    uint32
	caller Caller
	node   uint32 // this one, when it joined
	n      uint32 // set before the answer

	closed atomic.Bool // no Send any more

	// All below is guarded by feed.mu.

	idle  bool    // in feed.idle
	gone  bool    // left or put out: it has no place in the feed, or gets none
	ended bool    // out of the table, nothing is put in for it any more
	first bool    // the first record is read
	ring  *Record // what follows it; nil once that is read
	pos   uint64  // the next record
	end   uint64  // if ended: where it ends
	read  uint64  // feed.total as it was at pos
	last  uint64  // if ended: feed.total as it was at end

	taken   uint64 // records that were taken
	seen    uint64 // taken at the last scan
	stalled int    // scans since then with too much waiting
}

// ID tells which member this is.
func (m *Member) ID() Process {
	return Process{Node: m.node, PID: uint32(m.caller.PID), N: m.n}
}

// ownAppend is from which size on the data of an owned message is extended in
// place and not copied.
const ownAppend = 16 << 10

// payload gives data with room for a trailer of n bytes.
func payload(data []byte, own bool, n int) []byte {
	if own && len(data) >= ownAppend && cap(data)-len(data) >= n {
		return data
	}
	return append(make([]byte, 0, len(data)+n), data...)
}

// Send multicasts data, which is copied or belongs to the group from then on
// (own), up to its capacity: a part of a larger buffer is given with its
// capacity cut off, and with 512 spare bytes a large message needs no copy.
// EAGAIN: no room now, Notify tells when there is again; data is the caller's
// still, but for the bytes after its length. EMSGSIZE. ENETDOWN: the group needs
// a quorum, and the ring is none. EPIPE: the member has
// left or was put out.
func (m *Member) Send(data []byte, own bool) error {
	switch {
	case len(data) > MaxMessage:
		return syscall.EMSGSIZE
	case m.closed.Load():
		return syscall.EPIPE
	case m.feed.need.Load() && !m.g.quorate.Load():
		return syscall.ENETDOWN
	}
	return m.g.submit(&m.waker, KindMulticast, le.AppendUint32(payload(data, own, multicastTrailer), m.inc))
}

// Room tells whether a Send of any allowed size would be taken now, as far as
// is known: if the last one of any sender was. It is true after EPIPE, too.
func (m *Member) Room() bool { return !m.g.full.Load() || m.closed.Load() }

// Next takes the next record: syscall.EAGAIN when there is none now, io.EOF when
// there will be none any more.
func (m *Member) Next() (*Record, error) {
	f := m.feed
	f.mu.Lock()
	if m.gone {
		f.mu.Unlock()
		return nil, io.EOF
	}
	if m.first && m.ring != nil {
		r := m.ring
		m.ring = nil
		m.taken++
		f.mu.Unlock()
		return r, nil
	}
	if m.ended && m.pos == m.end {
		f.detach(m)
		f.mu.Unlock()
		f.drop()
		return nil, io.EOF
	}
	if m.pos == f.tail {
		m.rest()
		f.mu.Unlock()
		return nil, syscall.EAGAIN
	}
	s := f.release(m.pos)
	m.pos++
	m.taken++
	m.read += uint64(s.size)
	m.first = true
	if s.refs == 0 {
		f.trim()
	}
	if m.pos == f.tail {
		m.rest()
	}
	f.mu.Unlock()
	return s.rec, nil
}

// rest has m told of the next record. The caller holds feed.mu.
func (m *Member) rest() {
	if !m.idle && !m.ended {
		m.idle = true
		m.feed.idle = append(m.feed.idle, m)
	}
}

// Ready tells whether Next would give something else than EAGAIN.
func (m *Member) Ready() bool {
	f := m.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	return m.gone || m.ended || m.ring != nil || m.pos != f.tail
}

// Ended tells whether m has left or was put out, also where Next still has
// records of before.
func (m *Member) Ended() bool { return m.closed.Load() }

// Notify has f called, without a lock, when Next or Send may do better than
// before, and in place of any f that was set before; nil: nobody. f must not
// block. What could be done before Notify is not told: ask Ready and Room after
// it. A call that is under way may still reach f shortly after Leave.
func (m *Member) Notify(f func()) { m.set(f) }

// Leave ends the membership with Leave or ProcDown, and Next then gives io.EOF.
// It does not wait for the order. It may be called more than once.
func (m *Member) Leave(r Reason) {
	f := m.feed
	f.mu.Lock()
	submit := !m.gone && !m.ended
	f.detach(m)
	f.mu.Unlock()
	if submit {
		if r != Leave {
			r = ProcDown
		}
		l := leaveNote{m.inc, r}
		if m.g.submitLeave(l) != nil {
			m.g.wmu.Lock()
			m.g.leaves = append(m.g.leaves, l)
			m.g.wmu.Unlock()
		}
	}
	f.drop()
	m.call()
	m.set(nil)
}
