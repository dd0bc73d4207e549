package fs

import (
	"sync/atomic"
	"syscall"

	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/rendezvous"
)

var _ body = (*datagrams)(nil)

// datagrams is the stream of a client of an announced udp service: each read is a datagram or its rest, each write is a
// datagram.
type datagrams struct {
	d *rendezvous.Datagrams
	c *conn

	in, out atomic.Uint64
	full    atomic.Bool // the last write found no room, and nothing was told since
}

// notify makes e hear of every change.
func (s *datagrams) notify(e *kernel.Endpoint) {
	s.d.Notify(func() {
		s.full.Store(false)
		e.WakeSoon()
	})
}

func (s *datagrams) Read(p []byte) (int, syscall.Errno) {
	n, err := s.d.Read(p)
	s.in.Add(uint64(max(n, 0)))
	return max(n, 0), errno(err)
}

func (s *datagrams) Write(p []byte) (int, syscall.Errno) {
	s.full.Store(true) // before, so that a change that is told meanwhile counts
	n, err := s.d.Write(p)
	e := errno(err)
	if e != syscall.EAGAIN {
		s.full.Store(false)
	}
	if e == 0 {
		s.out.Add(uint64(len(p)))
		return len(p), 0
	}
	return max(n, 0), e
}

func (s *datagrams) Poll() uint32 {
	var ready uint32
	if s.d.Readable() {
		ready = kernel.PollIn
	}
	if !s.full.Load() {
		ready |= kernel.PollOut
	}
	return ready
}

// Arm does nothing: every change is told.
func (s *datagrams) Arm(*kernel.Endpoint) {}

// CloseWrite does nothing: a datagram service knows no half-close.
func (s *datagrams) CloseWrite() {}

func (s *datagrams) Shut() bool { return false }

func (s *datagrams) Traffic() (in, out uint64) { return s.in.Load(), s.out.Load() }

func (s *datagrams) Close() {
	s.c.ended(s.Traffic())
	s.d.Close()
}
