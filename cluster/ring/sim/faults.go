package sim

import (
	"math/rand/v2"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// A trap waits for a node to send a frame of some type.
type trap struct {
	r      *rand.Rand
	typ    ring.Type
	victim *host // who must send it; nil: anybody
	skip   int   // how many such frames are let through
	snip   bool  // break a session instead of killing
	aimed  int   // 0: the sender is hit, 1: one who gets the frame
	again  time.Duration
	until  time.Duration
}

// trapTypes are what traps wait for: each step of a change, the later ones more
// often, and the stream.
var trapTypes = []ring.Type{ring.TypeInfo, ring.TypeSubmit, ring.TypeOrd, ring.TypeAck, ring.TypeNack,
	ring.TypePropose, ring.TypePropose, ring.TypeReport, ring.TypeReport,
	ring.TypePrepare, ring.TypePrepare, ring.TypePrepare, ring.TypeRecover, ring.TypeRecover, ring.TypeRecover,
	ring.TypeReady, ring.TypeReady, ring.TypeReady, ring.TypeInstall, ring.TypeInstall, ring.TypeInstall, ring.TypeInstall, ring.TypeInstall, ring.TypeInstall}

// sprung gives the trap that this frame springs.
func (w *world) sprung(l *life, f ring.Frame) *trap {
	if len(w.traps) == 0 {
		return nil
	}
	typ := typeOf(f)
	for i, t := range w.traps {
		if t.typ != typ || t.victim != nil && t.victim != l.host || w.now > t.until {
			continue
		}
		if t.skip--; t.skip >= 0 {
			continue
		}
		w.traps = append(w.traps[:i:i], w.traps[i+1:]...)
		return t
	}
	return nil
}

// spring does what the trap is for; when it is the sender that dies, only a part
// of the frames went out.
func (t *trap) spring(l *life, to []ring.NK) {
	w := l.w
	if t.snip {
		for _, nk := range to {
			if t.r.IntN(2) == 0 {
				l.logf("trap: session with %v breaks", nk)
				stay := t.again * time.Duration(t.r.IntN(2))
				w.sever(l.host, w.hosts[nk.ID-1], func(do func()) { w.ends(stay, do) })
			}
		}
		return
	}
	hit := l
	if t.aimed == 1 && len(to) > 0 {
		hit = w.hosts[to[t.r.IntN(len(to))].ID-1].life
	}
	// What else the step gives does not get out any more.
	hit.logf("trap: %v", t.typ)
	hit.kill(t.r.IntN(4) == 0)
	w.revive(hit.host, t.again, false)
}

// revive starts a host's next life after a while.
func (w *world) revive(h *host, after time.Duration, wiped bool) {
	w.after(after, func() {
		if h.life == nil || h.life.dead {
			h.start(wiped)
		}
	})
}

// apply does a fault.
func (w *world) apply(f Fault) {
	r := rand.New(rand.NewPCG(f.Bits, uint64(f.At)))
	a, b := w.hosts[f.A-1], w.hosts[f.B-1]
	alive := a.life != nil && !a.life.dead
	if w.log != nil {
		w.log("fault: " + f.String())
	}
	w.mix(uint64(f.At), uint64(f.Kind))
	end := func(do func()) { w.ends(f.For, do) }
	switch f.Kind {
	case Crash, Power, Wipe:
		if alive {
			a.life.kill(f.Kind == Power || f.Kind == Wipe && r.IntN(2) == 0)
			w.revive(a, f.For, f.Kind == Wipe)
		}
	case Bye:
		if alive {
			w.bye(a.life)
			w.revive(a, f.For, false)
		}
	case Everyone:
		for _, h := range w.hosts {
			if h.life != nil && !h.life.dead {
				h.life.kill(r.IntN(2) == 0)
				w.revive(h, time.Duration(r.Int64N(int64(f.For)+1)), false)
			}
		}
	case Reset:
		if l := w.link(a.id, b.id); l != nil && l.sess != nil {
			l.sess.reset()
		}
	case Hole:
		w.block(a, b, true, false, end)
	case Cut:
		w.block(a, b, true, true, end)
	case Flap:
		for i := range 2 + r.IntN(6) {
			w.after(time.Duration(i)*(20*ms+f.For/4), func() {
				w.block(a, b, true, true, func(do func()) { w.ends(f.For/6, do) })
			})
		}
	case Sever:
		w.sever(a, b, end)
	case Churn:
		w.churn(r, w.now+f.For)
	case Island:
		for _, h := range w.hosts {
			if h != a && r.IntN(3) > 0 {
				w.block(a, h, true, r.IntN(3) > 0, end)
			}
		}
	case Split:
		w.split(r, 2+r.IntN(2), func(x, y *host) { w.block(x, y, true, true, end) })
	case Pause, Stuck:
		if alive {
			l := a.life
			if f.Kind == Pause {
				l.pause()
				end(l.resume)
			} else {
				l.freeze()
				end(l.thaw)
			}
		}
	case Slow:
		a.slow++
		end(func() { a.slow-- })
	case SlowDisk:
		a.slowDisk++
		end(func() { a.slowDisk-- })
	case FullDisk:
		a.fullDisk++
		w.ends(f.For*2, a.room)
	case Trap, Snip:
		t := &trap{r: r, typ: trapTypes[r.IntN(len(trapTypes))], skip: r.IntN(2), snip: f.Kind == Snip, aimed: r.IntN(3), again: f.For, until: w.now + time.Second}
		if r.IntN(3) == 0 {
			t.victim = a
		}
		w.traps = append(w.traps, t)
	case Flood:
		if alive {
			l := a.life
			l.flood++
			end(func() { l.flood-- })
		}
	}
}

// split parts the nodes into so many sides by what part does to two of them.
func (w *world) split(r *rand.Rand, sides int, part func(x, y *host)) {
	of := make([]int, len(w.hosts))
	for i := range of {
		of[i] = r.IntN(sides)
	}
	for i, x := range w.hosts {
		for j, y := range w.hosts[:i] {
			if of[i] != of[j] {
				part(x, y)
			}
		}
	}
}

// churn parts the nodes anew every moment.
func (w *world) churn(r *rand.Rand, until time.Duration) {
	stay := 10*ms + time.Duration(r.Int64N(int64(150*ms)))
	w.split(r, 1+r.IntN(3), func(x, y *host) {
		w.sever(x, y, func(do func()) { w.ends(stay, do) })
	})
	w.after(stay, func() {
		if w.now < until && !w.healed {
			w.churn(r, until)
		}
	})
}

// sever breaks the session of two nodes, and keeps them from another.
func (w *world) sever(a, b *host, end func(do func())) {
	l := w.link(a.id, b.id)
	if l == nil {
		return
	}
	if l.sess != nil {
		l.sess.reset()
	}
	l.shutOut(1)
	end(func() { l.shutOut(-1) })
}

// room ends one fault that has filled a disk.
func (h *host) room() {
	if h.fullDisk--; h.fullDisk == 0 {
		waiting := h.waiting
		h.waiting = nil
		for _, do := range waiting {
			do()
		}
	}
}

// ends has do called when the time is over, or at the heal.
func (w *world) ends(after time.Duration, do func()) {
	done := false
	once := func() {
		if !done {
			done = true
			do()
		}
	}
	w.heals = append(w.heals, once)
	w.after(after, once)
}

// block cuts one or both directions between two hosts until end says so.
func (w *world) block(a, b *host, there, back bool, end func(do func())) {
	if a == b {
		return
	}
	l := w.link(a.id, b.id)
	side := 0
	if l.hosts[1] == a {
		side = 1
	}
	for i, yes := range [2]bool{there, back} {
		if yes {
			from := side ^ i
			l.block(from, 1)
			end(func() { l.block(from, -1) })
		}
	}
}

// bye ends a life as a daemon does that is told to: it says so in each session.
func (w *world) bye(l *life) {
	for _, k := range w.links {
		if k.sess == nil {
			continue
		}
		for _, e := range k.sess.ends {
			if e.life == l && !e.done {
				e.push(packet{fin: true, bye: true})
			}
		}
	}
	l.kill(false)
}
