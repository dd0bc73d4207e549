package sim

import (
	"math/rand/v2"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// A host is a machine on which daemons live one after the other.
type host struct {
	w        *world
	id       uint32
	boot     uint64
	ceiling  uint64 // on its disk
	life     *life  // the last one
	down     bool   // the machine itself is off
	slow     int    // faults that make it slow
	slowDisk int
	fullDisk int
	waiting  []func() // writes that wait for a full disk
}

// A life is one daemon from its start to its end.
type life struct {
	w      *world
	host   *host
	nk     ring.NK
	core   *ring.Core
	r      *rand.Rand
	clock  time.Duration // what its clock says more than the world's
	dead   bool
	asleep int      // faults that keep it from running
	stuck  int      // faults that keep its core from running
	inbox  []func() // what happened meanwhile

	pausedAt time.Duration
	tickAt   time.Duration // for which a tick is set; -1: for none
	ticks    int           // of one instant
	lastTick time.Duration
	writes   []uint64 // ceilings that are on their way to the disk
	maxSeq   uint64   // highest sequence number heard of
	app      app
	sent     uint64 // messages
	flood    int    // faults that have it send all it can
	installs int
}

// start begins a life on a host.
func (h *host) start(wiped bool) {
	h.boot++
	h.down = false
	w := h.w
	if wiped || h.boot == 1 && !w.k.Reserve {
		h.ceiling = ring.Fresh(w.r.Uint64())
	}
	l := &life{w: w, host: h, nk: ring.NK{ID: h.id, Boot: h.boot}, tickAt: -1, lastTick: -1, maxSeq: h.ceiling}
	l.r = rand.New(rand.NewPCG(w.plan.Seed, uint64(h.id)<<32|h.boot))
	l.clock = time.Duration(l.r.Int64N(int64(time.Hour)))
	h.life = l
	w.trace.Start(l.nk, wiped)
	c := w.k.Conf
	c.Self, c.MaxSeq, c.Rand = l.nk, h.ceiling, l.r.Uint64
	if w.k.Reserve && h.fullDisk == 0 {
		h.ceiling += 1024
		c.Ceiling = h.ceiling
	}
	l.core = ring.New(c)
	l.logf("starts, wiped %v, with ring numbers above %d", wiped, h.ceiling)
	l.step(ring.Tick{})
	for _, k := range w.links {
		for side, x := range k.hosts {
			if x == h {
				k.dials[side] = dialer{version: k.dials[side].version}
				k.dial(side, between(w.r, 0, 100*ms), true)
			}
		}
	}
	l.work()
}

// kill ends the life at once. silent: nothing tells the peers.
func (l *life) kill(silent bool) {
	if l.dead {
		return
	}
	l.logf("dies, silent %v", silent)
	w := l.w
	l.dead = true
	l.inbox = nil
	l.host.down = silent
	w.trace.Stop(l.nk)
	for _, ceiling := range l.writes { // the disk may have been faster than we
		if chance(w.r, 50) {
			l.host.ceiling = max(l.host.ceiling, ceiling)
		}
	}
	l.host.waiting = nil
	for _, k := range w.links {
		for side, x := range k.hosts {
			if x == l.host {
				l.drop(k, side, silent)
			}
		}
	}
}

func (l *life) drop(k *link, side int, silent bool) {
	if k.sess == nil || k.sess.ends[side].life != l {
		return
	}
	e := k.sess.ends[side]
	e.done, e.told = true, false
	e.lose()
	if silent {
		e.cut = true
	} else {
		e.push(packet{fin: true})
	}
	e.other().listen()
}

func (l *life) paused() bool { return l.asleep > 0 }

// take runs f, or keeps it until the node runs again.
func (l *life) take(f func()) {
	switch {
	case l.dead:
	case l.asleep > 0 || l.stuck > 0:
		l.inbox = append(l.inbox, f)
	default:
		f()
	}
}

// pause stops the node for a while.
func (l *life) pause() {
	if l.asleep++; l.asleep == 1 {
		l.pausedAt = l.w.now
		l.eachEnd(func(e *end) { e.other().listen() })
	}
}

func (l *life) resume() {
	if l.asleep--; l.asleep > 0 || l.dead {
		return
	}
	l.eachEnd(func(e *end) {
		e.other().listen()
		if e.silent >= 0 {
			e.silent = l.w.now
			e.expire()
		}
	})
	if l.w.now-l.pausedAt > l.w.k.Dead/2 {
		if l.stuck > 0 {
			l.inbox = append([]func(){func() { l.step(ring.Paused{}) }}, l.inbox...)
		} else {
			l.step(ring.Paused{})
		}
	}
	l.wake()
}

func (l *life) freeze() { l.stuck++ }

func (l *life) thaw() {
	l.stuck--
	l.wake()
}

// wake works off what waited.
func (l *life) wake() {
	for len(l.inbox) > 0 && l.asleep == 0 && l.stuck == 0 && !l.dead {
		f := l.inbox[0]
		l.inbox = l.inbox[1:]
		f()
	}
	if l.asleep == 0 && l.stuck == 0 && !l.dead {
		l.tick()
	}
}

func (l *life) eachEnd(f func(e *end)) {
	for _, k := range l.w.links {
		if k.sess == nil {
			continue
		}
		for _, e := range k.sess.ends {
			if e.life == l && !e.done {
				f(e)
			}
		}
	}
}
