package fs

import (
	"context"
	"syscall"

	"github.com/convoke-fs/convoke/cluster/watch"
	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/fs/quota"
)

var _ opener = (*eventsNode)(nil)

// eventsNode is cluster/events: each open is a registration of its own.
type eventsNode struct {
	base
	t      *Tree
	filter []watch.Kind // nil: all
}

func newEvents(t *Tree, filter []watch.Kind) *eventsNode {
	return &eventsNode{base{syscall.S_IFREG | 0444, t.uid, t.gid}, t, filter}
}

// passingEvents is cluster/events with a filter: one of many names.
type passingEvents struct{ *eventsNode }

func (passingEvents) passing() {}

// filteredEvents is cluster/events,KIND[,KIND]...
func filteredEvents(t *Tree, filter string) (node, bool) {
	kinds, err := watch.ParseKinds(filter)
	if err != nil {
		return nil, false
	}
	return passingEvents{newEvents(t, kinds)}, true
}

func (n *eventsNode) mayWait() bool { return false }

func (n *eventsNode) open(_ context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno) {
	if writes(flags) {
		return kernel.Opened{}, syscall.EACCES
	}
	if !n.t.opts.Quota.Take(c.uid, quota.Events, 1) {
		return kernel.Opened{}, syscall.EMFILE
	}
	s := &eventStream{t: n.t, uid: c.uid, r: n.t.opts.Watch.Open(n.filter, 0)}
	ep := n.t.opts.Server.NewEndpoint(s)
	ep.Hold(false)
	s.r.Notify(ep.WakeSoon)
	return kernel.Opened{Endpoint: ep, Flags: kernel.StreamFlags}, 0
}

// eventStream is an open events file.
type eventStream struct {
	t   *Tree
	uid uint32
	r   *watch.Reader
}

var _ kernel.Stream = (*eventStream)(nil)

func (s *eventStream) Read(p []byte) (int, syscall.Errno) {
	n, ok := s.r.Read(p)
	if !ok {
		return 0, syscall.EAGAIN
	}
	return n, 0
}

func (s *eventStream) Write([]byte) (int, syscall.Errno) { return 0, syscall.EBADF }

func (s *eventStream) Poll() uint32 {
	if s.r.Ready() {
		return kernel.PollIn
	}
	return 0
}

// Arm does nothing: the reader tells of every change.
func (s *eventStream) Arm(*kernel.Endpoint) {}

func (s *eventStream) CloseWrite() {}

func (s *eventStream) Close() {
	s.r.Close()
	s.t.opts.Quota.Give(s.uid, quota.Events, 1)
}
