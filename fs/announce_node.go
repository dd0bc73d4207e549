package fs

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous"
)

var (
	_ freshNode     = (*announceNode)(nil)
	_ passing       = (*announceNode)(nil)
	_ kernel.Stream = (*announceStream)(nil)
)

// announceNode is dev/PROTO/HOST/SERVICE,create: each open of it announces the service, for as long as the file is open.
type announceNode struct {
	base
	t    *Tree
	path rendezvous.Path
}

func newAnnounce(t *Tree, p rendezvous.Path) *announceNode {
	return &announceNode{base{syscall.S_IFREG | 0666, t.uid, t.gid}, t, p}
}

func (n *announceNode) passing() {}

// stat differs from base's in that the name must be looked up each time, for it leads to a new number after each open.
func (n *announceNode) stat() stat {
	st := n.base.stat()
	st.nameTTL = 0
	return st
}

func (n *announceNode) mayWait() bool { return true }

func (n *announceNode) open(ctx context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno) {
	s, err := n.announce(ctx, c, flags)
	if err == nil {
		ino := ctx.Value(inodeKey{}).(*inode)
		s.id = ino.id
		s.begin(flags)
		n.t.inodes.opened(ino, s)
		return kernel.Opened{Endpoint: s.ep, Flags: kernel.StreamFlags}, 0
	}
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w: %w", cause, err) // a signal: the caller hears of that
	}
	n.t.log.refused(c, "open "+n.path.String(), err)
	return kernel.Opened{}, errno(err)
}

func (n *announceNode) announce(ctx context.Context, c caller, flags uint32) (*announceStream, error) {
	if flags&syscall.O_ACCMODE == syscall.O_WRONLY {
		return nil, fmt.Errorf("an announcement is read: %w", syscall.EINVAL)
	}
	who, err := c.identify()
	if err != nil {
		return nil, &rendezvous.Error{Op: "announce", Kind: rendezvous.Permission, Err: &reason{"the caller cannot be identified", err}}
	}
	p := n.path
	p.Options.Create = false
	a, err := n.t.opts.Host.Announce(ctx, who, p, rendezvous.AnnounceOpts{})
	if err != nil {
		return nil, err
	}
	return &announceStream{t: n.t, a: a, who: who, path: n.path.String(), start: time.Now(), waiting: map[uint64]*conn{}}, nil
}

// join is an open of /dev/fd/N or /proc/PID/fd/N: another file of the same announcement.
func (n *announceNode) join(c caller, stream any, flags uint32) (kernel.Opened, syscall.Errno) {
	s := stream.(*announceStream)
	switch {
	case c.uid != s.who.UID && c.uid != 0:
		return kernel.Opened{}, syscall.EACCES
	case flags&syscall.O_ACCMODE == syscall.O_WRONLY:
		return kernel.Opened{}, syscall.EINVAL
	case !s.ep.Hold(writes(flags)):
		return kernel.Opened{}, syscall.ENOENT
	}
	return kernel.Opened{Endpoint: s.ep, Flags: kernel.StreamFlags}, 0
}

// lookAgain is how long a server that has taken all the clients it may, and used none of them, waits until it is looked
// whether some of them have gone.
const lookAgain = time.Second

// announceStream is an open announcement: a line for each client that waits.
type announceStream struct {
	t     *Tree
	a     *rendezvous.Announcement
	id    uint64 // the inode number of its open file
	who   rendezvous.Caller
	path  string
	start time.Time
	ep    *kernel.Endpoint

	mu      sync.Mutex
	rest    string           // guarded by mu: of a line of which a part was read
	waiting map[uint64]*conn // guarded by mu: clients whose line was read, and whose data nobody has opened
	timer   *time.Timer      // guarded by mu: will look at waiting again; nil before it was first full
}

// begin makes the announcement part of the tree, with a first open file.
func (s *announceStream) begin(flags uint32) {
	s.ep = s.t.opts.Server.NewEndpoint(s)
	s.ep.Hold(writes(flags))
	s.a.Notify(s.ep.WakeSoon)
	cs := s.t.conns
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.announced[s.id] = s
}

// Read gives one line, so that of several processes that read the file each gets clients of its own. The line is made
// now: a client that has gone by now leaves none.
func (s *announceStream) Read(p []byte) (int, syscall.Errno) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rest == "" {
		var errno syscall.Errno
		if s.rest, errno = s.next(); errno != 0 {
			return 0, errno
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, 0
}

// next takes the next client from the announcement; mu is held. "" is the end of the announcement, EMFILE that the server
// has as many streams as it may: as accept(2) has it, the client waits on.
func (s *announceStream) next() (string, syscall.Errno) {
	for s.a.Ready() {
		if s.isFull() {
			return "", syscall.EAGAIN
		}
		q := s.t.opts.Quota
		if !q.Take(s.who.UID, quota.Streams, 1) {
			return "", syscall.EMFILE
		}
		client, err := s.a.Next()
		if err != nil {
			q.Give(s.who.UID, quota.Streams, 1)
			if e := errno(err); e == syscall.EAGAIN {
				return "", e
			}
			return "", 0
		}
		c := s.newConn(client)
		if client.Gone() {
			c.refuse()
			continue
		}
		s.waiting[c.id] = c
		s.t.conns.put(c)
		return fmt.Sprintf("%d %s\n", c.id, client.Peer.String()), 0
	}
	return "", syscall.EAGAIN
}

func (s *announceStream) newConn(client *rendezvous.Client) *conn {
	c := &conn{
		tree: s.t, id: s.t.inodes.number(), path: s.path, uid: s.who.UID, gid: s.who.GID, pid: s.who.TGID,
		local: s.a.Path().Service, peer: client.Peer, start: time.Now(), from: s, client: client,
	}
	c.remote = c.local
	if s.a.Path().Proto != rendezvous.FDP {
		c.local, c.remote = bang(client.Local), bang(client.Remote)
	}
	return c
}

// isFull tells whether no more clients may be taken; mu is held. Those that have gone make room.
func (s *announceStream) isFull() bool {
	if len(s.waiting) < rendezvous.MaxWaiting {
		return false
	}
	for id, c := range s.waiting {
		if c.client.Gone() {
			delete(s.waiting, id)
			c.refuse()
		}
	}
	if len(s.waiting) < rendezvous.MaxWaiting {
		return false
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(lookAgain, s.ep.WakeSoon)
	} else {
		s.timer.Reset(lookAgain)
	}
	return true
}

// take takes a client out of those that wait, or reports false when somebody else has.
func (s *announceStream) take(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[c.id] != c {
		return false
	}
	delete(s.waiting, c.id)
	if len(s.waiting) == rendezvous.MaxWaiting-1 {
		s.ep.WakeSoon() // there is room again
	}
	return true
}

func (s *announceStream) Write([]byte) (int, syscall.Errno) { return 0, syscall.EINVAL }

func (s *announceStream) Poll() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rest != "" || s.a.Ready() && !s.isFull() {
		return kernel.PollIn
	}
	return 0
}

// Arm does nothing: the announcement tells of every client.
func (s *announceStream) Arm(*kernel.Endpoint) {}

// CloseWrite does nothing: there is nothing to write.
func (s *announceStream) CloseWrite() {}

// Close ends the announcement, and with it the clients of which nobody has made a connection.
func (s *announceStream) Close() {
	s.mu.Lock()
	waiting := s.waiting
	s.waiting = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	cs := s.t.conns
	cs.mu.Lock()
	delete(cs.announced, s.id)
	cs.mu.Unlock()
	s.a.Close()
	for _, c := range waiting {
		c.refuse()
	}
}

// addresses is the line of conn/ID/local: where the service listens.
func (s *announceStream) addresses() string {
	var l []string
	for _, a := range s.a.Addrs() {
		l = append(l, bang(a))
	}
	if l == nil {
		l = []string{s.a.Path().Service}
	}
	return strings.Join(l, " ")
}

// changeAnnouncement is chmod(2) and chown(2) of an announced service by c.
func changeAnnouncement(a *rendezvous.Announcement, c caller, in *fuse.SetAttrIn) syscall.Errno {
	_, owner, group := a.Mode()
	uid, newOwner := in.GetUID()
	gid, newGroup := in.GetGID()
	if c.uid != 0 && (c.uid != owner || newOwner && uid != owner) {
		return syscall.EPERM
	}
	if mode, ok := in.GetMode(); ok {
		a.Chmod(mode & 0777)
	}
	if newOwner {
		owner = uid
	}
	if newGroup {
		group = gid // the kernel has seen to it that it is one of the caller's
	}
	if newOwner || newGroup {
		a.Chown(owner, group)
	}
	return 0
}
