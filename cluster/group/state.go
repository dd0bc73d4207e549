package group

import (
	"cmp"
	"maps"
	"slices"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// A node's statement, little-endian. Later versions append, to each record and
// to the whole; what follows the known fields is skipped.
//
//	processes u32, groups u32
//	process   length u16, inc u32, pid u32, N u32, joined i64, cred, name
//	group     length u16, flags u8 (1: kept, 2: needs a quorum), uid u32, gid u32, modes 5 u32,
//	          created i64, maker u32, changed i64, changer u32, name

// appendState states the processes of node and, if lead, all groups, those too
// that have members only: who the members are is stated by others, but not
// whose the group is.
func (t *table) appendState(b []byte, node ring.NK, lead bool) []byte {
	procs := slices.SortedFunc(maps.Values(t.nodes[node]), func(a, b *proc) int { return cmp.Compare(a.inc, b.inc) })
	var groups []string
	if lead {
		groups = slices.Sorted(maps.Keys(t.groups))
	}
	b = le.AppendUint32(b, uint32(len(procs)))
	b = le.AppendUint32(b, uint32(len(groups)))
	for _, p := range procs {
		b = appendSized(b, func(b []byte) []byte { return p.append(b) })
	}
	for _, name := range groups {
		b = appendSized(b, func(b []byte) []byte { return t.groups[name].append(b) })
	}
	return b
}

func appendSized(b []byte, f func([]byte) []byte) []byte {
	n := len(b)
	b = f(append(b, 0, 0))
	le.PutUint16(b[n:], uint16(len(b)-n-2))
	return b
}

func (p *proc) append(b []byte) []byte {
	b = le.AppendUint32(le.AppendUint32(b, p.inc), p.pid)
	b = le.AppendUint64(le.AppendUint32(b, p.n), uint64(p.joined))
	return appendName(appendCred(b, p.cred), []byte(p.group.name))
}

func (g *group) append(b []byte) []byte {
	b = le.AppendUint32(append(b, g.flags()), g.uid)
	b = le.AppendUint32(b, g.gid)
	for _, m := range g.modes {
		b = le.AppendUint32(b, m)
	}
	b = le.AppendUint32(le.AppendUint64(b, uint64(g.created)), g.maker)
	b = le.AppendUint32(le.AppendUint64(b, uint64(g.changed)), g.changer)
	return appendName(b, []byte(g.name))
}

const (
	flagKept = 1 << iota
	flagNeed
)

func (a *attrs) flags() (f byte) {
	if a.kept {
		f |= flagKept
	}
	if a.need {
		f |= flagNeed
	}
	return f
}

// statement is a decoded state. The group of its processes has a name only.
type statement struct {
	procs  []*proc
	groups []*group
}

// decodeState takes a statement apart. One that is broken states nothing: all
// nodes must make the same of it.
func decodeState(data []byte) (s statement, ok bool) {
	d := decoder{b: data}
	procs, groups := d.u32(), d.u32()
	names := make(map[string]*group) // so that processes share the name
	for range procs {
		r := decoder{b: d.take(int(d.u16()))}
		p := &proc{inc: r.u32(), pid: r.u32(), n: r.u32(), joined: int64(r.u64()), cred: r.cred()}
		p.cred.groups = slices.Clone(p.cred.groups)
		name := r.name()
		if d.bad || r.bad {
			return statement{}, false
		}
		if p.group = names[string(name)]; p.group == nil {
			p.group = &group{name: string(name)}
			names[p.group.name] = p.group
		}
		s.procs = append(s.procs, p)
	}
	for range groups {
		r := decoder{b: d.take(int(d.u16()))}
		flags := r.u8()
		g := &group{attrs: attrs{kept: flags&flagKept != 0, need: flags&flagNeed != 0, uid: r.u32(), gid: r.u32()}}
		for i := range g.modes {
			g.modes[i] = r.u32() & modeMask
		}
		g.created, g.maker = int64(r.u64()), r.u32()
		g.changed, g.changer = int64(r.u64()), r.u32()
		g.name = string(r.name())
		if d.bad || r.bad {
			return statement{}, false
		}
		s.groups = append(s.groups, g)
	}
	return s, !d.bad
}
