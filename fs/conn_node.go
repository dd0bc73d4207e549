package fs

import (
	"context"
	"strconv"
	"syscall"

	"github.com/convoke-fs/convoke/fs/kernel"
)

var (
	_ folder    = (*connsDir)(nil)
	_ folder    = (*connDir)(nil)
	_ passing   = (*connDir)(nil)
	_ freshNode = (*dataNode)(nil)
)

// connsDir is conn/: one folder for each open connection of the caller.
type connsDir struct {
	base
	t *Tree
}

func (d *connsDir) child(name string) (node, bool) {
	id, err := strconv.ParseUint(name, 10, 64)
	if err != nil || strconv.FormatUint(id, 10) != name {
		return nil, false
	}
	c, ok := d.t.conns.get(id)
	if !ok {
		return nil, false
	}
	return newConnDir(c), true
}

func (d *connsDir) list(uid uint32) []entry {
	var es []entry
	for _, c := range d.t.conns.of(uid) {
		es = append(es, entry{strconv.FormatUint(c.id, 10), syscall.S_IFDIR})
	}
	return es
}

// connDir is conn/ID: it is there as long as the connection.
type connDir struct{ dir }

func newConnDir(c *conn) *connDir {
	text := func(f func() string) node { return newState(0400, c.uid, c.gid, f) }
	line := func(s string) func() string { return func() string { return s + "\n" } }
	return &connDir{dir{base{syscall.S_IFDIR | 0500, c.uid, c.gid}, []row{
		{name: "data", node: &dataNode{base{syscall.S_IFREG | 0600, c.uid, c.gid}, c}},
		{name: "ctl", node: newCtl(c.tree, 0200, c.uid, c.gid, "conn/"+strconv.FormatUint(c.id, 10)+"/ctl", verbs{
			"shutdown": {run: func(context.Context, []string) error { c.ep.CloseWrite(); return nil }},
			"hangup":   {run: func(context.Context, []string) error { c.ep.Hangup(); return nil }},
		})},
		{name: "local", node: text(line(c.local))},
		{name: "remote", node: text(line(c.remote))},
		{name: "peer", node: text(c.peer)},
		{name: "status", node: text(c.status)},
	}}}
}

func (d *connDir) passing() {}

// stat differs from base's in that the folder goes with the connection.
func (d *connDir) stat() stat {
	st := d.base.stat()
	st.nameTTL = 0
	return st
}

// dataNode is conn/ID/data. Each open has a number of its own, since `cat <data >data` refuses two equal ones.
type dataNode struct {
	base
	c *conn
}

func (n *dataNode) stat() stat {
	st := n.base.stat()
	st.nameTTL = 0
	return st
}

func (n *dataNode) mayWait() bool { return false }

func (n *dataNode) open(ctx context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno) {
	n.c.tree.inodes.opened(ctx.Value(inodeKey{}).(*inode), n.c)
	return n.c.openAgain(c, flags)
}

func (n *dataNode) join(c caller, _ any, flags uint32) (kernel.Opened, syscall.Errno) {
	return n.c.openAgain(c, flags)
}
