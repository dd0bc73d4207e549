package session

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// accept takes the connections of others.
func (m *Manager) accept() {
	pause := time.Duration(0)
	for {
		c, err := m.conf.Listener.Accept()
		if err != nil {
			if m.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Mostly there are no descriptors left. That passes.
			m.say(slog.LevelError, "port", "accept", "sessions of others are not taken", "err", err)
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			select {
			case <-m.ctx.Done():
				return
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
		from := addrOf(c).Addr()
		leave := m.doors.enter(from)
		if leave == nil {
			c.Close()
			m.say(slog.LevelWarn, from.String(), "many", "too many at a time who are not known yet", "addr", from)
			continue
		}
		m.work.Go(func() {
			defer leave()
			if p := m.welcome(c, leave); p != nil {
				p.run()
			}
		})
	}
}

// welcome is the part of the greetings of who is called. known is called once
// the other side has shown the key and said who it is.
func (m *Manager) welcome(c net.Conn, known func()) *Peer {
	c.SetDeadline(time.Now().Add(greetingTime))
	stop := context.AfterFunc(m.ctx, func() { c.Close() })
	defer stop()
	l := m.newLink(c, false)
	h, ours, err := m.listen(l)
	var r *refusal
	if err != nil && !errors.As(err, &r) {
		m.stranger(c, err)
		c.Close()
		return nil
	}
	known()
	var p *Peer
	if r == nil {
		p, r = m.admit(l, h, false)
	}
	c.SetDeadline(time.Now().Add(greetingTime)) // admit may have waited
	if r != nil {
		m.refuse(l, r)
		if r.reason != reasonBusy {
			from := addrOf(c).Addr()
			m.say(slog.LevelWarn, from.String(), r.Error(), "a daemon is refused", "addr", from, "node", h.name, "id", h.nk.ID, "boot", h.nk.Boot, "err", r)
		}
		c.Close()
		return nil
	}
	if err := l.writeNow(ring.TypeHelloAck, ours.append(nil)); err != nil {
		m.discard(p)
		return nil
	}
	return p
}

// listen waits for a greeting. The error is a refusal when the other side is to
// be told.
func (m *Manager) listen(l *link) (h, ours *hello, err error) {
	if err := l.greet(); err != nil {
		return nil, nil, err
	}
	typ, _, body, err := l.in.next()
	if err != nil {
		return nil, nil, err
	}
	if typ != ring.TypeHello {
		return nil, nil, errHello
	}
	greeting, err := parseHello(body)
	if err != nil {
		return nil, nil, err
	}
	mine := m.hello()
	if r := m.check(l, &greeting, &mine); r != nil {
		return &greeting, &mine, r
	}
	return &greeting, &mine, nil
}

// check says what is against a greeting, whoever else is there.
func (m *Manager) check(l *link, h, ours *hello) *refusal {
	if !h.understood() {
		return &refusal{reason: reasonVersion}
	}
	if h.cluster != ours.cluster {
		return &refusal{reason: reasonCluster}
	}
	if !l.speaksFor(h.name) {
		return &refusal{reason: reasonKey}
	}
	if err := h.bounded(ours); err != nil {
		return &refusal{reason: reasonInvalid, detail: err.Error()}
	}
	return nil
}

// refuse tells the other side that it is not let in. It does not matter whether
// that arrives.
func (m *Manager) refuse(l *link, r *refusal) {
	m.counts.refused.Add(1)
	l.writeNow(ring.TypeRefuse, r.append(nil))
}

// stranger has a line logged about somebody who has not come to a greeting.
func (m *Manager) stranger(c net.Conn, err error) {
	m.counts.refused.Add(1)
	if m.ctx.Err() != nil || errors.Is(err, io.EOF) {
		return // a look at whether the port is open is nothing to tell
	}
	from := addrOf(c).Addr()
	m.say(slog.LevelWarn, from.String(), "stranger", "somebody who is no member called", "addr", from, "err", err)
}
