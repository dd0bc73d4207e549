package check

import (
	"cmp"
	"slices"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// A Trace takes what the nodes of a cluster did. The records of one node come
// in the order in which it did them; those of different nodes in any order, but
// a node that says it has accepted a message does so before it delivers it. It
// is not safe for use by several goroutines.
type Trace struct {
	list
	nodes map[ring.NK]*node
	order []*node // by start, for loops
	last  map[uint32]lastRing
	rings map[ringKey]*ringLog
	ids   map[ring.ID]ringKey
	moves map[move]*moved
	lost  bool // a node has lost its disk: numbers of rings may come again
}

// ringKey names a ring beyond doubt: a node that lost its disk may give the
// same ID again, in another life.
type ringKey struct {
	id   ring.ID
	boot uint64 // of the coordinator
}

// ringLog is what is known about one ring.
type ringLog struct {
	key     ringKey
	members []ring.NK
	log     []place // the ordered part, as far as any node has delivered it
	after   uint64  // table behind the install
	tabled  bool
	spans   []span
	from    []claim // where its members came from
}

// place is one message of the ordered part of a log.
type place struct {
	origin ring.NK
	seq    uint64
	pos    uint64
}

// A span is what one node has delivered of one origin in one ring.
type span struct {
	node, origin ring.NK
	first, last  uint64
	count        int
}

// claim is the ring from which a member of a new one came, by the word of a
// node that installed it.
type claim struct {
	nk    ring.NK
	old   ring.ID
	by    ring.NK
	known bool
}

// lastRing is the last ring that a node was in, over its lives.
type lastRing struct {
	id    ring.ID
	first bool // it is the one that the node has started in
}

// A move is a step from one ring to the next.
type move struct {
	from ringKey
	to   ringKey
}

// moved is how the first node made a step; others must have made it alike.
type moved struct {
	by           ring.NK
	count        int
	hash         uint64
	transitional []ring.NK
	before       uint64
}

// node is one life of a node.
type node struct {
	nk       ring.NK
	stopped  bool
	ring     *ringLog // nil before the first install
	cur      []*seen  // by index of ring.members
	origins  map[ring.NK]*seen
	next     int // in ring.log
	count    int // of deliveries in this ring
	hash     uint64
	tail     bool
	pos      uint64
	accepted []uint64 // sums
	own      int      // how many of them are delivered here

	msgs []message // of this node as an origin: those that anybody has delivered, by seq
}

// message is a message of an origin, as it was first delivered anywhere.
type message struct {
	seq     uint64
	sum     uint64
	pos     uint64 // 0: only as a part of a tail so far
	ring    *ringLog
	deliver ring.NK // who delivered it first
}

// seen is what a node has had of one origin.
type seen struct {
	origin *node
	seqs   []uint64
	at     int // index in origin.msgs of the last one, if nothing came between since
	first  uint64
	count  int // in the current ring
}

// New gives an empty trace.
func New() *Trace {
	return &Trace{
		nodes: make(map[ring.NK]*node),
		last:  make(map[uint32]lastRing),
		rings: make(map[ringKey]*ringLog),
		ids:   make(map[ring.ID]ringKey),
		moves: make(map[move]*moved),
	}
}

// Violations gives those that were found so far; only Settle and Finish find
// the ones that need the whole trace.
func (t *Trace) Violations() []Violation { return t.vs }

// Start tells that a node begins a life. lost: without what an earlier one had
// on its disk.
func (t *Trace) Start(n ring.NK, lost bool) {
	if old := t.nodes[n]; old != nil && len(old.origins) > 0 {
		t.add("I1", n.String(), "two lives with one boot")
	}
	t.node(n)
	if lost {
		delete(t.last, n.ID)
		t.lost = true
	}
}

// node gives what is known about a life, which may be heard of as an origin
// before it is told of itself.
func (t *Trace) node(n ring.NK) *node {
	x := t.nodes[n]
	if x == nil {
		x = &node{nk: n, origins: make(map[ring.NK]*seen)}
		t.nodes[n] = x
		t.order = append(t.order, x)
	}
	return x
}

// Stop tells that a node's life has ended.
func (t *Trace) Stop(n ring.NK) {
	x := t.node(n)
	t.leave(x)
	x.stopped = true
}

// Accept tells that n has taken a message of its application, with that hash.
func (t *Trace) Accept(n ring.NK, sum uint64) {
	x := t.node(n)
	x.accepted = append(x.accepted, sum)
}

// leave closes the spans of the ring in which x is.
func (t *Trace) leave(x *node) {
	if x.ring == nil {
		return
	}
	for _, s := range x.cur {
		if s != nil && s.count > 0 {
			x.ring.spans = append(x.ring.spans, span{x.nk, s.origin.nk, s.first, s.seqs[len(s.seqs)-1], s.count})
			s.count = 0
		}
	}
}

// Finish gives all violations, with those that only a whole trace shows.
func (t *Trace) Finish() []Violation {
	for _, x := range t.order {
		if !x.stopped {
			t.leave(x)
		}
		t.created(x)
	}
	keys := make([]ringKey, 0, len(t.rings))
	for k := range t.rings {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b ringKey) int {
		return cmp.Or(cmp.Compare(a.id.Seq, b.id.Seq), cmp.Compare(a.id.Rep, b.id.Rep), cmp.Compare(a.boot, b.boot))
	})
	for _, k := range keys {
		for _, s := range t.rings[k].spans {
			t.whole(t.rings[k], s)
		}
	}
	return t.vs
}

// created holds the other half of I6: what anybody has delivered of x is what x
// has accepted, from the first on and without holes.
func (t *Trace) created(x *node) {
	for i, m := range x.msgs {
		switch {
		case i >= len(x.accepted):
			t.add("I6", m.deliver.String(), "message %d of %v was never accepted: there are %d", m.seq, x.nk, len(x.accepted))
			return
		case x.accepted[i] != m.sum:
			t.add("I6", m.deliver.String(), "message %d of %v, the %d. that was delivered, is not what was accepted: lost, changed or in wrong order", m.seq, x.nk, i+1)
			return
		}
	}
}

// whole tells whether a node has delivered of an origin, in one ring, what the
// origin sent in it from the first on without holes.
func (t *Trace) whole(r *ringLog, s span) {
	msgs := t.node(s.origin).msgs
	i, ok := find(msgs, s.first)
	j, ok2 := find(msgs, s.last)
	if !ok || !ok2 {
		return // broken before, and told
	}
	if j-i+1 != s.count {
		t.add("I6", s.node.String(), "holes in what %v sent in ring %v: %d messages from %d to %d, of %d", s.origin, r.key.id, s.count, s.first, s.last, j-i+1)
	}
	if i > 0 && msgs[i-1].ring == r {
		t.add("I6", s.node.String(), "message %d of %v in ring %v is missing before %d", msgs[i-1].seq, s.origin, r.key.id, s.first)
	}
}

func find(msgs []message, seq uint64) (int, bool) {
	return slices.BinarySearchFunc(msgs, seq, func(m message, seq uint64) int { return cmp.Compare(m.seq, seq) })
}
