package group

import (
	"slices"
	"strings"
)

// Info is a group as this node sees it now.
type Info struct {
	Name     string // any bytes
	Need     bool   // a quorum is needed to join and to send
	Kept     bool   // made by Mkdir, so it stays without members
	UID, GID uint32
	Modes    [5]uint32 // by File
	Members  []MemberInfo
	Created  int64 // milliseconds since 1970
}

// MemberInfo is one line of the file members.
type MemberInfo struct {
	Process
	NodeName string
	UID      uint32
	Joined   int64 // milliseconds since 1970, by the clock of the member's node
}

func (gr *group) info() Info {
	return Info{Name: gr.name, Kept: gr.kept, Need: gr.need, UID: gr.uid, GID: gr.gid, Modes: gr.modes, Created: gr.created}
}

// Group gives one group. It answers from memory.
func (g *Groups) Group(name string) (Info, bool) {
	g.mu.RLock()
	gr := g.table.groups[name]
	if gr == nil {
		g.mu.RUnlock()
		return Info{}, false
	}
	in := gr.info()
	in.Members = make([]MemberInfo, len(gr.members))
	for i, p := range gr.members {
		in.Members[i] = MemberInfo{Process: p.process(), UID: p.cred.uid, Joined: p.joined}
	}
	g.mu.RUnlock()
	if g.conf.Name != nil {
		for i := range in.Members {
			in.Members[i].NodeName = g.conf.Name(in.Members[i].Node)
		}
	}
	return in, true
}

// Attrs is Group without the members.
func (g *Groups) Attrs(name string) (Info, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	gr := g.table.groups[name]
	if gr == nil {
		return Info{}, false
	}
	return gr.info(), true
}

// List gives all groups, sorted by name, without their members. It answers from
// memory.
func (g *Groups) List() []Info {
	g.mu.RLock()
	out := make([]Info, 0, len(g.table.groups))
	for _, gr := range g.table.groups {
		out = append(out, gr.info())
	}
	g.mu.RUnlock()
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Stats are numbers for the operator.
type Stats struct {
	Groups    int
	Processes int    // members of all groups, on all nodes
	Local     int    // of this node, those on their way in or out included
	Queued    int64  // bytes that wait for members of this node
	PutOut    uint64 // members of this node that were put out since the start
}

// Stats gives the numbers as they are now.
func (g *Groups) Stats() Stats {
	s := Stats{Queued: g.queued.Load(), PutOut: g.putOut.Load()}
	g.mu.RLock()
	s.Groups = len(g.table.groups)
	for _, procs := range g.table.nodes {
		s.Processes += len(procs)
	}
	g.mu.RUnlock()
	g.lmu.Lock()
	s.Local = len(g.locals)
	g.lmu.Unlock()
	return s
}
