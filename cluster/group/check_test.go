package group

import (
	"fmt"
	"maps"
	"slices"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// check tells what is wrong with a table in itself.
func (t *table) check() error {
	procs, empty := 0, make(map[uint32]int)
	for name, g := range t.groups {
		switch {
		case g.name != name:
			return fmt.Errorf("group %q stands under %q", g.name, name)
		case len(g.members) == 0 && !g.kept:
			return fmt.Errorf("group %q is empty and not kept", name)
		case len(g.members) == 0:
			empty[g.uid]++
		case !slices.IsSortedFunc(g.members, compareProcs):
			return fmt.Errorf("group %q is not sorted", name)
		}
		for _, p := range g.members {
			if p.group != g || t.nodes[p.node][p.inc] != p {
				return fmt.Errorf("group %q: member %v/%d is not among the processes of its node", name, p.node, p.inc)
			}
		}
		procs += len(g.members)
	}
	for node, of := range t.nodes {
		if len(of) == 0 {
			return fmt.Errorf("node %v has an empty map", node)
		}
		procs -= len(of)
	}
	switch {
	case procs != 0:
		return fmt.Errorf("members minus processes are %d, want 0", procs)
	case !maps.Equal(empty, t.empty):
		return fmt.Errorf("empty groups are counted as %v, want %v", t.empty, empty)
	}
	return nil
}

var (
	nk1 = ring.NK{ID: 1, Boot: 1}
	nk2 = ring.NK{ID: 2, Boot: 1}
	nk3 = ring.NK{ID: 3, Boot: 1}
)

// credFor is a user whose gid is his uid.
func credFor(uid uint32, groups ...uint32) cred {
	return credOf(user(0, uid, groups...), maxJoinGroups, 0)
}
