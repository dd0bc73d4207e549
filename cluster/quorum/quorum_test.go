package quorum

import (
	"errors"
	"slices"
	"syscall"
	"testing"
)

// A step is one ring, and what it ought to be.
type step struct {
	members []uint32
	want    Status
}

func TestQuorum_Views(t *testing.T) {
	ids := func(n ...uint32) []uint32 { return n }
	for _, c := range []struct {
		name    string
		opts    Options
		learned int
		steps   []step
	}{
		{"alone", Options{}, 0, []step{{ids(1), Status{true, 1, 1, 1}}}},
		{"grows and never shrinks", Options{}, 0, []step{
			{ids(1), Status{true, 1, 1, 1}},
			{ids(1, 2, 3), Status{true, 3, 3, 2}},
			{ids(1, 2), Status{true, 2, 3, 2}},
			{ids(1), Status{false, 1, 3, 2}},
		}},
		{"has learned before", Options{}, 5, []step{{ids(1, 2), Status{false, 2, 5, 3}}, {ids(1, 2, 3), Status{true, 3, 5, 3}}}},
		{"expects", Options{Expect: 4}, 0, []step{{ids(1, 2), Status{false, 2, 4, 3}}, {ids(1, 2, 3, 4, 5), Status{true, 5, 5, 3}}}},
		{"two nodes wait for each other once", Options{TwoNode: true}, 0, []step{
			{ids(1), Status{false, 1, 2, 1}},
			{ids(1, 2), Status{true, 2, 2, 1}},
			{ids(2), Status{true, 1, 2, 1}},
		}},
		{"two nodes and a third", Options{TwoNode: true}, 0, []step{
			{ids(1, 2, 3), Status{true, 3, 3, 2}},
			{ids(1), Status{false, 1, 3, 2}},
		}},
		{"wait for all", Options{Expect: 3, WaitForAll: true}, 0, []step{
			{ids(1, 2), Status{false, 2, 3, 2}},
			{ids(1, 2, 3), Status{true, 3, 3, 2}},
			{ids(1, 2), Status{true, 2, 3, 2}},
		}},
		{"lowest breaks the tie", Options{Expect: 4, TieBreaker: Lowest}, 0, []step{
			{ids(1, 2), Status{false, 2, 4, 3}}, // of no quorate ring yet
			{ids(1, 2, 3, 4), Status{true, 4, 4, 3}},
			{ids(1, 2), Status{true, 2, 4, 3}},
			{ids(1), Status{false, 1, 4, 3}},
		}},
		{"the other half does not", Options{Expect: 4, TieBreaker: Lowest}, 0, []step{
			{ids(1, 2, 3, 4), Status{true, 4, 4, 3}},
			{ids(3, 4), Status{false, 2, 4, 3}},
		}},
		{"a named node breaks the tie", Options{Expect: 4, TieBreaker: "3"}, 0, []step{
			{ids(3, 4), Status{true, 2, 4, 3}},
			{ids(1, 2), Status{false, 2, 4, 3}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := New(c.opts, c.learned, nil)
			for i, s := range c.steps {
				if got := q.View(s.members); got != s.want {
					t.Errorf("ring %d of %v: got %+v, want %+v", i, s.members, got, s.want)
				}
			}
		})
	}
}

func TestQuorum_LearnsOnce(t *testing.T) {
	var told []int
	q := New(Options{}, 2, func(n int) { told = append(told, n) })
	for _, n := range []int{1, 2, 3, 3, 2, 5} {
		q.View(make([]uint32, n))
	}
	if want := []int{3, 5}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

func TestOptions_Check(t *testing.T) {
	for _, o := range []Options{{}, {Expect: 3}, {TwoNode: true}, {TwoNode: true, Expect: 2}, {TieBreaker: "lowest"}, {TieBreaker: "7"}} {
		if err := o.Check(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []Options{{Expect: -1}, {Expect: MaxExpected + 1}, {TwoNode: true, Expect: 3}, {TwoNode: true, TieBreaker: "lowest"}, {TieBreaker: "0"}, {TieBreaker: "web"}} {
		if err := o.Check(); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%+v: got %v, want EINVAL", o, err)
		}
	}
}
