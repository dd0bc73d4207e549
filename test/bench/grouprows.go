package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A groupRow compares how convoke and corosync do one thing with process groups.
type groupRow struct {
	name  string
	unit  string
	stage stage
	size  int  // of the messages whose rate this is; 0 for other rows
	alone bool // corosync has nothing like it
	once  bool // one round is enough
	goal  groupGoal
	do    func(ctx context.Context, s *side) (float64, error)
}

// A stage is a kind of cluster in which rows are measured.
type stage struct {
	nodes  int
	crypto bool
}

// suffix is what the names of a stage's rows end with.
func (s stage) suffix() string {
	if s.crypto {
		return fmt.Sprintf("-%dn-tls", s.nodes)
	}
	return fmt.Sprintf("-%dn", s.nodes)
}

// stages is the order of measuring. One node has nobody to encrypt for.
var stages = []stage{{1, false}, {3, false}, {3, true}, {5, false}, {5, true}}

// A groupGoal is what a row is to reach.
type groupGoal struct {
	relative bool                        // to corosync, so without it nothing is judged
	miss     func(r *groupResult) string // "" when it is reached, else what was wanted
}

// times wants a rate so many times corosync's.
func times(least float64) groupGoal {
	return groupGoal{true, func(r *groupResult) string {
		if r.Ratio >= least {
			return ""
		}
		return fmt.Sprintf("%.2f times corosync, want %.1f", r.Ratio, least)
	}}
}

// belowCorosync wants less than corosync takes.
var belowCorosync = groupGoal{true, func(r *groupResult) string {
	if r.Ratio < 1 {
		return ""
	}
	return fmt.Sprintf("%.2f times corosync, want less", r.Ratio)
}}

// within wants no round above most.
func within(most float64) groupGoal {
	return groupGoal{false, func(r *groupResult) string {
		if v := slices.Max(r.Convoke); v > most {
			return fmt.Sprintf("%.1f %s, want at most %.0f", v, r.Unit, most)
		}
		return ""
	}}
}

// reaches wants a rate.
func reaches(least float64) groupGoal {
	return groupGoal{false, func(r *groupResult) string {
		if v := median(r.Convoke); v < least {
			return fmt.Sprintf("%.0f %s, want %.0f", v, r.Unit, least)
		}
		return ""
	}}
}

const (
	maxGroupMemory = 150 // MB of a daemon
	maxDaemonSeen  = 50  // ms
	maxCutSeen     = 1000
	minFeedRate    = 25000 // messages/s
)

// groupSize is how much one measurement does.
type groupSize struct {
	load    int // milliseconds of sending
	trips   int
	idle    int // trips with a pause
	stopped int // milliseconds of sending while a member is stopped
}

var (
	fullGroups  = groupSize{load: 1000, trips: 2000, idle: 200, stopped: 4000}
	quickGroups = groupSize{load: 500, trips: 1000, idle: 100, stopped: 2000}
)

// idlePause is between the trips of an idle ring, in microseconds.
const idlePause = 5000

// defaultSizes are the sizes of messages that are sent.
var defaultSizes = []string{"64", "1K", "16K", "64K", "1M"}

// parseSize reads a number of bytes, with K or M.
func parseSize(text string) (int, error) {
	digits, unit := text, 1
	if s, ok := strings.CutSuffix(text, "K"); ok {
		digits, unit = s, 1<<10
	} else if s, ok := strings.CutSuffix(text, "M"); ok {
		digits, unit = s, 1<<20
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > largest/unit || n*unit < headSize {
		return 0, fmt.Errorf("%q is no size from %d to 1M", text, headSize)
	}
	return n * unit, nil
}

// groupRows are the rows about groups with messages of these sizes.
func groupRows(sizes []string, z groupSize) (rows []groupRow, err error) {
	for _, st := range stages {
		for _, text := range sizes {
			size, err := parseSize(text)
			if err != nil {
				return nil, err
			}
			rows = append(rows, castRow(text, size, st, 1, z))
			if st.nodes > 1 {
				rows = append(rows, castRow(text, size, st, st.nodes, z))
			}
		}
		if st.nodes == 3 {
			rows = append(rows, threeNodes(st, z)...)
		}
	}
	return rows, nil
}

// castRow is about the rate at which all members get what some send.
func castRow(text string, size int, st stage, senders int, z groupSize) groupRow {
	name := fmt.Sprintf("cast-%s-%ds%s", text, senders, st.suffix())
	r := groupRow{name: name, unit: "1/s", stage: st, size: size}
	switch {
	case st.nodes != 3:
	case size == 64:
		r.goal = times(3)
	case size == 16<<10 || size == 64<<10:
		r.goal = times(1.5)
	}
	r.do = func(ctx context.Context, s *side) (float64, error) {
		return s.rate(ctx, s.members, senders, size, z.load)
	}
	return r
}

// threeNodes are the other rows about three nodes.
func threeNodes(st stage, z groupSize) []groupRow {
	row := func(name, unit string, goal groupGoal, do func(context.Context, *side) (float64, error)) groupRow {
		return groupRow{name: name + st.suffix(), unit: unit, stage: st, goal: goal, do: do}
	}
	trips := func(n, pause int, high bool) func(context.Context, *side) (float64, error) {
		return func(ctx context.Context, s *side) (float64, error) {
			p50, p99, err := s.trips(ctx, n, pause)
			if high {
				return p99, err
			}
			return p50, err
		}
	}
	feed := row("feed-64", "1/s", reaches(minFeedRate), func(ctx context.Context, s *side) (float64, error) { return s.feedRate(ctx, 64, z.load) })
	feed.alone, feed.size = true, 64
	load := row("memory-load", "MB", within(maxGroupMemory), func(ctx context.Context, s *side) (float64, error) { return s.memoryLoad(ctx, z.load) })
	load.once = true
	stopped := row("memory-stopped", "MB", within(maxGroupMemory), func(ctx context.Context, s *side) (float64, error) { return s.memoryStopped(ctx, z.stopped) })
	stopped.once = true
	return []groupRow{
		row("ping-p50", "us", belowCorosync, trips(z.trips, 0, false)),
		row("ping-p99", "us", groupGoal{}, trips(z.trips, 0, true)),
		row("rest-p50", "us", groupGoal{}, trips(z.idle, idlePause, false)),
		row("see-process", "ms", groupGoal{}, func(ctx context.Context, s *side) (float64, error) { return s.seeProcess(ctx) }),
		row("see-daemon", "ms", within(maxDaemonSeen), func(ctx context.Context, s *side) (float64, error) { return s.seeDaemon(ctx) }),
		row("see-cut", "ms", within(maxCutSeen), func(ctx context.Context, s *side) (float64, error) { return s.seeCut(ctx) }),
		feed, load, stopped,
	}
}

// feedRate gives the messages a second of one writer of the file feed, with a reader on each node.
func (s *side) feedRate(ctx context.Context, size, ms int) (_ float64, err error) {
	c, ok := s.system.(*convokes)
	if !ok {
		return 0, errors.New("it has no files")
	}
	const group = "bench-feed"
	if err := c.mkdir(ctx, group); err != nil {
		return 0, err
	}
	var members []*member
	defer func() {
		for _, m := range members {
			m.stop()
		}
	}()
	for i := range s.members {
		m, err := s.join(i, "feed", group)
		if err != nil {
			return 0, err
		}
		members = append(members, m)
	}
	if err := s.together(ctx, members); err != nil {
		return 0, err
	}
	return s.rate(ctx, members, 1, size, ms)
}

// wantedGroups are the rows of a stage that are selected.
func (o *options) wantedGroups(st stage) (rows []groupRow) {
	all, _ := groupRows(o.sizes, o.groups) // the sizes are checked
	for _, r := range all {
		if r.stage == st && o.wanted(r.name) {
			rows = append(rows, r)
		}
	}
	return rows
}
