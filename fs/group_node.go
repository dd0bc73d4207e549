package fs

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/cluster/watch"
	"github.com/convoke-fs/convoke/fs/kernel"
)

var (
	_ folder  = (*groupDir)(nil)
	_ passing = (*groupDir)(nil)
	_ owned   = (*groupDir)(nil)
	_ opener  = (*groupMembers)(nil)
)

// groupFile is what all files of a group and its folder have in common. Owner and mode are those of the group as it is at
// this node's place in the order, so the kernel remembers them for no time.
type groupFile struct {
	t    *Tree
	name string // of the group, which may be any bytes
	file group.File
	kind uint32 // S_IFREG or S_IFDIR
}

// stat of a group that has gone is nobody's: it is asked for by who has a file of it open still.
func (f *groupFile) stat() stat {
	st := stat{mode: f.kind, uid: f.t.uid, gid: f.t.gid}
	if g, ok := f.t.opts.Groups.Attrs(f.name); ok {
		st.mode |= g.Modes[f.file] & 0777
		st.uid, st.gid, st.changed = g.UID, g.GID, time.UnixMilli(g.Created)
	}
	return st
}

func (f *groupFile) ordered() {}

// chattr is chmod(2) of the file and chown(2) of the group.
func (f *groupFile) chattr(ctx context.Context, c caller, in *fuse.SetAttrIn) syscall.Errno {
	ch := group.Change{File: f.file}
	if mode, ok := in.GetMode(); ok {
		mode &= 0777
		ch.Mode = &mode
	}
	if uid, ok := in.GetUID(); ok {
		ch.UID = &uid
	}
	if gid, ok := in.GetGID(); ok {
		ch.GID = &gid
	}
	if ch == (group.Change{File: f.file}) {
		return 0 // only times
	}
	who, err := f.t.groupCaller(c)
	if err == nil {
		err = inOrder(ctx, func(ctx context.Context) error { return f.t.opts.Groups.Change(ctx, f.name, who, ch) })
	}
	if err != nil {
		f.t.log.refused(c, "change "+f.path(), err)
	}
	return errno(err)
}

// groupFiles are the names of a group's files.
var groupFiles = [...]string{group.Feed: "/feed", group.Send: "/send", group.Members: "/members", group.Ctl: "/ctl", group.Folder: ""}

// path names the file for the log.
func (f *groupFile) path() string { return groupPath(f.name) + groupFiles[f.file] }

func groupPath(name string) string { return groupsPath + "/" + group.EscapeName(name) }

const groupsPath = "cluster/groups"

// groupDir is cluster/groups/NAME: it is there as long as the group.
type groupDir struct {
	groupFile
	table []row
}

func newGroupDir(t *Tree, name string) *groupDir {
	file := func(f group.File) groupFile { return groupFile{t, name, f, syscall.S_IFREG} }
	return &groupDir{groupFile{t, name, group.Folder, syscall.S_IFDIR}, []row{
		{name: "feed", node: &feedNode{file(group.Feed), false}},
		{name: "packets", node: &feedNode{file(group.Feed), true}},
		{name: "send", node: &sendNode{file(group.Send)}},
		{name: "members", node: &groupMembers{file(group.Members)}},
		{name: "ctl", node: &groupCtl{file(group.Ctl)}},
	}}
}

func (d *groupDir) passing() {}

func (d *groupDir) child(name string) (node, bool) {
	for _, r := range d.table {
		if r.name == name {
			return r.node, true
		}
	}
	return nil, false
}

func (d *groupDir) list(uint32) []entry {
	var es []entry
	for _, r := range d.table {
		es = append(es, entry{r.name, syscall.S_IFREG})
	}
	return es
}

// groupMembers is cluster/groups/NAME/members.
type groupMembers struct{ groupFile }

func (n *groupMembers) mayWait() bool { return false }

func (n *groupMembers) open(ctx context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno) {
	return newState(0, 0, 0, n.text).open(ctx, c, flags)
}

func (n *groupMembers) text() string {
	g, _ := n.t.opts.Groups.Group(n.name) // one that has gone since the look-up has no members
	var b strings.Builder
	for _, m := range g.Members {
		node := "-"
		if m.NodeName != "" {
			node = watch.Escape(m.NodeName)
		}
		fmt.Fprintf(&b, "%d %s %s %s\n", m.Node, pidN(m.Process), node, time.UnixMilli(m.Joined).UTC().Format(memberTime))
	}
	return b.String()
}

// memberTime is RFC 3339 in UTC, with milliseconds always.
const memberTime = "2006-01-02T15:04:05.000Z"

// pidN writes a member's process, and which of its memberships it is where it is not the first one.
func pidN(p group.Process) string {
	s := strconv.FormatUint(uint64(p.PID), 10)
	if p.N != 1 {
		s += "." + strconv.FormatUint(uint64(p.N), 10)
	}
	return s
}

// parseProcess reads NODEID:PID.N, as members stand in a feed, or NODEID:PID, which means all memberships of the process.
func parseProcess(s string) (group.Process, bool) {
	node, rest, ok := strings.Cut(s, ":")
	pid, n, more := strings.Cut(rest, ".")
	var p group.Process
	ok = ok && parseNumber(node, &p.Node) && parseNumber(pid, &p.PID) && (!more || parseNumber(n, &p.N))
	return p, ok
}

// parseNumber takes a number from 1 on, in the one form in which it is written.
func parseNumber(s string, to *uint32) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	*to = uint32(n)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}
