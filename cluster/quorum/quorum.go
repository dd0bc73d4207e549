// Package quorum counts whether the members of a ring are enough to speak for
// the cluster, by the rules and under the names of corosync's votequorum(5).
//
// Each member has one vote. Expected votes are what is configured, or the
// largest ring that was ever seen, whichever is more; they never shrink by
// themselves. A ring is quorate with more than half of them.
package quorum

import (
	"fmt"
	"slices"
	"strconv"
	"syscall"
)

// MaxExpected bounds what may be expected: no cluster is larger.
const MaxExpected = 1024

// Options are what an administrator asks for. The zero value expects the largest
// ring that was ever seen.
type Options struct {
	Expect     int    // expected votes; 0: as many as were ever seen
	TwoNode    bool   // of two expected members one is enough; implies WaitForAll
	WaitForAll bool   // not quorate until all expected members have been in one ring since the start
	TieBreaker string // "": none; "lowest", or the number of a node: exactly half is enough with it
}

// Asked tells whether the user asked for a quorum at all, so that its loss is an
// event.
func (o Options) Asked() bool { return o.Expect > 0 || o.TwoNode || o.WaitForAll || o.TieBreaker != "" }

// Check says what is wrong with options; the error wraps EINVAL.
func (o Options) Check() error {
	switch {
	case o.Expect < 0 || o.Expect > MaxExpected:
		return fmt.Errorf("expected votes %d: want 0 to %d: %w", o.Expect, MaxExpected, syscall.EINVAL)
	case o.TwoNode && o.Expect != 0 && o.Expect != 2:
		return fmt.Errorf("two_node with %d expected votes: want 2: %w", o.Expect, syscall.EINVAL)
	case o.TwoNode && o.TieBreaker != "":
		return fmt.Errorf("two_node and a tie breaker exclude each other: %w", syscall.EINVAL)
	}
	if o.TieBreaker != "" && o.TieBreaker != Lowest {
		if id, err := strconv.ParseUint(o.TieBreaker, 10, 32); err != nil || id == 0 {
			return fmt.Errorf("tie breaker %q: want %q or the number of a node: %w", o.TieBreaker, Lowest, syscall.EINVAL)
		}
	}
	return nil
}

// Lowest is the tie breaker that is the member with the lowest number of those
// that were quorate last.
const Lowest = "lowest"

// Status is how a ring stands.
type Status struct {
	Quorate  bool
	Votes    int // of the ring's members
	Expected int
	Needed   int // least number of votes that is quorate
}

// Quorum judges one ring after the other. It is not safe for use by several
// goroutines.
type Quorum struct {
	opts    Options
	learned int
	learn   func(int)
	sawAll  bool     // all expected members were in one ring since the start
	last    []uint32 // members of the last ring that was quorate
}

// New gives a quorum that has learned of so many members before. learn is told
// when it learns of more; it must not wait. It may be nil.
func New(o Options, learned int, learn func(int)) *Quorum {
	if o.TwoNode {
		o.WaitForAll = true
		o.Expect = 2
	}
	return &Quorum{opts: o, learned: min(learned, MaxExpected), learn: learn}
}

// Options gives what was asked for.
func (q *Quorum) Options() Options { return q.opts }

// View judges a ring of the members with these numbers.
func (q *Quorum) View(members []uint32) Status {
	votes := len(members)
	if votes > q.learned && votes <= MaxExpected {
		q.learned = votes
		if q.learn != nil {
			q.learn(votes)
		}
	}
	expected := max(q.opts.Expect, q.learned)
	s := Status{Votes: votes, Expected: expected, Needed: expected/2 + 1}
	twoNode := q.opts.TwoNode && expected == 2
	if twoNode {
		s.Needed = 1
	}
	q.sawAll = q.sawAll || votes >= expected
	s.Quorate = votes >= s.Needed || 2*votes == expected && q.breaksTie(members)
	if q.opts.WaitForAll && !q.sawAll {
		s.Quorate = false
	}
	if s.Quorate {
		q.last = slices.Clone(members)
	}
	return s
}

// breaksTie tells whether exactly half of the members may go on. The lowest
// member is that of the last quorate ring, not of this half: each half has a
// lowest one.
func (q *Quorum) breaksTie(members []uint32) bool {
	switch q.opts.TieBreaker {
	case "":
		return false
	case Lowest:
		return len(q.last) > 0 && slices.Contains(members, slices.Min(q.last))
	}
	id, err := strconv.ParseUint(q.opts.TieBreaker, 10, 32)
	return err == nil && slices.Contains(members, uint32(id))
}
