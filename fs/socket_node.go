package fs

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/rendezvous"
)

var _ owned = (*socketNode)(nil)

// socketNode is a socket in dev/fdp/local. The kernel connects its clients, with no request to us.
type socketNode struct {
	t        *Tree
	instance rendezvous.Path // what it serves: a service, with the options that name an instance
	made     time.Time
	daemon   bool // made by the daemon, for a service that is announced by open(2)

	binder  *binder  // who has bound it, if that is another process; written once, by bind
	inode   *inode   // guarded by inodes.mu: the same under all of its names
	ino     uint64   // guarded by socketDir.mu: its inode number
	orphan  bool     // guarded by socketDir.mu: its binder was found dead
	holders []uint32 // guarded by socketDir.mu: the sockets, by number, that were bound to it then

	mu       sync.Mutex
	mode     uint32 // guarded by mu
	uid, gid uint32 // guarded by mu
}

// announcement returns what the daemon has made the socket for.
func (n *socketNode) announcement() (*rendezvous.Announcement, bool) {
	if !n.daemon || n.instance.Service == daemonSocket {
		return nil, false
	}
	return n.t.opts.Host.Find(n.instance)
}

func (n *socketNode) stat() stat {
	st := stat{changed: n.made} // owner and mode can change: remembered for no time
	if a, ok := n.announcement(); ok {
		st.mode, st.uid, st.gid = a.Mode()
		st.mode = syscall.S_IFSOCK | st.mode&0777
		return st
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	st.mode, st.uid, st.gid = n.mode, n.uid, n.gid
	return st
}

// owner returns who has bound the socket, or was given it.
func (n *socketNode) owner() uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.uid
}

// chattr is chmod(2) and chown(2).
func (n *socketNode) chattr(_ context.Context, c caller, in *fuse.SetAttrIn) syscall.Errno {
	if a, ok := n.announcement(); ok {
		return changeAnnouncement(a, c, in)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.uid != n.uid && c.uid != 0 {
		return syscall.EPERM
	}
	if uid, ok := in.GetUID(); ok && uid != n.uid && c.uid != 0 {
		return syscall.EPERM
	}
	if mode, ok := in.GetMode(); ok {
		n.mode = syscall.S_IFSOCK | mode&0777
	}
	if uid, ok := in.GetUID(); ok {
		n.uid = uid
	}
	if gid, ok := in.GetGID(); ok {
		n.gid = gid // the kernel has seen to it that it is one of the caller's
	}
	return 0
}
