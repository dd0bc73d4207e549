package sim

import (
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// A link is what lies between two hosts: two directions that may be blocked by
// any number of faults at a time, and at most one session.
type link struct {
	w       *world
	hosts   [2]*host
	blocked [2]int // of the direction from hosts[i]
	shut    int    // faults that let no new session be made
	sess    *session
	told    [2]*end // of which the core at hosts[i] was told last
	dials   [2]dialer
}

// A dialer is how one side of a link dials the other.
type dialer struct {
	version int // of the dial that is set
	backoff time.Duration
	peer    ring.NK // life of the other host to which there was a session last
	dead    bool    // the core was told that this one is dead
}

// A session is a TCP connection with its two ends.
type session struct {
	link *link
	ends [2]*end // of hosts[i]
}

// An end is one node's end of a session.
type end struct {
	s       *session
	side    int
	life    *life
	open    bool          // the handshake is done
	told    bool          // the core has had Up, and no Down
	done    bool          // nothing is taken from it any more
	cut     bool          // nothing that is sent gets into the pipe
	silent  time.Duration // since when nothing can come; -1: something can
	in      ring.Decoder
	recoded int
	out     []packet      // on its way to the other end, in order
	busy    bool          // an event for the first of out is set
	last    time.Duration // when the last one came
}

// A packet is a frame on its way, or the end of the stream.
type packet struct {
	ready time.Duration
	frame ring.Frame // as it was sent
	wire  []byte     // the same, encoded; nil if that is not simulated
	fin   bool
	bye   bool // of one that says that it ends
}

func (e *end) other() *end { return e.s.ends[1-e.side] }

// delay is how long a packet takes from hosts[side].
func (l *link) delay(side int) time.Duration {
	w := l.w
	d := between(w.r, ms, 6*ms)
	if !w.k.Calm && chance(w.r, 2) {
		d = between(w.r, ms, 66*ms)
	}
	for _, h := range l.hosts {
		if h.slow > 0 {
			d += between(w.r, 0, 80*ms)
		}
	}
	return d
}

// push sends a packet on its way.
func (e *end) push(p packet) {
	if e.cut {
		return
	}
	e.cut = p.fin
	l := e.s.link
	p.ready = max(l.w.now+l.delay(e.side), e.last)
	e.out = append(e.out, p)
	e.flow(0)
}

// flow sets the event for the first packet, unless the way is blocked.
func (e *end) flow(wait time.Duration) {
	l := e.s.link
	if e.busy || len(e.out) == 0 || l.blocked[e.side] > 0 {
		return
	}
	e.busy = true
	l.w.at(max(e.out[0].ready, e.last, l.w.now+wait), e.arrive)
}

// arrive brings the first packet to the other end.
func (e *end) arrive() {
	e.busy = false
	l := e.s.link
	if l.blocked[e.side] > 0 || len(e.out) == 0 {
		return
	}
	p := e.out[0]
	if p.ready > l.w.now { // the pipe was cut and filled again
		e.flow(0)
		return
	}
	e.out[0] = packet{}
	e.out = e.out[1:]
	e.last = l.w.now
	to := e.other()
	switch {
	case to.done || to.life == nil || to.life.dead:
	case p.fin:
		to.life.take(func() { to.close(p.bye, "end of the stream") })
	case to.open:
		to.life.take(func() { to.receive(p) })
	}
	e.flow(0)
}

// receive gives a frame to the core.
func (e *end) receive(p packet) {
	if !e.told {
		return
	}
	from, frame := e.other().life.nk, p.frame
	if p.wire != nil {
		var err error
		if frame, err = e.decode(p.wire, from); err != nil {
			e.life.w.fail("codec", e.life, "%s: %v", describe(p.frame), err)
			return
		}
	}
	e.life.step(ring.Received{From: from, Frame: frame})
}

// lose drops the end of what is on its way from e, from a random place on; not
// the end of the stream, once that is there.
func (e *end) lose() {
	if n := len(e.out); n > 0 && !e.cut {
		e.out = e.out[:e.s.link.w.r.IntN(n+1)]
	}
}

// reset breaks a session: both ends lose what comes last, and learn of it when
// the rest has come.
func (s *session) reset() {
	for _, e := range s.ends {
		e.lose()
		e.push(packet{fin: true})
	}
}

// close ends the session at this end. dead: the peer does not run any more, as
// its end has said.
func (e *end) close(dead bool, why string) {
	if e.done {
		return
	}
	e.done = true
	was := e.told
	e.told = false
	e.push(packet{fin: true})
	if e.life == nil || e.life.dead {
		return
	}
	l := e.s.link
	if was {
		peer := e.other().life.nk
		l.dials[e.side].dead = dead
		e.life.logf("session with %v ends: %s", peer, why)
		e.life.step(ring.Down{Peer: peer, Dead: dead})
	}
	l.dial(e.side, between(l.w.r, 0, 20*ms), true)
}

// block adds n blocks to the direction from hosts[side]; negative ones go.
func (l *link) block(side, n int) {
	l.blocked[side] += n
	l.hurry()
	if l.sess == nil {
		return
	}
	if l.blocked[side] == 0 {
		l.sess.ends[side].flow(between(l.w.r, 0, 50*ms))
	}
	l.sess.ends[1-side].listen()
}

// shutOut keeps new sessions from being made, n times; negative ones go.
func (l *link) shutOut(n int) {
	l.shut += n
	l.hurry()
}

// passable tells whether a session can be made.
func (l *link) passable() bool { return l.blocked[0] == 0 && l.blocked[1] == 0 && l.shut == 0 }

// hurry has one side dial soon, where that is so.
func (l *link) hurry() {
	w := l.w
	if w.k.Hasty && l.passable() {
		l.dial(w.r.IntN(2), between(w.r, 0, 20*ms), true)
	}
}

// listen looks whether anything can come to e, and ends the session when
// nothing could for T_dead.
func (e *end) listen() {
	w := e.s.link.w
	from := e.other()
	quiet := e.s.link.blocked[from.side] > 0 || from.life == nil || from.life.dead || from.life.paused()
	switch {
	case e.done || !quiet:
		e.silent = -1
		return
	case e.silent >= 0:
		return
	}
	e.silent = w.now
	e.expire()
}

// expire sets the time at which e gives its silent peer up.
func (e *end) expire() {
	w := e.s.link.w
	since := e.silent
	w.after(w.k.Dead+between(w.r, 0, 50*ms), func() {
		if e.done || e.silent != since || e.life.paused() {
			return // a paused node sees nothing; it listens anew when it wakes
		}
		e.life.take(func() { e.close(false, "silence") })
	})
}

// dial has the node at one side dial the other after a while, unless a session
// is there by then.
func (l *link) dial(side int, wait time.Duration, fresh bool) {
	d := &l.dials[side]
	d.version++
	version := d.version
	if fresh {
		d.backoff = 0
	}
	l.w.after(wait, func() {
		if d.version == version {
			l.try(side)
		}
	})
}

// again is the next dial after one that has failed.
func (l *link) again(side int) {
	d := &l.dials[side]
	d.backoff = min(max(2*d.backoff, 250*ms), l.w.k.Redial)
	l.dial(side, d.backoff+between(l.w.r, 0, 20*ms), false)
}

func (l *link) try(side int) {
	w := l.w
	me, peer := l.hosts[side].life, l.hosts[1-side].life
	if me == nil || me.dead || l.sess != nil && !l.sess.ends[side].done {
		return
	}
	switch {
	case me.paused():
		l.again(side)
	case !l.passable() || l.hosts[1-side].down || peer != nil && peer.paused():
		w.after(300*ms, func() { l.again(side) }) // the dial's own bound
	case peer == nil || peer.dead:
		d := &l.dials[side]
		if d.peer.ID != 0 && !d.dead {
			d.dead = true
			me.logf("dial of %v is refused", d.peer)
			nk := d.peer
			me.take(func() { me.step(ring.Down{Peer: nk, Dead: true}) })
		}
		l.again(side)
	default:
		l.open(side)
	}
}

// open makes a session that hosts[side] has dialled: HELLO goes there, HELLO_ACK
// comes back.
func (l *link) open(side int) {
	w := l.w
	old := l.sess
	s := &session{link: l}
	for i, h := range l.hosts {
		s.ends[i] = &end{s: s, side: i, life: h.life, silent: -1}
	}
	l.sess = s
	x, y := s.ends[side], s.ends[1-side]
	hello := x.life.hello()
	w.after(l.delay(side), func() {
		if old != nil {
			e := old.ends[1-side]
			e.life.take(func() { e.close(e.other().life != x.life, "a new session is there") })
		}
		if x.life.dead || y.life.dead || y.life.paused() || l.blocked[side] > 0 {
			for _, e := range s.ends {
				e.done = true
				if !e.life.dead {
					l.again(e.side)
				}
			}
			return
		}
		answer := y.life.hello()
		y.last = w.now + l.delay(1-side) // nothing overtakes HELLO_ACK
		w.at(y.last, func() {
			if y.done || x.life.dead || x.life.paused() || l.blocked[1-side] > 0 {
				x.done = true
				x.push(packet{fin: true})
				if !x.life.dead {
					l.again(side)
				}
				return
			}
			x.up(answer)
		})
		y.up(hello)
	})
}

// up opens an end, to which the other has sent hello.
func (e *end) up(hello ring.Up) {
	l := e.s.link
	d := &l.dials[e.side]
	before, told := d.peer, d.dead
	d.peer, d.dead = hello.Peer, false
	e.open = true
	e.life.take(func() {
		if e.done {
			return
		}
		// A session before that one may still be there, when the one between broke
		// in its handshake.
		if old := l.told[e.side]; old != nil && old.life == e.life {
			old.close(old.other().life != e.other().life, "a new session is there")
		}
		l.told[e.side] = e
		if before.ID != 0 && before != hello.Peer && !told && chance(l.w.r, 50) {
			e.life.step(ring.Down{Peer: before, Dead: true})
		}
		e.told = true
		e.life.logf("session with %v", hello.Peer)
		e.life.step(hello)
		e.listen()
	})
}
