package group

import (
	"sync/atomic"
	"syscall"
)

// A Sender sends to a group without being a member. Its methods may be called
// from any goroutine.
type Sender struct {
	waker
	g       *Groups
	name    string
	caller  Caller
	trailer []byte
	closed  atomic.Bool
}

// Sender gives what sends to a group without being a member. It is judged at
// once by the group as it is here now (ENOENT, EACCES), and each message again
// where it is delivered: there it is dropped in silence if it may not be sent
// any more.
func (g *Groups) Sender(name string, c Caller) (*Sender, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	gr := g.table.groups[name]
	if gr == nil {
		return nil, fail("send to", name, syscall.ENOENT)
	}
	h := sendHeader{pid: uint32(c.PID), cred: credOf(c, maxSendGroups, gr.gid), name: []byte(name)}
	if all := credOf(c, len(c.Groups), gr.gid); !gr.allows(all, Send, mayWrite) {
		return nil, fail("send to", name, syscall.EACCES)
	}
	return &Sender{g: g, name: name, caller: c, trailer: appendSend(nil, h)}, nil
}

// Send is Member.Send. EPIPE: after Close.
func (s *Sender) Send(data []byte, own bool) error {
	switch {
	case len(data) > MaxMessage:
		return syscall.EMSGSIZE
	case s.closed.Load():
		return syscall.EPIPE
	case s.g.short(s.name):
		return syscall.ENETDOWN
	}
	return s.g.submit(&s.waker, KindSend, append(payload(data, own, len(s.trailer)), s.trailer...))
}

// short tells whether a group lacks the quorum that it needs.
func (g *Groups) short(name string) bool {
	if g.quorate.Load() {
		return false
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	gr := g.table.groups[name]
	return gr != nil && gr.need
}

// Room is Member.Room.
func (s *Sender) Room() bool { return !s.g.full.Load() || s.closed.Load() }

// Notify is Member.Notify, for Send only.
func (s *Sender) Notify(f func()) { s.set(f) }

// Close ends it.
func (s *Sender) Close() {
	s.closed.Store(true)
	s.set(nil)
}
