package ring

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/cluster/ring/check"
	"github.com/convoke-fs/convoke/test/daemon"
)

// group is where the members of a schedule meet.
const group = "g"

// A slot is a place for a member, which is filled again when it ends.
type slot struct {
	node   int
	way    string
	child  *daemon.Child // nil: none
	frozen int           // faults that have stopped it
}

// A written is a trace.
type written struct{ path, life string }

// A schedule is a run of a cluster with faults.
type schedule struct {
	*cluster
	dir     string
	pace    time.Duration
	largest int
	slots   []*slot
	traces  []written
	lost    map[[2]int]int // from, to: faults because of which the second does not hear the first
	broken  map[[2]int]int // faults because of which it resets what comes
	frozen  []int          // faults that have stopped a daemon
	down    []bool         // daemons
	begin   time.Time
	did     []string // for people
}

func newSchedule(t *testing.T, n, members int, o clusterOpts) *schedule {
	t.Helper()
	o.net = true
	s := &schedule{
		cluster: start(t, n, o), dir: t.TempDir(), pace: 40 * time.Millisecond, largest: 1 << 20,
		lost: map[[2]int]int{}, broken: map[[2]int]int{}, frozen: make([]int, n), down: make([]bool, n),
	}
	for i := range n {
		for k := range members {
			s.slots = append(s.slots, &slot{node: i, way: [...]string{"client", "feed"}[k%2]})
		}
	}
	return s
}

// run makes the faults of a plan, heals all, and judges what the members have read.
func (s *schedule) run(seed uint64, plan []fault) {
	s.t.Helper()
	defer func() {
		text := fmt.Sprintf("seed %d:\n%s", seed, strings.Join(s.did, "\n"))
		if s.t.Failed() {
			s.t.Log(text)
		}
		if *traceDir != "" {
			if err := os.WriteFile(tracePath(s.t, "", "faults"), []byte(text+"\n"), 0o600); err != nil {
				s.t.Error(err)
			}
		}
	}()
	s.fill()
	s.settle()
	s.begin = time.Now()
	type step struct {
		at time.Duration
		do func()
	}
	var steps []step
	for _, f := range plan {
		var undo func()
		steps = append(steps, step{f.at, func() { undo = s.apply(f) }}, step{f.at + f.length, func() {
			if undo != nil {
				undo()
			}
		}})
	}
	slices.SortStableFunc(steps, func(a, b step) int { return int(a.at - b.at) })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(steps) > 0 {
		<-tick.C
		for len(steps) > 0 && time.Since(s.begin) >= steps[0].at {
			steps[0].do()
			steps = steps[1:]
		}
		s.fill()
	}
	s.note("all is healed")
	s.together(s.all()...)
	s.note("together")
	s.settle()
	s.judge()
}

func (s *schedule) note(format string, args ...any) {
	s.did = append(s.did, fmt.Sprintf("%6.2f s ", time.Since(s.begin).Seconds())+fmt.Sprintf(format, args...))
}

// fill starts members where there are none and the daemon is there.
func (s *schedule) fill() {
	s.t.Helper()
	for _, p := range s.slots {
		if p.child != nil {
			select {
			case <-p.child.Exited():
				line := lastLine(p.child)
				s.note("a member of n%d has ended: %s", p.node+1, line)
				if strings.HasPrefix(line, "error ") && !slices.ContainsFunc(ends, func(e string) bool { return strings.Contains(line, e) }) {
					s.t.Errorf("a member by %s of n%d has ended: %s", p.way, p.node+1, line)
				}
				p.child, p.frozen = nil, 0
			default:
			}
		}
		if p.child != nil || s.down[p.node] || s.frozen[p.node] > 0 {
			continue
		}
		w := written{tracePath(s.t, s.dir, fmt.Sprintf("%03d", len(s.traces))), s.life(p.node)}
		p.child = s.spawn(p.node, p.way, group, uint64(len(s.traces)), s.pace, s.largest, w.path)
		s.traces = append(s.traces, w)
	}
}

// ends are the errors of a member whose daemon has ended, or that was put out since it was stopped for long.
var ends = []string{
	unix.ECONNRESET.Error(), unix.ECONNABORTED.Error(), unix.ENOTCONN.Error(), unix.EPIPE.Error(), "has ended", "was put out", io.EOF.Error(),
}

// lastLine is what a member said last.
func lastLine(c *daemon.Child) (line string) {
	for l := range c.Lines() {
		line = l
	}
	return line
}

// apply begins a fault, and returns what ends it; nil when it cannot be made now.
func (s *schedule) apply(f fault) func() {
	s.t.Helper()
	n := s.nodes[f.a]
	ways := s.ways(f)
	switch {
	case len(ways) > 0:
		s.change(f.kind == reset, ways, 1)
		s.did = append(s.did, f.String())
		return func() { s.change(f.kind == reset, ways, -1) }
	case f.kind == killMember || f.kind == stopMember:
		return s.applyToMember(f)
	case s.down[f.a] || s.frozen[f.a] > 0 && f.kind != stopDaemon:
		return nil
	}
	s.did = append(s.did, f.String())
	switch f.kind {
	case stopDaemon:
		if s.frozen[f.a]++; s.frozen[f.a] == 1 {
			n.Signal(syscall.SIGSTOP)
		}
		return func() {
			if s.frozen[f.a]--; s.frozen[f.a] == 0 {
				n.Signal(syscall.SIGCONT)
			}
		}
	case killDaemon:
		n.Kill()
	case endDaemon:
		n.Stop()
	}
	s.down[f.a] = true
	return func() {
		s.startNode(f.a)
		s.down[f.a] = false
		s.note("n%d is there again", f.a+1)
	}
}

func (s *schedule) applyToMember(f fault) func() {
	s.t.Helper()
	var of []*slot
	for _, p := range s.slots {
		if p.node == f.a {
			of = append(of, p)
		}
	}
	p := of[f.member]
	if p.child == nil {
		return nil
	}
	s.did = append(s.did, f.String())
	if f.kind == killMember {
		p.child.Cmd.Process.Kill()
		return nil
	}
	c := p.child
	if p.frozen++; p.frozen == 1 {
		c.Cmd.Process.Signal(syscall.SIGSTOP) // it may have ended
	}
	return func() {
		if p.child != c {
			return
		}
		if p.frozen--; p.frozen == 0 {
			c.Cmd.Process.Signal(syscall.SIGCONT)
		}
	}
}

// ways are the pairs of nodes, from and to, between which a fault lets nothing through.
func (s *schedule) ways(f fault) (ways [][2]int) {
	for i := range s.nodes {
		for j := range s.nodes {
			var cut bool
			switch f.kind {
			case split:
				cut = f.side>>i&1 != f.side>>j&1
			case oneWay:
				cut = i == f.a && j == f.b
			case pair, reset:
				cut = i == f.a && j == f.b || i == f.b && j == f.a
			case deaf:
				cut = j == f.a && i != j
			case mute:
				cut = i == f.a && i != j
			}
			if cut {
				ways = append(ways, [2]int{i, j})
			}
		}
	}
	return ways
}

// change counts faults at ways, and tells the packet filters of the first and the last.
func (s *schedule) change(reset bool, ways [][2]int, by int) {
	s.t.Helper()
	for _, w := range ways {
		from, to := s.hosts[w[0]].Host, s.hosts[w[1]].Host
		faults, begin, end := s.lost, to.Lose, to.Hear
		if reset {
			faults, begin, end = s.broken, to.Reset, to.Keep
		}
		before := faults[w]
		faults[w] += by
		var err error
		switch {
		case before == 0:
			err = begin(from)
		case faults[w] == 0:
			err = end(from)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// settle waits until each place has a member, and each sees all.
func (s *schedule) settle() {
	s.t.Helper()
	end := time.Now().Add(longTime)
	look := time.NewTicker(50 * time.Millisecond) // a member that is asked at once answers the same
	defer look.Stop()
	for {
		s.fill()
		var states []string
		for _, p := range s.slots {
			state, ok := ask(p.child, "status", "status ")
			if !ok {
				state = "ended"
			}
			states = append(states, state)
		}
		want := fmt.Sprintf("%d %s", len(s.slots), s.quorum(0, "ring"))
		if !slices.ContainsFunc(states, func(s string) bool { return s != want }) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("the members see, after %v:\n%s\nwant %s", longTime, strings.Join(states, "\n"), want)
		}
		<-look.C
	}
}

// ask has a member do something and returns what is behind word in its answer. It is not ok when the member has ended.
func ask(c *daemon.Child, verb, word string) (string, bool) {
	if _, err := fmt.Fprintln(c.In, verb); err != nil {
		return "", false
	}
	return answer(c, word)
}

func answer(c *daemon.Child, word string) (string, bool) {
	bound := time.After(longTime)
	for {
		select {
		case line, ok := <-c.Lines():
			if rest, found := strings.CutPrefix(line, word); found {
				return rest, true
			}
			if !ok {
				return "", false
			}
		case <-bound:
			return "", false
		}
	}
}

// judge has all members end their traces at one place of the order, and checks what stands in all.
func (s *schedule) judge() {
	s.t.Helper()
	for _, p := range s.slots {
		if _, ok := ask(p.child, "quiet", "quiet "); !ok {
			s.t.Fatalf("a member of n%d does not become quiet; stderr %s", p.node+1, p.child.Stderr())
		}
	}
	for _, p := range s.slots {
		fmt.Fprintf(p.child.In, "mark %d\n", len(s.slots)) // one that has ended does not answer below
	}
	for _, p := range s.slots {
		if _, ok := answer(p.child, "marked"); !ok {
			s.t.Fatalf("a member of n%d does not read the marks; stderr %s", p.node+1, p.child.Stderr())
		}
	}
	var feeds []check.Feed
	messages, rings, final := 0, map[string]bool{}, 0
	for _, w := range s.traces {
		f, err := readTraceFile(w.path, w.life)
		if os.IsNotExist(err) {
			continue // it was killed before it began
		}
		if err != nil {
			s.t.Error(err)
			continue
		}
		if f.Final {
			final++
		} else if !slices.ContainsFunc(f.Records, func(r check.Record) bool { return r.Kind == check.Ring }) {
			continue // so was it before it knew its ring
		}
		for _, r := range f.Records {
			switch r.Kind {
			case check.Msg:
				messages++
			case check.Ring:
				rings[r.Ring.String()] = true
			}
		}
		feeds = append(feeds, f)
	}
	for _, v := range check.Feeds(feeds) {
		s.t.Errorf("%v", v)
	}
	if final != len(s.slots) {
		s.t.Errorf("%d traces end with the mark, want %d", final, len(s.slots))
	}
	s.t.Logf("%d members read %d messages in %d rings", len(feeds), messages, len(rings))
	if messages == 0 {
		s.t.Error("nobody has read anything")
	}
}

func TestSchedule_ThreeDaemons(t *testing.T) {
	s := newSchedule(t, 3, 2, clusterOpts{})
	s.run(1, planFaults(1, 3, 2, 20*time.Second))
}

func TestSchedule_FiveDaemons(t *testing.T) {
	s := newSchedule(t, 5, 2, clusterOpts{plain: true})
	s.run(2, planFaults(2, 5, 2, 20*time.Second))
}

func TestSoak(t *testing.T) {
	if *soakTime == 0 {
		t.Skip("needs -duration")
	}
	if end, ok := t.Deadline(); ok && time.Until(end) < *soakTime+2*longTime {
		t.Fatalf("-timeout is too short for -duration %v", *soakTime)
	}
	s := newSchedule(t, *soakNodes, 2, clusterOpts{plain: true})
	s.pace = 100 * time.Millisecond
	s.run(*soakSeed, planFaults(*soakSeed, *soakNodes, 2, *soakTime))
}
