package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// world is a cluster in which what is submitted is ordered at once: each ring
// has a log, and each of its nodes is given each entry before Submit returns.
type world struct {
	t  testing.TB
	mu sync.Mutex

	nodes map[uint32]*node // mu
	seq   uint64           // mu
}

// node is a daemon. Its fields are guarded by world.mu, but for g.
type node struct {
	w    *world
	nk   ring.NK
	g    *Groups
	ring *circle
	oseq uint64

	hold bool           // what it submits waits for the end of the ring
	pend []ring.Message // what waits
	full bool           // messages are refused
	sent int            // messages that were taken
	gone int            // leaves that were submitted
}

type circle struct {
	id    ring.ID
	nodes []*node
	pos   uint64
	ends  uint64 // how many sides have gone on from it
}

// sideStep parts the positions of the tails by which different sides of a
// partition end a ring: they are in one order on each side only.
const sideStep = 1 << 32

var _ Order = (*node)(nil)

func newWorld(t testing.TB, ids ...uint32) *world {
	w := &world{t: t, nodes: make(map[uint32]*node)}
	for _, id := range ids {
		w.start(id, 1)
	}
	w.install(ids...)
	return w
}

// start gives a node a daemon that knows nothing and is in no ring yet.
func (w *world) start(id uint32, boot uint64) *node {
	n := &node{w: w, nk: ring.NK{ID: id, Boot: boot}, hold: true}
	n.ring = &circle{id: ring.ID{Rep: id}, nodes: []*node{n}}
	n.g = New(Config{Self: n.nk, Order: n, Name: func(id uint32) string { return fmt.Sprintf("node%d", id) }})
	n.g.SetQuorate(true) // tests of that say otherwise
	w.mu.Lock()
	w.nodes[id] = n
	w.mu.Unlock()
	return n
}

func (w *world) g(id uint32) *Groups {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id].g
}

// Submit orders an entry in the node's ring.
func (n *node) Submit(k ring.Kind, data []byte) error {
	n.w.mu.Lock()
	isMessage := k == KindMulticast || k == KindSend
	if n.full && isMessage {
		n.w.mu.Unlock()
		return syscall.EAGAIN
	}
	switch {
	case isMessage:
		n.sent++
	case k == KindLeave:
		n.gone++
	}
	n.oseq++
	m := ring.Message{Origin: n.nk, OSeq: n.oseq, Kind: k, Data: data}
	if n.hold {
		n.pend = append(n.pend, m)
		n.w.mu.Unlock()
		return nil
	}
	c := n.ring
	n.w.deliver(c, m)
	n.w.mu.Unlock()
	for _, other := range c.nodes {
		other.g.Flush()
	}
	return nil
}

// deliver gives an entry to all nodes of a ring. The caller holds mu.
func (w *world) deliver(c *circle, msgs ...ring.Message) {
	for i := range msgs {
		c.pos++
		msgs[i].Pos = c.pos
	}
	for _, n := range c.nodes {
		n.g.Deliver(c.id, msgs)
	}
	// Large tables are compared now and then, small ones at each position.
	if t := c.nodes[0].g.table; len(t.groups) < 100 && len(t.nodes[c.nodes[0].nk]) < 100 || c.pos%64 == 0 {
		w.compare(c)
	}
}

// compare fails when nodes of a ring have not the same table.
func (w *world) compare(c *circle) {
	want := c.nodes[0].g.table.dump()
	for _, n := range c.nodes {
		if got := n.g.table.dump(); string(got) != string(want) {
			w.t.Errorf("ring %v: table of node %v differs from that of %v", c.id, n.nk, c.nodes[0].nk)
		}
	}
}

// install makes a ring of nodes. Where they come from the same ring they get
// what the members of it hold first.
func (w *world) install(ids ...uint32) {
	w.t.Helper()
	w.mu.Lock()
	w.seq++
	c := &circle{id: ring.ID{Seq: w.seq, Rep: ids[0]}}
	old := make(map[*circle][]*node)
	var order []*circle
	for _, id := range ids {
		n := w.nodes[id]
		c.nodes = append(c.nodes, n)
		if len(old[n.ring]) == 0 {
			order = append(order, n.ring)
		}
		old[n.ring] = append(old[n.ring], n)
	}
	in := ring.Install{View: ring.View{Ring: c.id}}
	for _, n := range c.nodes {
		in.View.Members = append(in.View.Members, n.nk)
	}
	tails := make(map[*circle][]ring.Message)
	for _, from := range order {
		group := old[from]
		from.ends++
		var tail []ring.Message
		for _, n := range group {
			tail = append(tail, n.pend...)
			n.pend = nil
		}
		for i := range tail {
			tail[i].Pos = from.pos + uint64(i) + 1 + from.ends*sideStep
		}
		tails[from] = tail
		for i, n := range group {
			in.States = append(in.States, ring.NodeState{Node: n.nk, From: from.id, Lead: i == 0, Data: n.g.State(tail, i == 0)})
		}
	}
	for _, from := range order {
		group := old[from]
		move := in
		move.Old = from.id
		for _, n := range group {
			move.Transitional = append(move.Transitional, n.nk)
		}
		for _, n := range group {
			n.g.Deliver(from.id, tails[from])
			// What was stated is what has come of it.
			for _, s := range in.States {
				if s.Node == n.nk && string(s.Data) != string(n.g.State(nil, s.Lead)) {
					w.t.Errorf("node %v stated something else than what it has after the tail", n.nk)
				}
			}
			n.g.Install(move)
			n.ring, n.hold = c, false
		}
	}
	w.compare(c)
	w.mu.Unlock()
	for _, n := range c.nodes {
		n.g.Flush()
	}
}

// hold has nodes keep what they submit until the next ring.
func (w *world) hold(ids ...uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		w.nodes[id].hold = true
	}
}

func (w *world) setFull(id uint32, full bool) {
	w.mu.Lock()
	n := w.nodes[id]
	n.full = full
	w.mu.Unlock()
	if !full {
		n.g.Room()
	}
}

func user(pid int, uid uint32, groups ...uint32) Caller {
	return Caller{PID: pid, UID: uid, GID: uid, Groups: groups}
}

func (w *world) join(id uint32, name string, c Caller) *Member {
	w.t.Helper()
	m, err := w.g(id).Join(context.Background(), name, c, JoinOpts{Create: true})
	if err != nil {
		w.t.Fatalf("node %d: join %s: %v", id, name, err)
	}
	return m
}

// read takes all that waits for m, as feed has it.
func read(t testing.TB, m *Member) string {
	t.Helper()
	var b []byte
	for {
		r, err := m.Next()
		switch err {
		case nil:
			b = r.AppendText(b)
		case syscall.EAGAIN:
			return string(b)
		case io.EOF:
			return string(b) + "EOF\n"
		default:
			t.Fatalf("Next: %v", err)
		}
	}
}

func expect(t testing.TB, m *Member, lines ...string) {
	t.Helper()
	want := strings.Join(lines, "\n")
	if want != "" {
		want += "\n"
	}
	if got := read(t, m); got != want {
		t.Fatalf("member %v read\n%swant\n%s", m.ID(), got, want)
	}
}

func send(t testing.TB, m *Member, text string) {
	t.Helper()
	if err := m.Send([]byte(text), false); err != nil {
		t.Fatalf("send %q: %v", text, err)
	}
}

func wantErr(t testing.TB, what string, err error, want syscall.Errno) {
	t.Helper()
	var errno syscall.Errno
	switch {
	case want == 0 && err == nil:
	case !errors.As(err, &errno) || errno != want:
		t.Fatalf("%s: got %v, want %v", what, err, want)
	}
}

func names(list []Info) []string {
	var out []string
	for _, in := range list {
		out = append(out, in.Name)
	}
	return out
}

func wantNames(t testing.TB, g *Groups, want ...string) {
	t.Helper()
	if got := names(g.List()); !slices.Equal(got, want) {
		t.Fatalf("groups are %q, want %q", got, want)
	}
}

func ptr[T any](v T) *T { return &v }

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
