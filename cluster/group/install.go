package group

import (
	"maps"
	"slices"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// Install takes in a new ring.
func (g *Groups) Install(in ring.Install) {
	old, next := g.table, merge(in.States)
	var had []*group // groups with members here
	for _, name := range slices.Sorted(maps.Keys(old.groups)) {
		gr := old.groups[name]
		if gr.feed == nil {
			continue
		}
		had = append(had, gr)
		if n := next.groups[name]; n != nil {
			n.feed = gr.feed
			n.feed.need.Store(n.need)
		}
	}
	g.mu.Lock()
	g.table = next
	g.mu.Unlock()

	g.view = Record{Kind: Ring, Ring: in.View.Ring}
	for _, m := range in.View.Members {
		g.view.Nodes = append(g.view.Nodes, m.ID)
	}
	slices.Sort(g.view.Nodes)

	for _, gr := range had {
		g.moved(gr, next.groups[gr.name], in)
	}
	for _, gr := range had {
		rec := g.view
		gr.feed.push(&rec)
	}
	g.disown(next)
	g.checkUsers()
}

// moved tells the members of a group what the new ring has made of it: now is
// the group in it, nil if there is none.
func (g *Groups) moved(was, now *group, in ring.Install) {
	stays := func(p *proc) bool { return slices.Contains(in.Transitional, p.node) }
	down := slices.Collect(filter(was.members, func(p *proc) bool { return !stays(p) }))
	rest := slices.Collect(filter(was.members, stays))

	inNext := make(map[procKey]bool)
	inRest := make(map[procKey]bool)
	for _, p := range rest {
		inRest[p.key()] = true
	}
	var up []*proc
	if now != nil {
		for _, p := range now.members {
			inNext[p.key()] = true
			if !inRest[p.key()] {
				up = append(up, p)
			}
		}
	}
	out := slices.Collect(filter(rest, func(p *proc) bool { return !inNext[p.key()] }))
	stay := slices.Collect(filter(rest, func(p *proc) bool { return inNext[p.key()] }))

	conf := func(members []*proc, joined, left []Changed) {
		if len(joined)+len(left) > 0 && was.feed.live.Load() > 0 {
			was.feed.push(&Record{Kind: Conf, Members: processes(members), Joined: joined, Left: left, Ring: in.View.Ring})
		}
	}
	conf(rest, nil, changes(down, NodeDown))
	conf(stay, nil, changes(out, ProcDown))
	f := was.feed
	g.letGo(was, slices.Concat(down, out))
	was.feed = f // its last members still read; the ring record is for those who stay
	if now != nil {
		conf(now.members, changes(up, NodeUp), nil)
		if !g.hasLocals(now) {
			now.feed = nil
		}
	}
}

// disown orders the leave of processes that are said to be of this node and are
// not: no correct node says so, but they would be members for ever.
func (g *Groups) disown(t *table) {
	for _, inc := range slices.Sorted(maps.Keys(t.nodes[g.conf.Self])) {
		if g.local(inc) == nil {
			g.wmu.Lock()
			g.leaves = append(g.leaves, leaveNote{inc, ProcDown})
			g.wmu.Unlock()
		}
	}
}

// procKey is a process over the change of a ring.
type procKey struct {
	node ring.NK
	inc  uint32
}

func (p *proc) key() procKey { return procKey{p.node, p.inc} }

func filter(procs []*proc, keep func(*proc) bool) func(yield func(*proc) bool) {
	return func(yield func(*proc) bool) {
		for _, p := range procs {
			if keep(p) && !yield(p) {
				return
			}
		}
	}
}
