package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/rendezvous"
)

// groupsTree is a tree whose daemon's socket has groups, with an order that is a mutex.
func groupsTree(t *testing.T) (tree string, groups *memoryGroups) {
	t.Helper()
	// Short, for the address of a socket has little room.
	tree, err := os.MkdirTemp("", "cvk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tree) })
	path := filepath.Join(tree, "dev/fdp/local/convoke")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	groups = &memoryGroups{groups: map[string][]*memoryMember{}}
	s := ipc.NewServer(nil, ipc.ServerOpts{Groups: groups})
	served := make(chan error, 1)
	go func() { served <- s.Serve(fd) }()
	t.Cleanup(func() {
		l.Close()
		s.Close()
		if err := <-served; err != nil {
			t.Errorf("the daemon's socket: %v", err)
		}
	})
	groups.stop = s.Close
	return tree, groups
}

type memoryGroups struct {
	mu     sync.Mutex
	groups map[string][]*memoryMember // guarded by mu
	closed bool                       // guarded by mu; nobody but members may send
	stuck  bool                       // guarded by mu; nothing is ordered
	last   ipc.Reason                 // guarded by mu; of who has left last
	sent   uint64                     // guarded by mu; messages
	all    []*memorySource            // guarded by mu; to be told when things are ordered again
	stop   func()                     // ends the daemon
}

// memorySource is what messages come from. All of it is guarded by all.mu.
type memorySource struct {
	all   *memoryGroups
	group string
	id    ipc.Process
	tell  func()
	ended bool
}

type memoryMember struct {
	memorySource
	queue []ipc.Record // guarded by all.mu
}

func (g *memoryGroups) Join(ctx context.Context, name string, c rendezvous.Caller, create bool) (ipc.Membership, error) {
	g.mu.Lock()
	defer g.notify(name)
	defer g.mu.Unlock()
	switch {
	case name == "mine":
		return nil, unix.EACCES
	case name == "nobody-agrees":
		return nil, unix.ETIMEDOUT
	case name == "no-quorum":
		return nil, &rendezvous.Error{Op: "join", Path: name, Kind: rendezvous.NoQuorum}
	case g.groups[name] == nil && !create:
		return nil, unix.ENOENT
	}
	m := &memoryMember{memorySource: memorySource{all: g, group: name, id: ipc.Process{Node: 1, PID: uint32(100 + len(g.groups[name])), N: 1}}}
	g.groups[name] = append(g.groups[name], m)
	g.conf(name, []ipc.Change{{Process: m.id, Reason: ipc.Joined}}, nil)
	return m, nil
}

func (g *memoryGroups) Sender(name string, c rendezvous.Caller) (ipc.Sending, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.groups[name] == nil:
		return nil, unix.ENOENT
	case g.closed:
		return nil, unix.EACCES
	}
	return &memorySource{all: g, group: name, id: ipc.Process{Node: 1, PID: 7}}, nil
}

// put gives all members a record. It is called with mu held, and notify must follow.
func (g *memoryGroups) put(name string, r ipc.Record) {
	r.Ring, r.Pos = ipc.RingID{Seq: 12, Rep: 1}, 5
	for _, m := range g.groups[name] {
		m.queue = append(m.queue, r)
	}
}

func (g *memoryGroups) conf(name string, joined, left []ipc.Change) {
	r := ipc.Record{Kind: ipc.ConfRecord, Joined: joined, Left: left}
	for _, m := range g.groups[name] {
		r.Members = append(r.Members, m.id)
	}
	g.put(name, r)
}

func (g *memoryGroups) notify(name string) {
	g.mu.Lock()
	var calls []func()
	for _, m := range g.groups[name] {
		if m.tell != nil {
			calls = append(calls, m.tell)
		}
	}
	g.mu.Unlock()
	for _, f := range calls {
		f()
	}
}

// say is a message of another node.
func (g *memoryGroups) say(name, text string) {
	g.mu.Lock()
	g.put(name, ipc.Record{Kind: ipc.MessageRecord, From: ipc.Process{Node: 2, PID: 77, N: 2}, Data: []byte(text)})
	g.mu.Unlock()
	g.notify(name)
}

// set has nothing ordered, or all again.
func (g *memoryGroups) set(stuck bool) {
	g.mu.Lock()
	g.stuck = stuck
	var calls []func()
	for _, s := range g.all {
		if s.tell != nil {
			calls = append(calls, s.tell)
		}
	}
	g.mu.Unlock()
	for _, f := range calls {
		f()
	}
}

// count tells how many messages were sent.
func (g *memoryGroups) count() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sent
}

// reason tells why somebody left, the last time.
func (g *memoryGroups) reason() ipc.Reason {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

// members tells how many there are in a group.
func (g *memoryGroups) members(name string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.groups[name])
}

// evict puts all members out.
func (g *memoryGroups) evict(name string) {
	g.mu.Lock()
	members := slices.Clone(g.groups[name])
	g.mu.Unlock()
	for _, m := range members {
		m.Leave(ipc.ProcDown)
	}
}

func (s *memorySource) Send(data []byte, own bool) error {
	s.all.mu.Lock()
	switch {
	case s.ended:
		s.all.mu.Unlock()
		return unix.EPIPE
	case s.all.stuck:
		s.all.mu.Unlock()
		return unix.EAGAIN
	}
	s.all.sent++
	s.all.put(s.group, ipc.Record{Kind: ipc.MessageRecord, From: s.id, Data: slices.Clone(data)})
	s.all.mu.Unlock()
	s.all.notify(s.group)
	return nil
}

func (s *memorySource) Notify(f func()) {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	s.tell = f
	s.all.all = append(s.all.all, s)
}

func (s *memorySource) Close() {}

func (m *memoryMember) ID() ipc.Process { return m.id }

func (m *memoryMember) Next(r *ipc.Record) error {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	if len(m.queue) == 0 {
		if m.ended {
			return io.EOF
		}
		return unix.EAGAIN
	}
	*r, m.queue = m.queue[0], m.queue[1:]
	return nil
}

func (m *memoryMember) Ended() bool {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	return m.ended
}

func (m *memoryMember) Leave(r ipc.Reason) {
	m.all.mu.Lock()
	tell := m.tell
	if !m.ended {
		m.ended, m.all.last = true, r
		list := m.all.groups[m.group]
		i := slices.Index(list, m)
		m.all.groups[m.group] = slices.Delete(list, i, i+1)
		m.all.conf(m.group, nil, []ipc.Change{{Process: m.id, Reason: r}})
	}
	m.all.mu.Unlock()
	m.all.notify(m.group)
	if tell != nil {
		tell()
	}
}
