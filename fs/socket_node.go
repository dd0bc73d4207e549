package fs

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/rendezvous"
)

var _ folder = (*socketDir)(nil)

// maxSockets bounds the sockets of one user in dev/fdp/local.
const maxSockets = 256

// socketDir is dev/fdp/local: the sockets that servers have bound here.
type socketDir struct {
	base
	t *Tree

	mu      sync.Mutex
	sockets map[string]*socketNode // guarded by mu
}

func newSocketDir(t *Tree) *socketDir {
	return &socketDir{base: t.folderBase(0777), t: t, sockets: map[string]*socketNode{}}
}

// socketDirPath is where a socket's path begins.
func (t *Tree) socketDirPath() string { return filepath.Join(t.opts.Dir, "dev/fdp/local") }

func (d *socketDir) child(name string) (node, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.sockets[name]; ok {
		return s, true
	}
	service, options, err := rendezvous.ParseService(name)
	s, ok := d.sockets[service]
	switch {
	case err != nil || !ok:
		return nil, false
	case options.Sock:
		return s, true
	case options.Stream:
		return newStream(d.t, rendezvous.Path{Proto: rendezvous.FDP, Host: "local", Service: service, Options: options}), true
	}
	return nil, false
}

func (d *socketDir) list(uint32) []entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	var es []entry
	for name := range d.sockets {
		es = append(es, entry{name, syscall.S_IFSOCK})
	}
	slices.SortFunc(es, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return es
}

// socketNode is a socket that a server has bound. The kernel connects its clients, with no request to us.
type socketNode struct {
	d    *socketDir
	made time.Time

	mu       sync.Mutex
	mode     uint32 // guarded by mu
	uid, gid uint32 // guarded by mu
}

func (n *socketNode) stat() stat {
	n.mu.Lock()
	defer n.mu.Unlock()
	return stat{mode: n.mode, uid: n.uid, gid: n.gid, changed: n.made} // owner and mode can change: remembered for no time
}

// chattr is chmod(2) and chown(2).
func (n *socketNode) chattr(c caller, in *fuse.SetAttrIn) syscall.Errno {
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

// Mknod implements fuse.RawFileSystem: bind(2) of a socket in dev/fdp/local announces it.
func (t *Tree) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	parent := t.inodes.get(in.NodeId)
	if parent == nil {
		return fuse.Status(syscall.ESTALE)
	}
	d, ok := parent.node.(*socketDir)
	if !ok || in.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return fuse.EPERM
	}
	if !rendezvous.ValidName(name) {
		return fuse.EINVAL
	}
	if in.Pid == 0 {
		return fuse.EPERM // a caller from a pid namespace that cannot be seen announces nothing
	}
	s := &socketNode{d: d, made: time.Now(), mode: syscall.S_IFSOCK | in.Mode&0777, uid: in.Uid, gid: in.Gid}
	if e := d.bind(name, s); e != 0 {
		return fuse.Status(e)
	}
	t.entry(t.inodes.lookup(parent, name, s, callerOf(&in.InHeader), false, false), out)
	return fuse.OK
}

func (d *socketDir) bind(name string, s *socketNode) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.sockets[name]; ok {
		return syscall.EEXIST // bind(2) makes EADDRINUSE of it
	}
	if s.uid != 0 {
		n := 0
		for _, other := range d.sockets {
			if other.stat().uid == s.uid {
				n++
			}
		}
		if n >= maxSockets {
			return syscall.ENOSPC
		}
	}
	d.sockets[name] = s
	return 0
}

// Unlink implements fuse.RawFileSystem: a socket's owner, and root, take it away.
func (t *Tree) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	parent := t.inodes.get(h.NodeId)
	if parent == nil {
		return fuse.Status(syscall.ESTALE)
	}
	d, ok := parent.node.(*socketDir)
	if !ok {
		return fuse.EPERM
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.sockets[name]
	if !ok {
		return fuse.EPERM // NAME,stream and NAME,sock: other names for the socket NAME
	}
	if h.Uid != s.stat().uid && h.Uid != 0 {
		return fuse.EPERM
	}
	delete(d.sockets, name)
	t.inodes.unlink(parent, name)
	return fuse.OK
}
