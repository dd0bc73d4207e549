package ipc

import (
	"cmp"
	"context"
	"io"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// fakeGroups are groups of one process, with an order that is a mutex.
type fakeGroups struct {
	limit int // records that a member may have in its queue; 0: any number

	mu      sync.Mutex
	groups  map[string]*fakeGroup // guarded by mu
	shut    bool                  // guarded by mu; no room for messages
	waiting []*fakeSource         // guarded by mu; those who were told that there is no room
	pos     uint64                // guarded by mu
	dirty   []*fakeMember         // guarded by mu; to be notified
	callers []rendezvous.Caller   // guarded by mu
}

type fakeGroup struct {
	members []*fakeMember // guarded by the fakeGroups' mu
	n       map[int]uint32
	sent    int // messages
}

func newFakeGroups() *fakeGroups { return &fakeGroups{groups: map[string]*fakeGroup{}} }

// fakeSource is what messages come from.
type fakeSource struct {
	all    *fakeGroups
	group  *fakeGroup
	id     Process
	notify func() // guarded by all.mu
	ended  bool   // guarded by all.mu
}

// fakeMember is one membership.
type fakeMember struct {
	fakeSource
	queue  []Record // guarded by all.mu
	head   int      // guarded by all.mu
	marked bool     // guarded by all.mu; in dirty
	reason Reason   // guarded by all.mu; why it has ended
}

// find returns a group. It is called with mu held.
func (g *fakeGroups) find(name string, create bool) (*fakeGroup, error) {
	switch {
	case len(name) > 128:
		return nil, unix.EINVAL
	case name == "mine":
		return nil, &rendezvous.Error{Op: "join", Path: name, Kind: rendezvous.Permission, Err: worded{"it is another user's", unix.EACCES}}
	case g.groups[name] == nil && !create:
		return nil, unix.ENOENT
	case g.groups[name] == nil:
		g.groups[name] = &fakeGroup{n: map[int]uint32{}}
	}
	return g.groups[name], nil
}

func (g *fakeGroups) Join(ctx context.Context, name string, c rendezvous.Caller, create bool) (Membership, error) {
	if name == "slow" {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	g.mu.Lock()
	g.callers = append(g.callers, c)
	group, err := g.find(name, create)
	if err != nil {
		g.mu.Unlock()
		return nil, err
	}
	group.n[c.PID]++
	m := &fakeMember{fakeSource: fakeSource{all: g, group: group, id: Process{1, uint32(c.PID), group.n[c.PID]}}}
	group.members = append(group.members, m)
	g.conf(group, []Change{{m.id, Joined}}, nil)
	g.flush()
	return m, nil
}

func (g *fakeGroups) Sender(name string, c rendezvous.Caller) (Sending, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	group, err := g.find(name, false)
	if err != nil {
		return nil, err
	}
	return &fakeSource{all: g, group: group, id: Process{Node: 1, PID: uint32(c.PID)}}, nil
}

// conf tells all members who is one. It is called with mu held.
func (g *fakeGroups) conf(group *fakeGroup, joined, left []Change) {
	g.pos++
	r := Record{Kind: ConfRecord, Ring: RingID{12, 1}, Pos: g.pos, Joined: joined, Left: left}
	for _, m := range group.members {
		r.Members = append(r.Members, m.id)
	}
	slices.SortFunc(r.Members, func(a, b Process) int { return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.N, b.N)) })
	g.deliver(group, r)
}

// deliver gives all members a record. It is called with mu held.
func (g *fakeGroups) deliver(group *fakeGroup, r Record) {
	for _, m := range slices.Clone(group.members) {
		if g.limit > 0 && len(m.queue)-m.head == g.limit {
			g.out(m, ProcDown)
			continue
		}
		m.queue = append(m.queue, r)
		g.mark(m)
	}
}

func (g *fakeGroups) mark(m *fakeMember) {
	if !m.marked {
		m.marked = true
		g.dirty = append(g.dirty, m)
	}
}

// flush notifies, and releases mu for that.
func (g *fakeGroups) flush() {
	var few [8]func()
	calls := few[:0]
	for i, m := range g.dirty {
		m.marked, g.dirty[i] = false, nil
		if m.notify != nil {
			calls = append(calls, m.notify)
		}
	}
	g.dirty = g.dirty[:0]
	if !g.shut {
		for _, s := range g.waiting {
			if s.notify != nil {
				calls = append(calls, s.notify)
			}
		}
		g.waiting = nil
	}
	g.mu.Unlock()
	for _, f := range calls {
		f()
	}
}

// open lets messages be sent, or not.
func (g *fakeGroups) open(open bool) {
	g.mu.Lock()
	g.shut = !open
	g.flush()
}

// out ends a membership. It is called with mu held.
func (g *fakeGroups) out(m *fakeMember, r Reason) {
	if m.ended {
		return
	}
	m.ended, m.reason = true, r
	m.queue, m.head = nil, 0
	i := slices.Index(m.group.members, m)
	m.group.members = slices.Delete(m.group.members, i, i+1)
	g.mark(m)
	g.conf(m.group, nil, []Change{{m.id, r}})
}

func (s *fakeSource) Send(data []byte, own bool) error {
	g := s.all
	g.mu.Lock()
	switch {
	case s.ended:
		g.mu.Unlock()
		return unix.EPIPE
	case len(data) > MaxMessage:
		g.mu.Unlock()
		return unix.EMSGSIZE
	case g.shut:
		g.waiting = append(g.waiting, s)
		g.mu.Unlock()
		return unix.EAGAIN
	}
	if !own {
		data = slices.Clone(data)
	}
	g.pos++
	s.group.sent++
	g.deliver(s.group, Record{Kind: MessageRecord, Ring: RingID{12, 1}, Pos: g.pos, From: s.id, Data: data})
	g.flush()
	return nil
}

func (s *fakeSource) Notify(f func()) {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	s.notify = f
}

func (s *fakeSource) Close() {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	s.ended = true
}

func (m *fakeMember) ID() Process { return m.id }

func (m *fakeMember) Next(r *Record) error {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	if m.head == len(m.queue) {
		m.queue, m.head = m.queue[:0], 0
		if m.ended {
			return io.EOF
		}
		return unix.EAGAIN
	}
	*r = m.queue[m.head]
	m.queue[m.head] = Record{}
	m.head++
	return nil
}

func (m *fakeMember) Ended() bool {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	return m.ended
}

func (m *fakeMember) Leave(r Reason) {
	m.all.mu.Lock()
	m.all.out(m, r)
	m.all.flush()
}
