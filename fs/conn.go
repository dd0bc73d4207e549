package fs

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/fs/quota"
)

// conn is one open connection.
type conn struct {
	tree     *Tree
	id       uint64 // the inode number of its open file
	path     string
	uid, gid uint32 // of the opener
	pid      int
	datagram bool
	fd       int // handed to sock at once

	local, remote string // address!port
	host, node    string // the peer's; node is "" for one that is no member

	ep    *kernel.Endpoint
	sock  *kernel.Socket
	start time.Time
}

// conns are the open connections.
type conns struct {
	mu   sync.Mutex
	byID map[uint64]*conn // guarded by mu

	total atomic.Uint64 // since the start
	in    atomic.Uint64 // bytes of connections that have ended
	out   atomic.Uint64
}

func newConns() *conns { return &conns{byID: map[uint64]*conn{}} }

// add makes a connection whose socket is open part of the tree, under its inode's number, with a first open file.
func (cs *conns) add(t *Tree, ino *inode, c *conn, flags uint32) kernel.Opened {
	c.id, c.start = ino.id, time.Now()
	c.sock = t.opts.Server.NewSocket(c.fd, c.datagram)
	c.ep = t.opts.Server.NewEndpoint(connStream{c.sock, c})
	c.ep.Hold(writes(flags)) // before anybody can open and close it through conn/
	t.inodes.opened(ino, c)
	cs.mu.Lock()
	cs.byID[c.id] = c
	cs.mu.Unlock()
	cs.total.Add(1)
	return kernel.Opened{Endpoint: c.ep, Flags: kernel.StreamFlags}
}

func (cs *conns) get(id uint64) (*conn, bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c, ok := cs.byID[id]
	return c, ok
}

// of returns the connections that uid may see, by number.
func (cs *conns) of(uid uint32) []*conn {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var l []*conn
	for _, c := range cs.byID {
		if uid == 0 || c.uid == uid {
			l = append(l, c)
		}
	}
	slices.SortFunc(l, func(a, b *conn) int { return int(int64(a.id - b.id)) })
	return l
}

// connStream is a connection's socket; its end is the connection's end.
type connStream struct {
	*kernel.Socket
	c *conn
}

func (s connStream) Close() {
	c := s.c
	cs := c.tree.conns
	cs.mu.Lock()
	delete(cs.byID, c.id)
	cs.mu.Unlock()
	cs.in.Add(s.In.Load())
	cs.out.Add(s.Out.Load())
	s.Socket.Close()
	c.tree.opts.Quota.Give(c.uid, quota.Streams, 1)
}

// openAgain gives another open file of the connection to by. The network namespace is asked for again: a connection of
// this one is a way into it.
func (c *conn) openAgain(by caller, flags uint32) (kernel.Opened, syscall.Errno) {
	if err := c.tree.sameNet(by); err != nil {
		c.tree.log.refused(by, "open "+c.path+" again", err)
		return kernel.Opened{}, errno(err)
	}
	if !c.ep.Hold(writes(flags)) {
		return kernel.Opened{}, syscall.ENOENT
	}
	return kernel.Opened{Endpoint: c.ep, Flags: kernel.StreamFlags}, 0
}

// status is the line of conn/ID/status.
func (c *conn) status() string {
	state := "open"
	if c.sock.Shut() {
		state = "shut"
	}
	return fmt.Sprintf("%d %s %s uid=%d pid=%d in=%d out=%d age=%.1f\n",
		c.id, state, c.path, c.uid, c.pid, c.sock.In.Load(), c.sock.Out.Load(), time.Since(c.start).Seconds())
}

// peer is the line of conn/ID/peer: HOST NODE PID UID GID. What is not proved is "-".
func (c *conn) peer() string {
	node := c.node
	if node == "" {
		node = "-"
	}
	return fmt.Sprintf("%s %s - - -\n", c.host, node)
}

// bang writes an address as Plan 9 does, so that the colons of IPv6 are no riddle.
func bang(a netip.AddrPort) string {
	return fmt.Sprintf("%s!%d", a.Addr().Unmap(), a.Port())
}
