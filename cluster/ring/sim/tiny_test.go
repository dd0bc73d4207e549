package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/cluster/ring/check"
)

// The search of all short histories of three nodes. What a random walk hits in
// one of a thousand runs it hits for sure, where it is within its bounds: in a
// ring of three, two messages are sent; the plain course is that everything
// arrives in the order in which it was sent and no timer runs before; and a
// history differs from that in at most so many places, by another frame that
// comes first, a timer that runs early, a crash, or a cut of a session, with or
// without what was on its way.

// An act is one thing that may happen next.
type act struct {
	kind actKind
	i, j int
}

type actKind uint8

const (
	arrives actKind = iota // the first frame from i to j
	ticks                  // the next timer, of node i
	submits                // node i
	crashes                // node i
	cuts                   // the session of i and j; what is on its way arrives
	loses                  // the same; nothing arrives
	meets                  // i and j have a new session
)

func (a act) String() string {
	return fmt.Sprintf("%s(%d,%d)", [...]string{"arrives", "ticks", "submits", "crashes", "cuts", "loses", "meets"}[a.kind], a.i+1, a.j+1)
}

// tiny is a world of three nodes that is told what happens next.
type tiny struct {
	now    time.Duration
	trace  *check.Trace
	cores  [3]*ring.Core
	apps   [3]app
	dead   [3]bool
	told   [3][3]bool     // node i has a session with j
	out    [3][3][]letter // from i to j
	seq    int
	left   [meets + 1]int // how often a kind may happen still
	chance [3]uint64
	bad    string
	sent   [3]uint64
	log    func(string, ...any)
}

type letter struct {
	seq   int // order of sending
	frame ring.Frame
	end   bool // of the session
}

func tinyNK(i int) ring.NK { return ring.NK{ID: uint32(i + 1), Boot: 1} }

// newTiny gives three nodes that have just met, or are in one ring.
func newTiny(formed bool) *tiny {
	w := &tiny{trace: check.New()}
	for i := range w.cores {
		w.cores[i] = ring.New(ring.Config{Self: tinyNK(i), Rand: w.rand(i), Ceiling: 1000, Gather: -1})
		w.trace.Start(tinyNK(i), false)
		w.step(i, ring.Tick{})
	}
	for _, p := range [][2]int{{0, 1}, {0, 2}, {1, 2}} {
		w.do(act{meets, p[0], p[1]})
	}
	w.left[ticks] = 60
	w.rest(func() bool {
		return !formed || !slices.ContainsFunc(w.cores[:], func(c *ring.Core) bool { return len(c.View().Members) < 3 })
	})
	w.left = [...]int{arrives: 1 << 30, ticks: 60, submits: 2, crashes: 1, cuts: 2, loses: 2, meets: 1}
	return w
}

// rand is a node's source of chance, which is fair and has little state.
func (w *tiny) rand(i int) func() uint64 {
	return func() uint64 {
		w.chance[i] = (w.chance[i] + 1) % 16
		return mix(uint64(i), w.chance[i])
	}
}

// rest takes the plain course until something is so.
func (w *tiny) rest(until func() bool) {
	for range 2000 {
		if a, ok := w.plain(); w.bad == "" && ok && !until() {
			w.do(a)
		}
	}
}

func (w *tiny) step(i int, ev ring.Event) {
	if w.dead[i] || w.bad != "" {
		return
	}
	me := tinyNK(i)
	var again []ring.Event
	if w.log != nil {
		w.log("%v %v %T %+v", w.now, me, ev, ev)
		if f, ok := ev.(ring.Received); ok {
			w.log("   %s", describe(f.Frame))
		}
	}
	for _, out := range w.cores[i].Step(w.now, ev) {
		if w.log != nil {
			w.log("      %T %+v", out, out)
		}
		switch out := out.(type) {
		case ring.Send:
			for _, nk := range out.To {
				if j := int(nk.ID) - 1; w.told[i][j] {
					w.seq++
					w.out[i][j] = append(w.out[i][j], letter{w.seq, out.Frame, false})
				}
			}
		case ring.Persist:
			again = append(again, ring.Durable{Ceiling: out.Ceiling})
		case ring.AskState:
			again = append(again, ring.State{Ballot: out.Ballot, Data: w.apps[i].state(me, out, 0)})
		case ring.Deliver:
			for _, m := range out.Messages {
				w.trace.Deliver(me, check.Delivery{Origin: m.Origin, Seq: m.OSeq, Ring: out.Ring, Pos: m.Pos, Tail: out.Tail, Sum: hash(m.Data)})
				w.apps[i].apply(m.Origin, hash(m.Data))
			}
		case ring.Install:
			before := w.apps[i].hash()
			if err := w.apps[i].install(me, out); err != nil {
				w.bad = err.Error()
			}
			w.trace.Install(me, check.Install{View: out.View, Old: out.Old, Transitional: out.Transitional, Before: before, After: w.apps[i].hash()})
		case ring.Break:
			if j := int(out.Peer.ID) - 1; strings.HasPrefix(out.Reason, slowReason) {
				w.endOf(i, j, false)
				w.told[i][j] = false
				continue
			}
			w.bad = fmt.Sprintf("%v breaks with %v: %s", me, out.Peer, out.Reason)
		case ring.Refused:
			w.bad = "refused: " + out.Err.Error()
		}
	}
	for _, ev := range again {
		w.step(i, ev)
	}
}

// do has something happen.
func (w *tiny) do(a act) {
	i, j := a.i, a.j
	w.left[a.kind]--
	switch a.kind {
	case arrives:
		l := w.out[i][j][0]
		w.out[i][j] = w.out[i][j][1:]
		switch {
		case !w.told[j][i] || w.dead[j]:
		case l.end:
			w.told[j][i], w.out[j][i] = false, append(slices.Clip(w.out[j][i]), letter{w.seq, nil, true})
			w.step(j, ring.Down{Peer: tinyNK(i), Dead: w.dead[i]})
		default:
			w.step(j, ring.Received{From: tinyNK(i), Frame: l.frame})
		}
	case ticks:
		at, _ := w.cores[i].Next()
		w.now = max(w.now, at)
		w.step(i, ring.Tick{})
	case submits:
		w.sent[i]++
		data := []byte{byte(i), byte(w.sent[i])}
		w.trace.Accept(tinyNK(i), hash(data))
		w.step(i, ring.Submit{Kind: 1, Data: data})
	case crashes:
		w.dead[i] = true
		w.trace.Stop(tinyNK(i))
		for j := range 3 {
			w.endOf(i, j, false)
		}
	case cuts, loses:
		w.endOf(i, j, a.kind == loses)
		w.endOf(j, i, a.kind == loses)
	case meets:
		for _, p := range [][2]int{{i, j}, {j, i}} {
			w.out[p[0]][p[1]] = nil
			w.told[p[0]][p[1]] = true
		}
		for _, p := range [][2]int{{i, j}, {j, i}} {
			c := w.cores[p[1]]
			w.step(p[0], ring.Up{Peer: tinyNK(p[1]), Ring: c.View().Ring, MaxSeq: c.Stats().MaxSeq})
		}
	}
}

// endOf has a session end behind what is on its way from i to j, or at once.
func (w *tiny) endOf(i, j int, lose bool) {
	if !w.told[i][j] {
		return
	}
	if lose {
		w.out[i][j] = nil
	}
	w.seq++
	w.out[i][j] = append(slices.Clip(w.out[i][j]), letter{w.seq, nil, true})
	if w.dead[i] {
		w.told[i][j] = false
	}
}

// plain is what happens next on the plain course.
func (w *tiny) plain() (act, bool) {
	best, first := act{}, 0
	for i := range 3 {
		for j := range 3 {
			if q := w.out[i][j]; len(q) > 0 && (first == 0 || q[0].seq < first) {
				best, first = act{arrives, i, j}, q[0].seq
			}
		}
	}
	if first > 0 {
		return best, true
	}
	return w.timer()
}

// timer is the next timer that runs.
func (w *tiny) timer() (act, bool) {
	best, first := act{kind: ticks}, time.Duration(-1)
	for i, c := range w.cores {
		if at, ok := c.Next(); ok && !w.dead[i] && (first < 0 || at < first) {
			best.i, first = i, at
		}
	}
	return best, first >= 0 && w.left[ticks] > 0
}

// others are what else may happen.
func (w *tiny) others(not act) (acts []act) {
	add := func(a act) {
		if a != not && w.left[a.kind] > 0 {
			acts = append(acts, a)
		}
	}
	for i := range 3 {
		for j := range 3 {
			if len(w.out[i][j]) > 0 {
				add(act{arrives, i, j})
			}
		}
	}
	if a, ok := w.timer(); ok {
		add(a)
	}
	for i := range 3 {
		if w.dead[i] {
			continue
		}
		if w.sent[i] < 1 {
			add(act{submits, i, 0})
		}
		add(act{crashes, i, 0})
		for j := range i {
			switch {
			case w.dead[j]:
			case w.told[i][j] && w.told[j][i] && w.left[cuts] > 0 && w.left[loses] > 0:
				add(act{cuts, i, j})
				add(act{loses, i, j})
			case !w.told[i][j] && !w.told[j][i]:
				add(act{meets, i, j})
			}
		}
	}
	return acts
}
