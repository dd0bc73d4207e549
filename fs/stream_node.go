package fs

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous"
)

var (
	_ freshNode = (*streamNode)(nil)
	_ passing   = (*streamNode)(nil)
	_ owned     = (*streamNode)(nil)
)

// streamNode is dev/PROTO/HOST/SERVICE: each open of it is a connection.
type streamNode struct {
	base
	t    *Tree
	path rendezvous.Path
}

func newStream(t *Tree, p rendezvous.Path) *streamNode {
	return &streamNode{base{syscall.S_IFREG | 0666, t.uid, t.gid}, t, p}
}

func (n *streamNode) passing() {}

// stat differs from base's in that the name must be looked up each time, for it leads to a new number after each open;
// and a service that is announced here has an owner and a mode of its own. These can change, yet are remembered for a
// moment: each look-up tells them anew, the Host asks for them again, and the kernel need not between the look-up and the
// open, where a thousand clients would run into each other.
func (n *streamNode) stat() stat {
	st := n.base.stat()
	st.nameTTL = 0
	if a, ok := n.announcement(); ok {
		mode, uid, gid := a.Mode()
		st.mode, st.uid, st.gid, st.statTTL = syscall.S_IFREG|mode&0777, uid, gid, time.Second
	}
	return st
}

// announcement returns what is announced here under the path.
func (n *streamNode) announcement() (*rendezvous.Announcement, bool) {
	if !n.t.isHere(n.path.Host) {
		return nil, false
	}
	p := n.path
	p.Host = "local"
	return n.t.opts.Host.Find(p)
}

// chattr is chmod(2) and chown(2) of an announced service.
func (n *streamNode) chattr(_ context.Context, c caller, in *fuse.SetAttrIn) syscall.Errno {
	a, ok := n.announcement()
	if !ok {
		return syscall.EPERM
	}
	return changeAnnouncement(a, c, in)
}

func (n *streamNode) mayWait() bool { return true }

func (n *streamNode) open(ctx context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno) {
	cn, err := n.connect(ctx, c)
	if err == nil {
		return n.t.conns.add(ctx.Value(inodeKey{}).(*inode), cn, flags), 0
	}
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w: %w", cause, err) // a signal: the caller hears of that
	}
	n.t.log.refused(c, "open "+n.path.String(), err)
	return kernel.Opened{}, errno(err)
}

// join is an open of /dev/fd/N or /proc/PID/fd/N: another file of the same connection.
func (n *streamNode) join(c caller, stream any, flags uint32) (kernel.Opened, syscall.Errno) {
	cn := stream.(*conn)
	if c.uid != cn.uid && c.uid != 0 {
		return kernel.Opened{}, syscall.EACCES
	}
	return cn.openAgain(c, flags)
}

// connect makes the connection that the path names, for c.
func (n *streamNode) connect(ctx context.Context, c caller) (*conn, error) {
	t := n.t
	who, err := c.identify()
	if err != nil {
		return nil, &rendezvous.Error{Op: "open", Kind: rendezvous.Permission, Err: &reason{"the caller cannot be identified", err}}
	}
	if !t.opts.Quota.Take(c.uid, quota.Streams, 1) {
		return nil, fmt.Errorf("too many streams are open: %w", syscall.EMFILE)
	}
	made, err := t.opts.Host.Open(ctx, who, n.path)
	if err != nil {
		t.opts.Quota.Give(c.uid, quota.Streams, 1)
		if errors.Is(err, unix.EMFILE) {
			err = fmt.Errorf("the daemon is out of descriptors: %w", err)
		}
		return nil, err
	}
	cn := &conn{
		tree: t, path: n.path.String(), uid: c.uid, gid: c.gid, pid: who.TGID,
		local: n.path.Service, remote: n.path.Service, start: time.Now(),
		peer: rendezvous.Peer{Host: "local", Node: made.Node, UID: rendezvous.NoID, GID: rendezvous.NoID},
	}
	if n.path.Proto != rendezvous.FDP {
		cn.local, cn.remote, cn.peer.Host = bang(made.Local), bang(made.Remote), made.Remote.Addr().Unmap().String()
	}
	cn.begin(connSocket{t.opts.Server.NewSocket(made.FD, n.path.Proto == rendezvous.UDP), cn})
	return cn, nil
}

func writes(flags uint32) bool { return flags&syscall.O_ACCMODE != syscall.O_RDONLY }
