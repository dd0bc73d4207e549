package sim

import (
	"fmt"
	"strings"

	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/cluster/ring/check"
)

// hello is what the node's HELLO says now.
func (l *life) hello() ring.Up {
	return ring.Up{Peer: l.nk, Ring: l.core.View().Ring, MaxSeq: l.core.Stats().MaxSeq}
}

// step gives an event to the core and does what it says.
func (l *life) step(ev ring.Event) {
	if l.dead || l.w.over() {
		return
	}
	w := l.w
	w.note(l, ev)
	outs := l.core.Step(w.now+l.clock, ev)
	l.perform(outs)
	if l.dead || w.over() {
		return
	}
	l.tick()
	if w.res.Steps++; w.res.Steps&15 == 0 {
		l.measure()
	}
}

// tick sets the event for the core's next timer.
func (l *life) tick() {
	next, ok := l.core.Next()
	if !ok {
		return
	}
	w := l.w
	at := max(next-l.clock, w.now)
	if l.tickAt >= w.now && l.tickAt <= at {
		return
	}
	l.tickAt = at
	if l.host.slow > 0 {
		at += between(w.r, 0, 20*ms)
		l.tickAt = at
	}
	w.at(at, func() {
		if l.dead || l.tickAt != at {
			return
		}
		l.tickAt = -1
		if l.asleep > 0 || l.stuck > 0 {
			return // set again when it wakes
		}
		if next, ok := l.core.Next(); !ok || next-l.clock > w.now {
			l.tick()
			return
		}
		if l.lastTick != at {
			l.lastTick, l.ticks = at, 0
		}
		if l.ticks++; l.ticks > 1000 {
			w.fail("I11", l, "a timer is due again and again at %v", at)
			return
		}
		l.step(ring.Tick{})
	})
}

func (l *life) perform(outs []ring.Output) {
	for _, out := range outs {
		if l.dead || l.w.over() {
			return
		}
		switch out := out.(type) {
		case ring.Send:
			l.send(out)
		case ring.Persist:
			l.persist(out.Ceiling)
		case ring.Deliver:
			l.deliver(out)
		case ring.AskState:
			l.ask(out)
		case ring.Install:
			l.install(out)
		case ring.Break:
			l.part(out)
		case ring.Refused:
		case ring.Note:
			l.noted(out.Text)
		default:
			l.w.fail("core", l, "unknown output %T", out)
		}
	}
}

// slowReason is how the core's reason begins when a sequencer does not order.
const slowReason = "it has ordered nothing for "

// part ends a session because the core says so. Nobody lies here, so the only
// reason for it is a sequencer that lives and does not order.
func (l *life) part(out ring.Break) {
	if !strings.HasPrefix(out.Reason, slowReason) {
		l.w.fail("I10", l, "breaks with %v: %s", out.Peer, out.Reason)
		return
	}
	l.logf("breaks with %v: %s", out.Peer, out.Reason)
	if e := l.end(out.Peer); e != nil {
		l.w.after(0, func() { l.take(func() { e.close(false, "the core says so") }) })
	}
}

// send puts a frame into the sessions, and springs the traps that wait for it.
func (l *life) send(out ring.Send) {
	w := l.w
	frame := out.Frame
	var wire []byte
	if w.k.Codec {
		wire = ring.AppendFrame(nil, frame)
	}
	w.res.count(frame, len(out.To))
	if w.log != nil {
		l.logf("sends to %v: %s", out.To, describe(frame))
	}
	to := out.To
	trap := w.sprung(l, frame)
	if trap != nil && !trap.snip && trap.aimed != 1 {
		to = to[:trap.r.IntN(len(to)+1)]
	}
	for _, nk := range to {
		if e := l.end(nk); e != nil {
			e.push(packet{frame: frame, wire: wire})
		}
	}
	if trap != nil {
		trap.spring(l, out.To)
	}
}

// end gives the end of the session with a node, if the core knows of one.
func (l *life) end(nk ring.NK) *end {
	if nk.ID == 0 || int(nk.ID) > len(l.w.hosts) || nk.ID == l.nk.ID {
		l.w.fail("core", l, "a frame to %v", nk)
		return nil
	}
	k := l.w.link(l.nk.ID, nk.ID)
	if k.sess == nil {
		return nil
	}
	for _, e := range k.sess.ends {
		if e.life == l && e.told && e.other().life.nk == nk {
			return e
		}
	}
	return nil
}

// persist writes a ceiling to the disk, and tells when it is there.
func (l *life) persist(ceiling uint64) {
	w := l.w
	l.writes = append(l.writes, ceiling)
	var done func()
	done = func() {
		if l.dead {
			return
		}
		if l.host.fullDisk > 0 {
			l.host.waiting = append(l.host.waiting, done)
			return
		}
		for i, x := range l.writes {
			if x == ceiling {
				l.writes = append(l.writes[:i], l.writes[i+1:]...)
				break
			}
		}
		l.host.ceiling = max(l.host.ceiling, ceiling)
		l.take(func() { l.step(ring.Durable{Ceiling: ceiling}) })
	}
	wait := between(w.r, 0, w.k.Disk)
	if l.host.slowDisk > 0 {
		wait = between(w.r, 0, 300*ms)
	}
	w.after(wait, done)
}

func (l *life) deliver(out ring.Deliver) {
	for _, m := range out.Messages {
		sum := hash(m.Data)
		if l.w.log != nil {
			l.logf("delivers %d of %v at %d of %v, tail %v, %d bytes", m.OSeq, m.Origin, m.Pos, out.Ring, out.Tail, len(m.Data))
		}
		l.w.res.Delivered++
		if out.Tail {
			l.w.res.Tail++
		}
		l.w.mix(uint64(l.nk.ID), m.Pos, m.OSeq, sum)
		l.w.trace.Deliver(l.nk, check.Delivery{Origin: m.Origin, Seq: m.OSeq, Ring: out.Ring, Pos: m.Pos, Tail: out.Tail, Sum: sum})
		l.app.apply(m.Origin, sum)
	}
}

// ask has the application state its tables, at once or a little later.
func (l *life) ask(out ring.AskState) {
	data := l.app.state(l.nk, out, l.w.k.BigState)
	answer := func() { l.step(ring.State{Ballot: out.Ballot, Data: data}) }
	l.w.after(between(l.w.r, 0, l.w.k.StateLate), func() { l.take(answer) })
}

func (l *life) install(out ring.Install) {
	w := l.w
	l.installs++
	w.res.Installs++
	w.lastInstall = w.now
	if l.w.log != nil {
		l.logf("installs %v of %v from %v with %v: %s", out.View.Ring, out.View.Members, out.Old, out.Transitional, out.Cause)
	}
	w.mix(uint64(l.nk.ID), out.View.Ring.Seq, uint64(out.View.Ring.Rep), uint64(len(out.View.Members)))
	before := l.app.hash()
	if err := l.app.install(l.nk, out); err != nil {
		w.fail("I12", l, "at the install of %v: %v", out.View.Ring, err)
	}
	w.trace.Install(l.nk, check.Install{View: out.View, Old: out.Old, Transitional: out.Transitional, Before: before, After: l.app.hash()})
}

// measure holds I14. In a change of the ring a node may get all that the others
// keep, and not know yet which of its own entries are stable.
func (l *life) measure() {
	s := l.core.Stats()
	l.w.res.MostHeld = max(l.w.res.MostHeld, s.Unstable)
	n := 1
	if s.State != "oper" {
		n = 2
	}
	l.w.trace.Held(l.nk, s.Unstable, n*l.w.window, n*l.w.credit)
}

func (l *life) logf(format string, args ...any) {
	if l.w.log != nil {
		l.w.log(fmt.Sprintf("%9.3f %v ", float64(l.w.now.Microseconds())/1000, l.nk) + fmt.Sprintf(format, args...))
	}
}
