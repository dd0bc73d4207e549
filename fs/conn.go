package fs

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous"
)

// conn is one connection: one that was opened below dev/, or a client of a service that was announced there.
type conn struct {
	tree          *Tree
	id            uint64 // for one that was opened here, the inode number of its open file
	path          string
	uid, gid      uint32 // of who has opened it, or announced the service
	pid           int
	local, remote string // address!port
	peer          rendezvous.Peer
	start         time.Time

	from   *announceStream    // where a client comes from, else nil
	client *rendezvous.Client // nobody's but his who has taken it out of from.waiting

	mu   sync.Mutex
	ep   *kernel.Endpoint // guarded by mu; nil while a client waits
	body body             // guarded by mu; nil while a client waits
}

// body is the stream of a connection.
type body interface {
	kernel.Stream
	// Traffic returns how many bytes came from the peer and went to it.
	Traffic() (in, out uint64)
	// Shut tells whether the sending side was closed.
	Shut() bool
}

// begin makes a connection of c, with b as its stream.
func (c *conn) begin(b body) {
	c.ep, c.body = c.tree.opts.Server.NewEndpoint(b), b
}

// stream returns the connection's endpoint and stream, or nil for a client that waits.
func (c *conn) stream() (*kernel.Endpoint, body) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ep, c.body
}

// conns are the connections, and the clients and announcements beside them.
type conns struct {
	mu        sync.Mutex
	byID      map[uint64]*conn           // guarded by mu
	announced map[uint64]*announceStream // guarded by mu

	total     atomic.Uint64 // connections since the start
	completed atomic.Uint64 // those of them that were clients
	refused   atomic.Uint64 // clients that became no connection
	in        atomic.Uint64 // bytes of connections that have ended
	out       atomic.Uint64
}

func newConns() *conns {
	return &conns{byID: map[uint64]*conn{}, announced: map[uint64]*announceStream{}}
}

// add makes a connection part of the tree, under its inode's number, with a first open file.
func (cs *conns) add(ino *inode, c *conn, flags uint32) kernel.Opened {
	c.id = ino.id
	c.ep.Hold(writes(flags)) // before anybody can open and close it through conn/
	c.tree.inodes.opened(ino, c)
	cs.put(c)
	cs.total.Add(1)
	return kernel.Opened{Endpoint: c.ep, Flags: kernel.StreamFlags}
}

func (cs *conns) put(c *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.byID[c.id] = c
}

func (cs *conns) get(id uint64) (*conn, bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c, ok := cs.byID[id]
	return c, ok
}

// remove takes a connection out of the tree, and gives back what its owner held.
func (cs *conns) remove(c *conn) {
	cs.mu.Lock()
	delete(cs.byID, c.id)
	cs.mu.Unlock()
	c.tree.opts.Quota.Give(c.uid, quota.Streams, 1)
}

// ids returns the numbers of the connections, clients and announcements that uid may see, in order.
func (cs *conns) ids(uid uint32) []uint64 {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var l []uint64
	for id, c := range cs.byID {
		if uid == 0 || c.uid == uid {
			l = append(l, id)
		}
	}
	for id, s := range cs.announced {
		if uid == 0 || s.who.UID == uid {
			l = append(l, id)
		}
	}
	slices.Sort(l)
	return l
}

func (cs *conns) announcement(id uint64) (*announceStream, bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	s, ok := cs.announced[id]
	return s, ok
}

// connCounts is how many connections there are, and what has passed through them and all before them.
type connCounts struct {
	open, waiting int
	in, out       uint64
}

func (cs *conns) count() connCounts {
	cs.mu.Lock()
	all := slices.Collect(maps.Values(cs.byID))
	cs.mu.Unlock()
	n := connCounts{in: cs.in.Load(), out: cs.out.Load()}
	for _, c := range all {
		_, b := c.stream()
		if b == nil {
			n.waiting++
			continue
		}
		n.open++
		in, out := b.Traffic()
		n.in += in
		n.out += out
	}
	return n
}

// connSocket is the socket of a connection; its end is the connection's end.
type connSocket struct {
	*kernel.Socket
	c *conn
}

func (s connSocket) Close() {
	s.c.ended(s.Traffic())
	s.Socket.Close()
}

// ended notes that the connection's stream is being closed.
func (c *conn) ended(in, out uint64) {
	cs := c.tree.conns
	cs.remove(c)
	cs.in.Add(in)
	cs.out.Add(out)
}

// openAgain gives another open file of the connection to by; the first one of a client that waits makes it a connection.
// The network namespace is asked for again: a connection of this one is a way into it.
func (c *conn) openAgain(by caller, flags uint32) (kernel.Opened, syscall.Errno) {
	err := c.tree.sameNet(by)
	if err == nil {
		err = c.complete(writes(flags))
	}
	if err != nil {
		c.tree.log.refused(by, fmt.Sprintf("open %s again, conn %d", c.path, c.id), err)
		return kernel.Opened{}, errno(err)
	}
	ep, _ := c.stream()
	return kernel.Opened{Endpoint: ep, Flags: kernel.StreamFlags}, 0
}

// complete counts one more open file of c, which is a connection from now on.
func (c *conn) complete(writer bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ep == nil {
		if !c.from.take(c) {
			return fmt.Errorf("the client does not wait any more: %w", syscall.ENOENT)
		}
		if c.client.Gone() {
			c.refuse()
			return fmt.Errorf("the client has gone: %w", syscall.ECONNABORTED)
		}
		if d := c.client.Datagrams; d != nil {
			b := &datagrams{d: d, c: c}
			c.begin(b)
			b.notify(c.ep)
		} else {
			c.begin(connSocket{c.tree.opts.Server.NewSocket(c.client.FD, false), c})
		}
		c.tree.conns.total.Add(1)
		c.tree.conns.completed.Add(1)
	}
	if !c.ep.Hold(writer) {
		return fmt.Errorf("the connection has ended: %w", syscall.ENOENT)
	}
	return nil
}

// refuse resets a client that was taken out of its announcement's set.
func (c *conn) refuse() {
	c.client.Reject()
	c.tree.conns.remove(c)
	c.tree.conns.refused.Add(1)
}

// reject is the command of ctl: it resets a client that waits.
func (c *conn) reject() error {
	if ep, _ := c.stream(); ep != nil {
		return fmt.Errorf("it is a connection already: %w", syscall.EBUSY)
	}
	if !c.from.take(c) {
		return fmt.Errorf("the client does not wait any more: %w", syscall.EBUSY)
	}
	c.refuse()
	return nil
}

// hangup is the command of ctl: it ends the connection, or resets a client that waits.
func (c *conn) hangup() error {
	if ep, _ := c.stream(); ep != nil {
		ep.Hangup()
		return nil
	}
	return c.reject()
}

// shutdown is the command of ctl: it closes the sending side.
func (c *conn) shutdown() error {
	ep, _ := c.stream()
	if ep == nil {
		return fmt.Errorf("the client waits still: %w", syscall.EBUSY)
	}
	ep.CloseWrite()
	return nil
}

// status is the line of conn/ID/status.
func (c *conn) status() string {
	state, in, out := "waiting", uint64(0), uint64(0)
	if _, b := c.stream(); b != nil {
		state = "open"
		if b.Shut() {
			state = "shut"
		}
		in, out = b.Traffic()
	}
	return statusLine(c.id, state, c.path, c.uid, c.pid, in, out, c.start)
}

func statusLine(id uint64, state, path string, uid uint32, pid int, in, out uint64, start time.Time) string {
	return fmt.Sprintf("%d %s %s uid=%d pid=%d in=%d out=%d age=%.1f\n", id, state, path, uid, pid, in, out, time.Since(start).Seconds())
}

// bang writes an address as Plan 9 does, so that the colons of IPv6 are no riddle.
func bang(a netip.AddrPort) string {
	return fmt.Sprintf("%s!%d", a.Addr().Unmap(), a.Port())
}
