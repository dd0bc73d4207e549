package fs

import (
	"context"
	"strconv"
	"syscall"

	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/rendezvous"
)

var (
	_ folder    = (*connsDir)(nil)
	_ folder    = (*connDir)(nil)
	_ passing   = (*connDir)(nil)
	_ freshNode = (*dataNode)(nil)
)

// connsDir is conn/: one folder for each connection, client and announcement of the caller.
type connsDir struct {
	base
	t *Tree
}

func (d *connsDir) child(name string) (node, bool) {
	id, err := strconv.ParseUint(name, 10, 64)
	if err != nil || strconv.FormatUint(id, 10) != name {
		return nil, false
	}
	if c, ok := d.t.conns.get(id); ok {
		return newConnDir(c), true
	}
	if s, ok := d.t.conns.announcement(id); ok {
		return newAnnouncedDir(s), true
	}
	return nil, false
}

func (d *connsDir) list(uid uint32) []entry {
	var es []entry
	for _, id := range d.t.conns.ids(uid) {
		es = append(es, entry{strconv.FormatUint(id, 10), syscall.S_IFDIR})
	}
	return es
}

// connDir is conn/ID: it is there as long as the connection, the client that waits, or the announcement.
type connDir struct{ dir }

func newConnDir(c *conn) *connDir {
	text := func(f func() string) node { return newState(0400, c.uid, c.gid, f) }
	line := func(s string) func() string { return func() string { return s + "\n" } }
	do := func(f func() error) verb {
		return verb{run: func(context.Context, []string) error { return f() }}
	}
	return &connDir{dir{base{syscall.S_IFDIR | 0500, c.uid, c.gid}, []row{
		{name: "data", node: &dataNode{base{syscall.S_IFREG | 0600, c.uid, c.gid}, c}},
		{name: "ctl", node: newCtl(c.tree, 0200, c.uid, c.gid, "conn/"+strconv.FormatUint(c.id, 10)+"/ctl", verbs{
			"shutdown": do(c.shutdown),
			"hangup":   do(c.hangup),
			"reject":   do(c.reject),
		})},
		{name: "local", node: text(line(c.local))},
		{name: "remote", node: text(line(c.remote))},
		{name: "peer", node: text(line(c.peer.String()))},
		{name: "status", node: text(c.status)},
	}}}
}

// newAnnouncedDir is conn/ID of an announced service: how a server learns its address. There is no data.
func newAnnouncedDir(s *announceStream) *connDir {
	uid, gid := s.who.UID, s.who.GID
	text := func(f func() string) node { return newState(0400, uid, gid, f) }
	nobody := rendezvous.Peer{UID: rendezvous.NoID, GID: rendezvous.NoID}
	return &connDir{dir{base{syscall.S_IFDIR | 0500, uid, gid}, []row{
		{name: "ctl", node: newCtl(s.t, 0200, uid, gid, "conn/"+strconv.FormatUint(s.id, 10)+"/ctl", verbs{
			"hangup": {run: func(context.Context, []string) error { s.ep.Hangup(); return nil }},
		})},
		{name: "local", node: text(func() string { return s.addresses() + "\n" })},
		{name: "remote", node: text(func() string { return "-\n" })},
		{name: "peer", node: text(func() string { return nobody.String() + "\n" })},
		{name: "status", node: text(func() string {
			return statusLine(s.id, "announced", s.path, uid, s.who.TGID, 0, 0, s.start)
		})},
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

func (n *dataNode) mayWait() bool { return true } // for his turn

func (n *dataNode) open(ctx context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno) {
	opened, errno := n.c.openAgain(c, flags)
	if errno == 0 {
		n.c.tree.inodes.opened(ctx.Value(inodeKey{}).(*inode), n.c)
	}
	return opened, errno
}

func (n *dataNode) join(c caller, _ any, flags uint32) (kernel.Opened, syscall.Errno) {
	return n.c.openAgain(c, flags)
}
