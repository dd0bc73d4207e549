package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

const (
	redialFirst = 250 * time.Millisecond // between two dials, doubled
	redialLast  = 5 * time.Second        // at most, more or less
	dialFirst   = 300 * time.Millisecond // for one dial, doubled when it was not enough
	dialLast    = 3 * time.Second        // at most
	quickEvery  = time.Second            // between two redials without a pause
	quickTime   = 100 * time.Millisecond // after it, in which a redial that is broken is tried again
	quickAgain  = 3 * time.Millisecond   // later
	yield       = 30 * time.Millisecond  // for the node with the lower number to dial first
	tellAfter   = 5 * time.Second        // without a session, before the log has a line
)

// hurry says how soon a node is to be dialled again.
type hurry uint8

const (
	hurryNot  hurry = iota // as planned
	hurrySoon              // after the shortest pause
	hurryNow               // at once, unless that was done just before
)

// errOther: another session came up while this one was dialled.
var errOther = errors.New("another session is there")

// schedule says when to dial.
type schedule struct {
	next    time.Time
	pause   time.Duration // before the next dial but one
	timeout time.Duration
	quick   time.Time // the last redial at once
	since   time.Time // there is no session
}

func newSchedule(at time.Time) schedule {
	return schedule{next: at, since: at, pause: redialFirst, timeout: dialFirst}
}

// again sets the next dial after a session has ended, or when the node is
// likely to be there.
func (s *schedule) again(h hurry, at time.Time) {
	s.since = at
	s.timeout = dialFirst
	if h == hurryNow && at.Sub(s.quick) >= quickEvery {
		s.quick, s.next, s.pause = at, at, redialFirst
		return
	}
	if h == hurrySoon {
		s.pause = redialFirst
	}
	s.plan(at)
}

// failed sets the next dial after one that did not succeed.
func (s *schedule) failed(err error, at time.Time) {
	var r *refusal
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		s.timeout = min(2*s.timeout, dialLast)
	case errors.As(err, &r) && r.reason == reasonConflict:
		s.pause = redialLast
	case at.Sub(s.quick) < quickTime && isBreak(err):
		s.next = at.Add(quickAgain)
		return
	}
	s.plan(at)
}

// isBreak tells whether a connection was made and ended then. A process that is
// killed closes its descriptors one after the other, which takes a while on a
// busy host, and its port may be open still when its sessions are not.
func isBreak(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (s *schedule) plan(at time.Time) {
	s.next = at.Add(s.pause + rand.N(s.pause/8))
	s.pause = min(2*s.pause, redialLast)
}

// keep dials a node whenever there is no session with it, until it is no target
// any more.
func (n *node) keep(ctx context.Context) {
	m := n.m
	defer n.wake() // of who has taken its place already
	first := time.Now()
	if m.conf.Self.ID > n.id {
		first = first.Add(yield) // both would dial at the same time, for nothing
	}
	s := newSchedule(first)
	for {
		t, up, h, ok := n.task(ctx)
		if !ok {
			return
		}
		if h != hurryNot {
			s.again(h, time.Now())
		}
		var due <-chan time.Time
		if !up {
			wait := time.Until(s.next)
			if wait <= 0 {
				if err := n.dial(ctx, t, s.timeout); err != nil {
					s.failed(err, time.Now())
					n.tellWhy(ctx, t, err, time.Since(s.since))
				}
				continue
			}
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-n.poke:
		case <-due:
		}
	}
}

// task tells what keep has to know; not ok when it is to end.
func (n *node) task(ctx context.Context) (t Target, up bool, h hurry, ok bool) {
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	if ctx.Err() != nil || n.target == nil {
		return t, false, 0, false
	}
	h, n.hurry = n.hurry, hurryNot
	return *n.target, n.peer != nil, h, true
}

// dial makes a session with a target, in place of none.
func (n *node) dial(ctx context.Context, t Target, timeout time.Duration) error {
	m := n.m
	m.counts.dials.Add(1)
	short, cancel := context.WithTimeout(ctx, timeout)
	conn, err := m.conf.Dial(short, t.Addr)
	cancel()
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			n.nobody()
		}
		if short.Err() == context.DeadlineExceeded {
			err = fmt.Errorf("%w: %w", err, short.Err())
		}
		return err
	}
	conn.SetDeadline(time.Now().Add(greetingTime))
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	p, err := n.call(m.newLink(conn, true), t)
	if !stop() && err == nil {
		m.discard(p)
		return ctx.Err()
	}
	if err != nil {
		conn.Close()
		return err
	}
	m.work.Go(p.run)
	return nil
}

// call is the caller's part of the greetings.
func (n *node) call(l *link, t Target) (*Peer, error) {
	m := n.m
	if err := l.greet(); err != nil {
		return nil, err
	}
	ours := m.hello()
	if !n.begin() {
		return nil, errOther
	}
	defer n.finish()
	if err := l.writeNow(ring.TypeHello, ours.append(nil)); err != nil {
		return nil, err
	}
	typ, _, body, err := l.in.next()
	if err != nil {
		return nil, err
	}
	switch typ {
	case ring.TypeRefuse:
		r, err := parseRefusal(body)
		if err != nil {
			return nil, err
		}
		return nil, r
	case ring.TypeHelloAck:
	default:
		return nil, errFrame
	}
	h, err := parseHello(body)
	if err != nil {
		return nil, err
	}
	r := m.check(l, &h, &ours)
	if r == nil && h.nk.ID != t.ID {
		return nil, fmt.Errorf("node %d answers at the address of node %d", h.nk.ID, t.ID)
	}
	var p *Peer
	if r == nil {
		p, r = m.admit(l, &h, true)
	}
	if r != nil {
		m.refuse(l, r)
		if r.reason == reasonBusy {
			return nil, errOther
		}
		return nil, fmt.Errorf("its answer to our greeting is refused: %s", r)
	}
	return p, nil
}

// begin marks that our HELLO is on its way, unless there is a session or about to
// be one.
func (n *node) begin() bool {
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	if n.peer != nil || n.testing || n.greeting || n.m.closed {
		return false
	}
	n.greeting = true
	return true
}

func (n *node) finish() {
	n.m.mu.Lock()
	n.greeting = false
	n.m.mu.Unlock()
}

// nobody tells that a node's port is closed: whoever had a session is dead.
func (n *node) nobody() {
	n.tell.Lock()
	defer n.tell.Unlock()
	n.m.mu.Lock()
	gone := n.gone
	if n.peer == nil {
		n.gone = ring.NK{}
	}
	there := n.peer != nil
	n.m.mu.Unlock()
	if !there && gone.ID != 0 {
		n.m.conf.Handler.Dead(gone)
	}
}

// tellWhy has a line logged about a dial that failed.
func (n *node) tellWhy(ctx context.Context, t Target, err error, since time.Duration) {
	m := n.m
	var r *refusal
	switch {
	case ctx.Err() != nil || errors.Is(err, errOther):
	case errors.As(err, &r):
		m.refused(n.label(), r)
	case t.Failed || since < tellAfter:
		m.log.Debug("no session", "node", t.Name, "id", t.ID, "addr", t.Addr, "err", err)
	default:
		m.say(slog.LevelWarn, n.label(), "dial", "no session with a member", "node", t.Name, "id", t.ID, "addr", t.Addr, "err", err)
	}
}
