package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/cluster/ring/check"
)

// A world is one run.
type world struct {
	loop
	plan  Plan
	k     Knobs
	r     *rand.Rand
	hosts []*host // host i has the ID i+1
	links []*link
	by    [][]*link // by the hosts' IDs
	trace *check.Trace
	traps []*trap
	heals []func() // ends of faults
	log   func(string)

	window, credit int // bounds of what is kept: for a ring, and for each member

	healed      bool
	failed      []check.Violation // what the world itself has found
	lastInstall time.Duration
	sum         uint64
	res         Result
}

// Run runs a plan. log, if it is not nil, is given a line for each thing that
// happens.
func Run(p Plan, log func(string)) (res Result) {
	w := &world{plan: p, k: p.Knobs, r: rand.New(rand.NewPCG(p.Seed, 0x776f726c64)), trace: check.New(), log: log}
	defer func() {
		if x := recover(); x != nil {
			w.failed = append(w.failed, check.Violation{Rule: "panic", Node: fmt.Sprint(w.now), Text: fmt.Sprintf("%v\n%s", x, debug.Stack())})
		}
		res = w.res
		res.Violations = append(w.failed, w.trace.Violations()...)
		res.Hash, res.Settled = w.sum, w.lastInstall
	}()
	w.build()
	for _, f := range p.Faults {
		// What is on its way when something breaks is what has to be got right.
		if f.Bits&1 == 0 {
			w.at(f.At-time.Duration(f.Bits>>1%uint64(8*ms)), w.burst)
		}
		w.at(f.At, func() { w.apply(f) })
	}
	w.run(Chaos, w.over)
	if !w.over() {
		w.heal()
		w.settle()
	}
	if !w.over() {
		w.trace.Finish()
	}
	return
}

// build makes the hosts and the links, and starts a daemon on each.
func (w *world) build() {
	c := w.k.Conf
	w.window = cmp.Or(c.Window, 4<<20)
	w.credit = cmp.Or(c.MinCredit, 64<<10) + ring.EntrySize(cmp.Or(c.Fragment, 65<<10))
	n := w.k.Nodes
	w.by = make([][]*link, n)
	for i := range n {
		w.hosts = append(w.hosts, &host{w: w, id: uint32(i + 1)})
		w.by[i] = make([]*link, n)
	}
	for i := range n {
		for j := i + 1; j < n; j++ {
			l := &link{w: w, hosts: [2]*host{w.hosts[i], w.hosts[j]}}
			w.by[i][j], w.by[j][i] = l, l
			w.links = append(w.links, l)
		}
	}
	for _, h := range w.hosts {
		w.after(between(w.r, 0, 200*ms), func() {
			if h.life == nil {
				h.start(false)
			}
		})
	}
}

func (w *world) link(a, b uint32) *link { return w.by[a-1][b-1] }

// over tells that something is broken already: the first violation is the one
// that matters.
func (w *world) over() bool { return len(w.failed) > 0 || len(w.trace.Violations()) > 0 }

func (w *world) fail(rule string, l *life, format string, args ...any) {
	w.failed = append(w.failed, check.Violation{Rule: rule, Node: l.nk.String(), Text: fmt.Sprintf(format, args...)})
}

// burst has all nodes send something at about the same time.
func (w *world) burst() {
	for _, h := range w.hosts {
		for range w.r.IntN(5) {
			w.after(between(w.r, 0, 4*ms), func() {
				if h.life != nil && !w.healed {
					h.life.take(h.life.submit)
				}
			})
		}
	}
}

// heal ends all faults and all sending.
func (w *world) heal() {
	if w.log != nil {
		w.log("heal")
	}
	w.healed = true
	w.traps = nil
	for _, do := range w.heals {
		do()
	}
	for _, pair := range w.k.Scars {
		w.block(w.hosts[pair[0]-1], w.hosts[pair[1]-1], true, true, func(func()) {})
	}
	for _, h := range w.hosts {
		if h.life == nil || h.life.dead {
			h.start(false)
		}
	}
}

// settle demands what must be when all is healed, within the bound: I11.
func (w *world) settle() {
	if len(w.k.Scars) > 0 {
		w.settleScarred()
		return
	}
	const quiet = time.Second
	deadline := w.now + w.k.Bound
	for w.now < deadline && !w.over() {
		w.run(w.now+100*ms, w.over)
		if w.whole() && w.now-w.lastInstall > quiet {
			break
		}
	}
	if w.over() {
		return
	}
	var alive []ring.NK
	for _, h := range w.hosts {
		alive = append(alive, h.life.nk)
		if !w.idle(h.life) {
			w.fail("I11", h.life, "is not at rest %v after the heal: %+v", w.now-Chaos, h.life.core.Stats())
		}
	}
	w.trace.Settle(alive)
	if d := w.now - w.lastInstall; d <= quiet && !w.over() {
		w.fail("I11", w.hosts[0].life, "the last ring was installed only %v ago", d)
	}
}

// settleScarred demands what can be when some links stay cut: rings that stay as
// they are, up to a hand-over now and then, and do their work; and one ring of
// all, if there is a node that reaches all.
func (w *world) settleScarred() {
	const settled, watched, changes = 15 * time.Second, 30 * time.Second, 3
	w.run(w.now+settled, w.over)
	before := make([]int, len(w.hosts))
	for i, h := range w.hosts {
		before[i] = h.life.installs
	}
	for end := w.now + watched; w.now < end && !w.over(); {
		w.run(w.now+100*ms, w.over)
	}
	for i, h := range w.hosts {
		if n := h.life.installs - before[i]; n > changes && !w.over() {
			w.fail("I11", h.life, "has installed %d rings in %v with nothing but cut links", n, watched)
		}
	}
	for w.now-w.lastInstall < time.Second && !w.over() {
		w.run(w.now+100*ms, w.over)
	}
	for _, h := range w.hosts {
		if !w.over() && !w.idle(h.life) {
			w.fail("I11", h.life, "is not at rest: %+v", h.life.core.Stats())
		}
	}
	for _, h := range w.hosts {
		if !w.over() && !w.whole() && !slices.ContainsFunc(w.k.Scars, func(pair [2]int) bool { return slices.Contains(pair[:], int(h.id)) }) {
			w.fail("I11", h.life, "reaches all, who are in several rings: %+v", h.life.core.Stats())
		}
	}
}

// whole tells that all nodes are in one ring and have nothing left to do.
func (w *world) whole() bool {
	first := w.hosts[0].life.core.View()
	if len(first.Members) != len(w.hosts) {
		return false
	}
	for _, h := range w.hosts {
		if h.life.core.View().Ring != first.Ring || !w.idle(h.life) {
			return false
		}
	}
	return true
}

// idle tells that a node has nothing to send and keeps nothing for others.
func (w *world) idle(l *life) bool {
	s := l.core.Stats()
	return s.State == "oper" && s.Unstable == 0 && s.OnWay == 0 && s.Queued == 0
}

// note takes an event into the hash of the run.
func (w *world) note(l *life, ev ring.Event) {
	w.mix(uint64(w.now), uint64(l.nk.ID))
	switch ev := ev.(type) {
	case ring.Received:
		w.mix(uint64(ev.From.ID), uint64(typeOf(ev.Frame)))
		if w.log != nil {
			l.logf("receives from %v: %s", ev.From, describe(ev.Frame))
		}
	case ring.Submit:
		w.mix(uint64(len(ev.Data)), hash(ev.Data))
		if w.log != nil {
			l.logf("submits %d bytes", len(ev.Data))
		}
	case ring.Tick:
	default:
		if w.log != nil {
			l.logf("%T %v", ev, ev)
		}
	}
}

// mix takes numbers into the hash of the run.
func (w *world) mix(vs ...uint64) {
	for _, v := range vs {
		w.sum = mix(w.sum, v)
	}
}
