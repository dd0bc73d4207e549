package fs

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

var _ folder = (*socketDir)(nil)

const (
	// maxSockets bounds the sockets that one user binds in dev/fdp/local.
	maxSockets = 256

	// daemonSocket is the name of the daemon's own socket.
	daemonSocket = "convoke"
)

// socketDir is dev/fdp/local: the sockets that servers have bound here, and those that the daemon has made for services
// announced by open(2). No method of the Host is called with mu held, for the Host calls UnlinkSocket.
type socketDir struct {
	base
	t       *Tree
	binders *binders

	mu      sync.Mutex
	sockets map[string]*socketNode // guarded by mu: by element, as instance writes it
}

func newSocketDir(t *Tree) *socketDir {
	d := &socketDir{base: t.folderBase(0777), t: t, sockets: map[string]*socketNode{}}
	d.binders = newBinders(d)
	return d
}

// socketDirPath is where a socket's path begins.
func (t *Tree) socketDirPath() string { return filepath.Join(t.opts.Dir, "dev/fdp/local") }

// instance leaves of a name what tells one socket from another: qualifiers count in any order.
func instance(service string, o rendezvous.Options) rendezvous.Path {
	return rendezvous.Path{Proto: rendezvous.FDP, Host: "local", Service: service, Options: rendezvous.Options{
		User: o.User, Group: o.Group, Qualifiers: slices.Sorted(slices.Values(o.Qualifiers)),
	}}
}

func (d *socketDir) child(name string) (node, bool) {
	service, options, err := rendezvous.ParseService(name)
	if err != nil {
		return nil, false
	}
	p := rendezvous.Path{Proto: rendezvous.FDP, Host: "local", Service: service, Options: options}
	if options.Create {
		return newAnnounce(d.t, p), true
	}
	of := instance(service, options)
	d.mu.Lock()
	s, ok := d.lookup(of)
	d.mu.Unlock()
	switch {
	case ok && (options.Sock || name == of.Element() && (!s.daemon || service == daemonSocket)):
		return s, true
	case options.Sock:
		return nil, false
	case ok, d.named(of), d.t.opts.CanStart != nil && d.t.opts.CanStart(of):
		return newStream(d.t, p), true
	}
	return nil, false
}

// lookup finds a socket that somebody still serves; mu is held.
func (d *socketDir) lookup(of rendezvous.Path) (*socketNode, bool) {
	s, ok := d.sockets[of.Element()]
	if ok && !d.alive(s) {
		d.drop(s)
		return nil, false
	}
	return s, ok
}

// named tells whether a path that names its user or group not by number, or not at all, may mean a socket that is here.
// Whose it is can only be said at the open, for which names are looked up.
func (d *socketDir) named(of rendezvous.Path) bool {
	vague := func(id *rendezvous.ID) bool { return id != nil && (id.Self || id.Name != "") }
	if !vague(of.Options.User) && !vague(of.Options.Group) {
		return false
	}
	same := func(id, other *rendezvous.ID) bool {
		return (id == nil) == (other == nil) && (id == nil || vague(id) || *id == *other)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.sockets {
		o := s.instance.Options
		if s.instance.Service == of.Service && same(of.Options.User, o.User) && same(of.Options.Group, o.Group) &&
			slices.Equal(of.Options.Qualifiers, o.Qualifiers) {
			return true
		}
	}
	return false
}

func (d *socketDir) list(uint32) []entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	var es []entry
	for name, s := range d.sockets {
		switch {
		case !d.alive(s):
			d.drop(s)
		case s.daemon && name != daemonSocket:
			es = append(es, entry{name, syscall.S_IFREG})
		default:
			es = append(es, entry{name, syscall.S_IFSOCK})
		}
	}
	slices.SortFunc(es, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return es
}

func (d *socketDir) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, s := range d.sockets {
		if !s.daemon {
			n++
		}
	}
	return n
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
	c := callerOf(&in.InHeader)
	s, err := d.newSocket(c, name, in.Mode&0777)
	if err == nil {
		err = d.bind(s, c)
	}
	if err != nil {
		t.log.refused(c, "bind dev/fdp/local/"+name, err)
		return fuse.Status(errno(err))
	}
	t.entry(t.inodes.lookup(parent, name, s, c, false, false), out)
	d.mu.Lock()
	defer d.mu.Unlock()
	s.ino = out.NodeId
	return fuse.OK
}

// newSocket makes the node of a socket of c.
func (d *socketDir) newSocket(c caller, name string, mode uint32) (*socketNode, error) {
	s := &socketNode{t: d.t, made: time.Now(), mode: syscall.S_IFSOCK | mode, uid: c.uid, gid: c.gid}
	service, options, err := rendezvous.ParseService(name)
	if service == daemonSocket && (name != daemonSocket || !ours(c)) {
		return nil, fmt.Errorf("the name is the daemon's: %w", syscall.EACCES) // in all instances, of whoever announces it
	}
	if ours(c) && err == nil && (options.Sock || name == daemonSocket) {
		s.daemon, s.instance = true, instance(service, options)
		s.mode = syscall.S_IFSOCK | 0600 // until the Host says more
		if name == daemonSocket {
			s.mode, s.uid, s.gid = syscall.S_IFSOCK|0666, d.t.uid, d.t.gid
		}
		return s, nil
	}
	switch {
	case !rendezvous.ValidName(name) || err != nil:
		return nil, fmt.Errorf("bad name of a service: %w", syscall.EINVAL)
	case c.pid == 0:
		return nil, fmt.Errorf("a caller from a pid namespace that cannot be seen announces nothing: %w", syscall.EPERM)
	}
	s.instance = instance(service, rendezvous.Options{})
	return s, nil
}

// ours tells whether a request was made by this process. Its number is a thread's, which waits for the answer.
func ours(c caller) bool {
	return unix.Faccessat(unix.AT_FDCWD, "/proc/self/task/"+strconv.FormatUint(uint64(c.pid), 10), unix.F_OK, 0) == nil
}

// bind adds a socket of c.
func (d *socketDir) bind(s *socketNode, c caller) error {
	var who rendezvous.Caller
	foreign := false
	if !s.daemon {
		var err error
		if who, err = c.identify(); err != nil {
			return &rendezvous.Error{Op: "bind", Kind: rendezvous.Permission, Err: &reason{"the caller cannot be identified", err}}
		}
		same, err := rendezvous.SameNetNS(int(c.pid))
		foreign = err != nil || !same
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.lookup(s.instance); ok {
		return fmt.Errorf("the name is taken: %w", syscall.EEXIST) // bind(2) makes EADDRINUSE of it
	}
	own := 0
	for _, other := range d.sockets {
		switch {
		case other.owner() == s.uid:
			if !other.daemon {
				own++
			}
		case other.instance.Service == s.instance.Service && s.uid != 0 && d.alive(other):
			return fmt.Errorf("the name is another user's: %w", syscall.EACCES)
		}
	}
	if !s.daemon {
		if s.uid != 0 && own >= maxSockets {
			return fmt.Errorf("too many sockets are bound: %w", syscall.ENOSPC)
		}
		b, err := d.binders.find(who.TGID, foreign)
		if err != nil {
			return fmt.Errorf("the caller cannot be watched: %w", err)
		}
		b.sockets++
		s.binder = b
	}
	d.sockets[s.instance.Element()] = s
	return nil
}

// drop takes a socket away; mu is held.
func (d *socketDir) drop(s *socketNode) {
	delete(d.sockets, s.instance.Element())
	if s.binder != nil {
		d.binders.release(s.binder)
	}
}

// UnlinkSocket takes away the socket NAME,sock that a rendezvous.Host has bound in dev/fdp/local. It makes no request to
// the file system, so it may be called while one is served.
func (t *Tree) UnlinkSocket(name string) {
	service, options, err := rendezvous.ParseService(name)
	if err != nil {
		return
	}
	d := t.sockets
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.sockets[instance(service, options).Element()]; ok && s.daemon {
		d.drop(s)
	}
}

// Unlink implements fuse.RawFileSystem: a socket's owner, and root, take it away. What is announced by open(2) goes with
// its file.
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
	if s.daemon && !ours(callerOf(h)) || h.Uid != s.owner() && h.Uid != 0 {
		return fuse.EPERM
	}
	d.drop(s)
	t.inodes.unlink(parent, name)
	return fuse.OK
}
