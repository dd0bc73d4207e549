package fs

import (
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/cluster/ring"
)

// oneNode is the order of a cluster of one: what is submitted is delivered at once, but for what a test holds back.
type oneNode struct {
	g *group.Groups

	mu   sync.Mutex
	pos  uint64         // guarded by mu
	full bool           // guarded by mu: there is no room for messages
	hold bool           // guarded by mu: what is no message has to wait
	held []ring.Message // guarded by mu
	sent int            // guarded by mu: messages that were delivered
}

var self = ring.NK{ID: 1, Boot: 3}

// newGroups returns groups of a node that is alone.
func newGroups() (*oneNode, *group.Groups) {
	o := &oneNode{}
	o.g = group.New(group.Config{Self: self, Order: o, Name: func(id uint32) string { return map[uint32]string{1: "web1"}[id] }})
	o.g.Install(ring.Install{
		View:         ring.View{Ring: ring.ID{Seq: 12, Rep: 1}, Members: []ring.NK{self}},
		Transitional: []ring.NK{self},
		States:       []ring.NodeState{{Node: self, Lead: true, Data: o.g.State(nil, true)}},
	})
	return o, o.g
}

func (o *oneNode) Submit(k ring.Kind, data []byte) error {
	message := k == group.KindMulticast || k == group.KindSend
	o.mu.Lock()
	switch {
	case message && o.full:
		o.mu.Unlock()
		return syscall.EAGAIN
	case message:
		o.sent++
	}
	m := ring.Message{Origin: self, Kind: k, Data: data}
	if !message && o.hold {
		o.held = append(o.held, m)
	} else {
		o.deliver(m)
	}
	o.mu.Unlock()
	o.g.Flush()
	return nil
}

// deliver gives m the next place; mu is held.
func (o *oneNode) deliver(m ring.Message) {
	o.pos++
	m.OSeq, m.Pos = o.pos, o.pos
	o.g.Deliver(ring.ID{Seq: 12, Rep: 1}, []ring.Message{m})
}

// setFull takes the room for messages away, or gives it back.
func (o *oneNode) setFull(full bool) {
	o.mu.Lock()
	o.full = full
	o.mu.Unlock()
	if !full {
		o.g.Room()
	}
}

// setHold keeps joins and the like from getting their place, or gives it to them.
func (o *oneNode) setHold(hold bool) {
	o.mu.Lock()
	o.hold = hold
	if !hold {
		for _, m := range o.held {
			o.deliver(m)
		}
		o.held = nil
	}
	o.mu.Unlock()
	o.g.Flush()
}

// waiting is how much is held back.
func (o *oneNode) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.held)
}

// delivered is how many messages were.
func (o *oneNode) delivered() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent
}

// mountGroups mounts a tree with process groups.
func mountGroups(t *testing.T, change ...func(*Opts)) (*mounted, *oneNode) {
	t.Helper()
	o, g := newGroups()
	m := mountTree(t, append(change, func(o *Opts) {
		o.Groups = g
		o.Quorum = func() string { return "quorate=yes votes=1 expected=1 ring=12.1 age=0.0" }
	})...)
	return m, o
}

// shells are those in which sessions are tried.
var shells = map[string][]string{"dash": {"dash"}, "bash": {"bash"}, "busybox": {"busybox", "sh"}}

// inShells runs a test in each shell, with a function that runs a script there as want does.
func inShells(t *testing.T, f func(t *testing.T, m *mounted, o *oneNode, want func(script, out string))) {
	for name, argv := range shells {
		t.Run(name, func(t *testing.T) {
			needTool(t, argv[0])
			m, o := mountGroups(t)
			f(t, m, o, func(script, out string) {
				t.Helper()
				if r := m.run(func(c *exec.Cmd) {}, append(argv[:len(argv):len(argv)], "-c", script)...); r.out != out || r.code != 0 {
					t.Errorf("%s\ngot  %q (status %d, stderr %q)\nwant %q", script, r.out, r.code, r.err, out)
				}
			})
		})
	}
}
