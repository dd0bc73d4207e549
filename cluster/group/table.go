package group

import (
	"cmp"
	"slices"
	"syscall"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// maxEmpty is how many kept groups without members a user may have, root
// excepted.
const maxEmpty = 64

// table is the fold of the log. It does not know which node it is on.
type table struct {
	groups map[string]*group
	nodes  map[ring.NK]map[uint32]*proc // by incarnation
	empty  map[uint32]int               // by owner: kept groups without members

	last      ring.NK          // the node that was looked up last
	lastProcs map[uint32]*proc // of it
}

// group is one group. Its name and what it was made by never change.
type group struct {
	name string
	attrs
	members []*proc // sorted by compareProcs

	// feed is what members on this node read, nil if there are none. It is the
	// engine's, like all that Deliver uses, and no part of the fold.
	feed *feed
}

// proc is one membership of a process. It never changes.
type proc struct {
	node   ring.NK
	inc    uint32
	pid    uint32
	n      uint32
	cred   cred
	joined int64
	group  *group
}

func (p *proc) process() Process { return Process{Node: p.node.ID, PID: p.pid, N: p.n} }

func compareProcs(a, b *proc) int {
	return cmp.Or(cmp.Compare(a.node.ID, b.node.ID), cmp.Compare(a.pid, b.pid),
		cmp.Compare(a.n, b.n), cmp.Compare(a.node.Boot, b.node.Boot), cmp.Compare(a.inc, b.inc))
}

func newTable() *table {
	return &table{
		groups: make(map[string]*group),
		nodes:  make(map[ring.NK]map[uint32]*proc),
		empty:  make(map[uint32]int),
	}
}

// proc gives the process of a node, or nil. It is not for several goroutines.
func (t *table) proc(node ring.NK, inc uint32) *proc {
	if node != t.last || t.lastProcs == nil {
		t.last, t.lastProcs = node, t.nodes[node]
	}
	return t.lastProcs[inc]
}

// An effect is what an entry did to the table.
type effect struct {
	id     uint32        // incarnation of a join or leave; number of another call
	err    syscall.Errno // what the caller is told, 0: done
	group  *group        // whose members have changed, if they have
	joined *proc
	left   []*proc
	reason Reason // of left
}

// apply takes an entry in. False tells that it is none and did nothing.
func (t *table) apply(origin ring.NK, k ring.Kind, data []byte) (effect, bool) {
	o, ok := decodeOp(k, data)
	if !ok {
		return effect{}, false
	}
	e := effect{id: o.id}
	switch k {
	case KindJoin:
		e.joined, e.err = t.join(origin, &o)
		if e.joined != nil {
			e.group = e.joined.group
		}
	case KindLeave:
		p := t.proc(origin, o.id)
		if p == nil {
			e.err = syscall.ESRCH
			break
		}
		t.leave(p)
		e.group, e.left, e.reason = p.group, []*proc{p}, o.reason
	case KindGroup:
		t.call(origin, &o, &e)
	}
	return e, true
}

func (t *table) join(origin ring.NK, o *op) (*proc, syscall.Errno) {
	if t.proc(origin, o.id) != nil {
		return nil, syscall.EEXIST
	}
	g := t.groups[string(o.name)]
	switch {
	case g != nil:
		if !g.allows(o.cred, Feed, mayRead|mayWrite) {
			return nil, syscall.EACCES
		}
	case !o.create:
		return nil, syscall.ENOENT
	default:
		g = &group{name: string(o.name), attrs: attrs{
			uid: o.cred.uid, gid: o.cred.gid, modes: closedModes,
			created: o.when, maker: origin.ID,
		}}
		t.groups[g.name] = g
	}
	p := &proc{node: origin, inc: o.id, pid: o.pid, cred: o.cred, joined: o.when, group: g}
	p.cred.groups = slices.Clone(o.cred.groups)
	p.n = g.freeN(origin.ID, o.pid)
	t.insert(p)
	return p, 0
}

// freeN gives the least number that no membership of the process has.
func (g *group) freeN(node, pid uint32) uint32 {
	i, _ := slices.BinarySearchFunc(g.members, proc{node: ring.NK{ID: node}, pid: pid},
		func(p *proc, at proc) int { return compareProcs(p, &at) })
	n := uint32(1)
	for ; i < len(g.members); i++ {
		if p := g.members[i]; p.node.ID != node || p.pid != pid || p.n > n {
			break
		} else if p.n == n {
			n++
		}
	}
	return n
}

// insert makes p a member of its group, which is in the table.
func (t *table) insert(p *proc) {
	t.count(p.group, -1)
	defer t.count(p.group, +1)
	i, _ := slices.BinarySearchFunc(p.group.members, p, compareProcs)
	p.group.members = slices.Insert(p.group.members, i, p)
	if t.nodes[p.node] == nil {
		t.nodes[p.node] = make(map[uint32]*proc)
		t.lastProcs = nil
	}
	t.nodes[p.node][p.inc] = p
}

// leave takes p out, and its group when nothing keeps it.
func (t *table) leave(p *proc) {
	g := p.group
	t.count(g, -1)
	defer t.count(g, +1)
	if i, ok := slices.BinarySearchFunc(g.members, p, compareProcs); ok {
		g.members = slices.Delete(g.members, i, i+1)
	}
	procs := t.nodes[p.node]
	if delete(procs, p.inc); len(procs) == 0 {
		delete(t.nodes, p.node)
		t.lastProcs = nil
	}
	if len(g.members) == 0 && !g.kept {
		delete(t.groups, g.name)
	}
}

// count adds by to the kept groups without members of g's owner, if g is one.
// Whoever changes what that depends on counts g out before and in after.
func (t *table) count(g *group, by int) {
	if !g.kept || len(g.members) > 0 {
		return
	}
	if t.empty[g.uid] += by; t.empty[g.uid] == 0 {
		delete(t.empty, g.uid)
	}
}

// clone gives a table of its own with the same content.
func (t *table) clone() *table {
	c := newTable()
	for name, g := range t.groups {
		c.groups[name] = &group{name: name, attrs: g.attrs, members: make([]*proc, 0, len(g.members))}
		for _, p := range g.members {
			q := *p
			q.group = c.groups[name]
			q.group.members = append(q.group.members, &q)
			if c.nodes[q.node] == nil {
				c.nodes[q.node] = make(map[uint32]*proc)
			}
			c.nodes[q.node][q.inc] = &q
		}
		c.count(c.groups[name], +1)
	}
	return c
}
