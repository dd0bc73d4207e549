package fs

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous"
)

var (
	_ freshNode = (*streamNode)(nil)
	_ passing   = (*streamNode)(nil)
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

// stat differs from base's in that the name must be looked up each time, for it leads to a new number after each open.
func (n *streamNode) stat() stat {
	st := n.base.stat()
	st.nameTTL = 0
	return st
}

func (n *streamNode) mayWait() bool { return true }

func (n *streamNode) open(ctx context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno) {
	cn, err := n.connect(ctx, c)
	if err == nil {
		return n.t.conns.add(n.t, ctx.Value(inodeKey{}).(*inode), cn, flags), 0
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
	if err := t.sameNet(c); err != nil {
		return nil, err
	}
	who, err := c.identify()
	if err != nil {
		return nil, &rendezvous.Error{Op: "open", Kind: rendezvous.Permission, Err: &reason{"the caller cannot be identified", err}}
	}
	if err := n.mayName(who); err != nil {
		return nil, err
	}
	if !t.opts.Quota.Take(c.uid, quota.Streams, 1) {
		return nil, fmt.Errorf("too many streams are open: %w", syscall.EMFILE)
	}
	cn := &conn{tree: t, path: n.path.String(), uid: c.uid, gid: c.gid, pid: who.TGID, datagram: n.path.Proto == rendezvous.UDP}
	if err := n.dial(ctx, cn, who); err != nil {
		t.opts.Quota.Give(c.uid, quota.Streams, 1)
		return nil, err
	}
	return cn, nil
}

// mayName refuses the instances of other people: user= must be the caller's own, group= one of his.
func (n *streamNode) mayName(who rendezvous.Caller) error {
	deny := func(what string) error {
		return &rendezvous.Error{Op: "open", Path: n.path.String(), Kind: rendezvous.Permission, Err: errors.New(what)}
	}
	if id := n.path.Options.User; id != nil {
		uid, err := id.User(who.UID)
		if err != nil {
			return err
		}
		if uid != who.UID && who.UID != 0 {
			return deny("the instance belongs to another user")
		}
	}
	if id := n.path.Options.Group; id != nil {
		gid, err := id.Group(who.GID)
		if err != nil {
			return err
		}
		if !who.In(gid) && who.UID != 0 {
			return deny("the caller is not in the group of the instance")
		}
	}
	return nil
}

func (n *streamNode) dial(ctx context.Context, cn *conn, who rendezvous.Caller) error {
	t := n.t
	if !t.opts.Quota.Take(who.UID, quota.Dials, 1) {
		return fmt.Errorf("too many connections are being made: %w", syscall.EAGAIN)
	}
	defer t.opts.Quota.Give(who.UID, quota.Dials, 1)
	target, err := t.resolver.Resolve(ctx, n.path)
	if err != nil {
		return err
	}
	creds := who.Creds()
	var c rendezvous.Conn
	if n.path.Proto == rendezvous.FDP {
		c.FD, err = rendezvous.DialUnix(ctx, t.socketDirPath(), n.path.Service, creds, t.opts.DialTimeout)
		cn.local, cn.remote, cn.host = n.path.Service, n.path.Service, "local"
	} else {
		c, err = rendezvous.Dial(ctx, target, rendezvous.DialOpts{Creds: creds, Now: n.path.Options.Now, Timeout: t.opts.DialTimeout})
		cn.local, cn.remote, cn.host, cn.node = bang(c.Local), bang(c.Remote), c.Remote.Addr().Unmap().String(), target.Node
	}
	if err == nil {
		cn.fd = c.FD
	} else if errors.Is(err, unix.EMFILE) {
		err = fmt.Errorf("the daemon is out of descriptors: %w", err)
	}
	return err
}

func writes(flags uint32) bool { return flags&syscall.O_ACCMODE != syscall.O_RDONLY }
