package session

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// beat looks after all sessions, from one goroutine.
func (m *Manager) beat() {
	tick := time.NewTicker(time.Duration(m.hb / 2))
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
			m.notice(m.now())
			m.lookAfter(m.now())
			m.beaten.Store(m.now())
		}
	}
}

// notice finds out that this process did not run for a while: beat should have
// come long ago. Nobody is judged for a while then, since what others have sent
// is still to be read. It is asked by whoever comes first afterwards, and the
// others wait until the handler knows.
func (m *Manager) notice(now int64) {
	if now-m.beaten.Load() <= m.dead/2 {
		return
	}
	m.pausing.Lock()
	defer m.pausing.Unlock()
	gap := now - m.beaten.Load()
	if gap <= m.dead/2 || m.ctx.Err() != nil {
		return
	}
	m.merciful.Store(now + m.dead)
	m.counts.pauses.Add(1)
	m.log.Warn("this process did not run for a while", "ms", gap/int64(time.Millisecond))
	m.conf.Handler.Paused(time.Duration(gap))
	m.beaten.Store(m.now())
}

// lookAfter keeps sessions alive and breaks those that are not.
func (m *Manager) lookAfter(now int64) {
	var ping []byte
	for _, s := range m.sessions() {
		p := s.Peer
		// A tick comes every T_hb/2, more or less; who has sent nothing at the
		// second one is idle.
		if now-p.sent.Load() >= m.hb*3/4 && p.Backlog() == 0 {
			if ping == nil {
				ping = newFrame(ring.TypePing, binary.LittleEndian.AppendUint64(nil, uint64(now)))
			}
			p.Send(ping)
			p.Flush()
		}
		m.judge(s, now)
	}
}

// judge breaks a session whose peer is silent. A tick before that others are
// asked, so that their answers are there.
func (m *Manager) judge(s session, now int64) {
	p, limit := s.Peer, m.dead
	if s.failed {
		limit /= 2
	}
	heard := p.heard.Load()
	silence := now - heard
	if silence < limit-m.hb/2 || now < m.merciful.Load() {
		return
	}
	if unread, hung := look(p.raw); unread || hung {
		if unread {
			p.heard.Store(now) // its reader is busy, or has not been let run
		}
		return // a peer that has gone is found by the reader
	}
	if p.doubted.Swap(heard) != heard && m.ask(p, now) {
		return
	}
	if p.vouched.Load() == heard {
		limit += m.dead / 2
	}
	if silence >= limit {
		p.fail(errSilent, false)
	}
}

// ask asks the two others that were heard last about a peer.
func (m *Manager) ask(about *Peer, now int64) bool {
	var others []*Peer
	for _, s := range m.sessions() {
		if s.Peer != about && s.silence(now) < 2*m.hb {
			others = append(others, s.Peer)
		}
	}
	slices.SortFunc(others, func(a, b *Peer) int {
		return cmp.Or(cmp.Compare(b.heard.Load(), a.heard.Load()), cmp.Compare(a.nk.ID, b.nk.ID))
	})
	others = others[:min(len(others), 2)]
	frame := newFrame(ring.TypeProbe, appendNK(nil, about.nk))
	for _, p := range others {
		m.counts.probes.Add(1)
		p.Send(frame)
		p.Flush()
	}
	return len(others) > 0
}

// vouch takes the word of another peer that it heard nk age ago. It must have
// heard it clearly later than we did: of a node that has just died everybody
// heard last at about the same time.
func (m *Manager) vouch(nk ring.NK, age time.Duration) {
	p := m.session(nk)
	if p == nil {
		return
	}
	heard := p.heard.Load()
	if int64(age) >= 2*m.hb || p.silence(m.now())-int64(age) < m.hb*3/2 {
		return
	}
	if p.vouched.Swap(heard) != heard {
		m.counts.extended.Add(1)
	}
}

// Heard tells how long ago bytes came from a node with a session; false when
// there is none.
func (m *Manager) Heard(nk ring.NK) (time.Duration, bool) {
	p := m.session(nk)
	if p == nil {
		return 0, false
	}
	return time.Duration(max(0, p.silence(m.now()))), true
}

// answers tells whether a peer is alive: it is asked, and any bytes are an
// answer.
func (m *Manager) answers(p *Peer) bool {
	if _, hung := look(p.raw); hung || p.broken.Load() {
		return false
	}
	asked := m.now()
	p.Send(newFrame(ring.TypePing, binary.LittleEndian.AppendUint64(nil, uint64(asked))))
	p.Flush()
	tick := time.NewTicker(time.Duration(m.hb / 4))
	defer tick.Stop()
	for m.now()-asked < 2*m.hb {
		select {
		case <-p.ended:
			return false
		case <-m.ctx.Done():
			return true
		case <-tick.C:
		}
		if p.heard.Load() > asked {
			return true
		}
	}
	unread, hung := look(p.raw)
	return unread && !hung
}
