package fs

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/cluster"
	"github.com/convoke-fs/convoke/cluster/watch"
	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous"
)

// Cluster is what the tree shows of the node and its cluster, and what its ctl file does. Its methods may be called
// from many goroutines; those without a context answer from memory.
type Cluster interface {
	Self() cluster.Member
	Members() []cluster.Member
	Member(name string) (netip.Addr, bool)
	Join(ctx context.Context, addrs []string) (int, error)
	Leave(ctx context.Context) error
	Remove(ctx context.Context, name string) error
	SetTag(ctx context.Context, key, value string) error
}

// Opts are what a tree is made of.
type Opts struct {
	Dir     string         // required: where it is mounted
	Server  *kernel.Server // required
	Cluster Cluster        // required
	Watch   *watch.Hub     // required
	Log     *Log           // required
	Quota   *quota.Table   // required
	// Host is the rendezvous of this host: required. Its Unlink is to be UnlinkSocket, its SocketDir dev/fdp/local of Dir,
	// its Limits HostLimits.
	Host    *rendezvous.Host
	Name    string // required: the cluster's name
	Version string // required: the daemon's

	ForeignNet bool                         // optional: callers from other network namespaces may use connections
	Ready      func() bool                  // optional: whether cluster/self is there yet; nil is always
	CanStart   func(p rendezvous.Path) bool // optional: whether there is a server to be started for an fdp path. It must not wait for a network
	Metrics    func() []Metric              // optional: more lines of cluster/metrics
	Groups     Groups                       // optional: the process groups; nil shows none
	Quorum     func() string                // optional: the line of cluster/quorum, from memory; nil shows none
}

// Tree is the mounted tree. Its exported methods are for the loop in package kernel.
type Tree struct {
	fuse.RawFileSystem // ENOSYS for what is not here

	opts     Opts
	uid, gid uint32 // who the daemon is: the owner of what belongs to nobody else
	start    time.Time
	log      *Log
	inodes   *inodes
	dirs     *dirs
	conns    *conns
	sockets  *socketDir
}

var _ kernel.Tree = (*Tree)(nil)

// New returns the tree of o.
func New(o Opts) *Tree {
	t := &Tree{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		opts:          o,
		uid:           uint32(os.Geteuid()),
		gid:           uint32(os.Getegid()),
		start:         time.Now(),
		log:           o.Log,
		dirs:          newDirs(),
		conns:         newConns(),
	}
	t.sockets = newSocketDir(t)
	t.inodes = newInodes(newDir(t.uid, t.gid,
		row{name: "dev", node: t.devDir()},
		row{name: "conn", node: &connsDir{t.folderBase(0555), t}},
		row{name: "cluster", node: t.clusterDir()},
	))
	return t
}

// Close ends what the tree does by itself. It is called once the server has ended; nothing is to be asked of the tree then.
func (t *Tree) Close() { t.sockets.binders.close() }

func (t *Tree) folderBase(mode uint32) base {
	return base{syscall.S_IFDIR | mode, t.uid, t.gid}
}

// groupOr gives the number of a group of the system, or else of the daemon, and the mode with or without the group's
// bits.
func (t *Tree) groupOr(name string, with, without uint32) (gid, mode uint32) {
	if g, err := user.LookupGroup(name); err == nil {
		if n, err := strconv.ParseUint(g.Gid, 10, 32); err == nil {
			return uint32(n), with
		}
	}
	return t.gid, without
}

// String implements fuse.RawFileSystem.
func (t *Tree) String() string { return "convoke" }

// Lookup implements fuse.RawFileSystem.
func (t *Tree) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if len(name) > nameMax {
		return fuse.Status(syscall.ENAMETOOLONG)
	}
	parent := t.inodes.get(h.NodeId)
	if parent == nil {
		return fuse.Status(syscall.ESTALE)
	}
	f, ok := parent.node.(folder)
	if !ok {
		return fuse.ENOTDIR
	}
	n, ok := f.child(name)
	if !ok {
		return fuse.ENOENT
	}
	_, fresh := n.(freshNode)
	ino := t.inodes.lookup(parent, name, n, callerOf(h), fresh, isPassing(n) || isPassing(f))
	t.entry(ino, out)
	return fuse.OK
}

// freshNode is a stream whose name leads to a new number after each open.
type freshNode interface {
	opener
	// join opens the same stream once more, for c; stream is what Tree.opened was told.
	join(c caller, stream any, flags uint32) (kernel.Opened, syscall.Errno)
}

// passing is a node of a name of which there may be any number in the course of time, so that not all can be kept. What
// is in such a folder passes with it.
type passing interface{ passing() }

func isPassing(n node) bool { _, ok := n.(passing); return ok }

func (t *Tree) entry(ino *inode, out *fuse.EntryOut) {
	st := ino.node.stat()
	out.NodeId = ino.id
	out.Generation = 1
	out.SetEntryTimeout(st.nameTTL)
	out.SetAttrTimeout(st.statTTL)
	st.fill(&out.Attr, ino.id, t.start)
}

// Forget implements fuse.RawFileSystem.
func (t *Tree) Forget(id, n uint64) { t.inodes.forget(id, n) }

// GetAttr implements fuse.RawFileSystem.
func (t *Tree) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	ino := t.inodes.get(in.NodeId)
	if ino == nil {
		return fuse.Status(syscall.ESTALE)
	}
	t.attrOut(ino, out)
	return fuse.OK
}

func (t *Tree) attrOut(ino *inode, out *fuse.AttrOut) {
	st := ino.node.stat()
	out.SetTimeout(st.statTTL)
	st.fill(&out.Attr, ino.id, t.start)
}

// Readlink implements fuse.RawFileSystem.
func (t *Tree) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	ino := t.inodes.get(h.NodeId)
	if ino == nil {
		return nil, fuse.Status(syscall.ESTALE)
	}
	l, ok := ino.node.(link)
	if !ok {
		return nil, fuse.EINVAL
	}
	if to := l.target(); to != "" {
		return []byte(to), fuse.OK
	}
	return nil, fuse.ENOENT
}

// MayWait implements kernel.Tree.
func (t *Tree) MayWait(id uint64) bool {
	ino := t.inodes.get(id)
	if ino == nil {
		return false
	}
	o, ok := ino.node.(opener)
	return ok && o.mayWait()
}

// OpenFile implements kernel.Tree.
func (t *Tree) OpenFile(ctx context.Context, in *fuse.OpenIn) (kernel.Opened, syscall.Errno) {
	ino := t.inodes.get(in.NodeId)
	if ino == nil {
		return kernel.Opened{}, syscall.ESTALE
	}
	o, ok := ino.node.(opener)
	if !ok {
		return kernel.Opened{}, syscall.ENXIO // a socket
	}
	c := callerOf(&in.InHeader)
	fresh, ok := o.(freshNode)
	if !ok {
		opened, errno := o.open(ctx, c, in.Flags)
		if errno == 0 {
			opened.Done = t.inodes.pin(ino)
		}
		return opened, errno
	}
	shared, ok := t.inodes.take(ino, c)
	var opened kernel.Opened
	var errno syscall.Errno
	switch {
	case ok:
		opened, errno = o.open(context.WithValue(ctx, inodeKey{}, ino), c, in.Flags)
		if errno != 0 {
			t.inodes.opened(ino, nil)
		}
	case shared != nil:
		opened, errno = fresh.join(c, shared, in.Flags)
	default:
		t.inodes.await(ctx, ino, c)
		errno = syscall.ESTALE
	}
	if errno == 0 {
		opened.Done = t.inodes.pin(ino)
	}
	return opened, errno
}

// inodeKey is under which the context of an open holds the number that was taken for it.
type inodeKey struct{}

const nameMax = 255

// StatFs implements fuse.RawFileSystem.
func (t *Tree) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{Bsize: 4096, Frsize: 4096, NameLen: nameMax}
	return fuse.OK
}

// refusals: what the tree does for nobody. The kernel asks for some of them only after its own checks.

// Create implements fuse.RawFileSystem: no name that is not there can be made by open(2). A shell asks for it by `<>` too;
// who does so looks for a service, and hears that it is not there.
func (t *Tree) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, _ *fuse.CreateOut) fuse.Status {
	err := fmt.Errorf("no file can be made here: %w", syscall.EPERM)
	parent := t.inodes.get(in.NodeId)
	if parent != nil && in.Flags&syscall.O_ACCMODE == syscall.O_RDWR {
		_, isSockets := parent.node.(*socketDir)
		if _, _, e := rendezvous.ParseService(name); isSockets && e == nil {
			err = fmt.Errorf("no such service: %w", syscall.ENOENT)
		}
	}
	t.log.refused(callerOf(&in.InHeader), "create "+name, err)
	return fuse.Status(errno(err))
}

// Symlink implements fuse.RawFileSystem.
func (t *Tree) Symlink(<-chan struct{}, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return fuse.EPERM
}

// Rename implements fuse.RawFileSystem.
func (t *Tree) Rename(<-chan struct{}, *fuse.RenameIn, string, string) fuse.Status {
	return fuse.EPERM
}

// Link implements fuse.RawFileSystem.
func (t *Tree) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status {
	return fuse.EPERM
}

// SetXAttr implements fuse.RawFileSystem.
func (t *Tree) SetXAttr(<-chan struct{}, *fuse.SetXAttrIn, string, []byte) fuse.Status {
	return fuse.EPERM
}

// RemoveXAttr implements fuse.RawFileSystem.
func (t *Tree) RemoveXAttr(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return fuse.EPERM }

var _ slog.Handler = (*Log)(nil)
