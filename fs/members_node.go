package fs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/convoke-fs/convoke/cluster"
	"github.com/convoke-fs/convoke/cluster/watch"
)

var (
	_ folder = (*membersDir)(nil)
	_ folder = (*memberDir)(nil)
)

type member = cluster.Member

// membersDir is cluster/members: one folder a member.
type membersDir struct {
	base
	t *Tree
}

func (d *membersDir) child(name string) (node, bool) {
	if _, ok := d.t.member(name); !ok {
		return nil, false
	}
	return newMemberDir(d.t, name), true
}

func (d *membersDir) list(uint32) []entry {
	var es []entry
	for _, m := range d.t.opts.Cluster.Members() {
		es = append(es, entry{m.Name, syscall.S_IFDIR})
	}
	return es
}

func (t *Tree) member(name string) (member, bool) {
	ms := t.opts.Cluster.Members()
	i := slices.IndexFunc(ms, func(m member) bool { return m.Name == name })
	if i < 0 {
		return member{}, false
	}
	return ms[i], true
}

// memberDir is cluster/members/NODE.
type memberDir struct{ *dir }

func newMemberDir(t *Tree, name string) *memberDir {
	line := func(f func(member) string) node {
		return newState(0444, t.uid, t.gid, func() string {
			m, ok := t.member(name)
			if !ok {
				return "" // removed since the look-up
			}
			return f(m) + "\n"
		})
	}
	return &memberDir{newDir(t.uid, t.gid,
		row{name: "id", node: line(func(m member) string { return strconv.FormatUint(uint64(m.ID), 10) })},
		row{name: "addr", node: line(func(m member) string { return m.Addr.String() })},
		row{name: "state", node: line(func(m member) string { return m.State.String() })},
		row{name: "role", node: line(role)},
		row{name: "boot", node: line(func(m member) string { return strconv.FormatUint(m.Boot, 10) })},
		row{name: "version", node: line(func(m member) string { return watch.Escape(m.Version) })},
		row{name: "tags", node: newState(0444, t.uid, t.gid, func() string {
			m, _ := t.member(name)
			return tags(m, "\n")
		})},
	)}
}

// stat differs from base's in that a member may be removed.
func (d *memberDir) stat() stat {
	st := d.dir.stat()
	st.nameTTL = 0
	return st
}

// role tells whether a member is in the ring.
func role(m member) string {
	if m.In {
		return "in"
	}
	return "out"
}

// tags writes key=value, by key, with end behind each.
func tags(m member, end string) string {
	var keys []string
	for k := range m.Tags {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(watch.Escape(k) + "=" + watch.Escape(m.Tags[k]) + end)
	}
	return b.String()
}

// statusText is cluster/status: all members for people, in columns, with a header.
func (t *Tree) statusText() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tADDR\tSTATE\tROLE\tBOOT\tTAGS")
	for _, m := range t.opts.Cluster.Members() {
		tg := strings.TrimSuffix(tags(m, ","), ",")
		if tg == "" {
			tg = "-"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d\t%s\n", m.ID, m.Name, m.Addr, m.State, role(m), m.Boot, tg)
	}
	w.Flush()
	return b.String()
}
