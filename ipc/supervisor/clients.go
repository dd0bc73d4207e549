package supervisor

import (
	"context"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// A Client is a connection to the daemon, as package ipc makes them. OpenFD is called from many goroutines and may take
// as long as a connection needs; its errors are *rendezvous.Error with the errno for open(2), of kind Unavailable with
// ECONNRESET or EPIPE when the daemon has gone.
type Client interface {
	// OpenFD returns a connected socket, non-blocking and close-on-exec. ctx's end ends it.
	OpenFD(ctx context.Context, path string) (int, error)
	Close() error
}

// maxBusy is how many connections one client makes at a time. The daemon takes 64.
const maxBusy = 48

// clients are the connections to the daemon. One is kept; others are made while many are being connected.
type clients struct {
	dial func(ctx context.Context) (Client, error)

	dialing sync.Mutex // held while one is made, so that many threads do not make as many
	mu      sync.Mutex
	all     []*client // guarded by mu: none of them is dead
}

type client struct {
	Client
	busy int  // guarded by clients.mu
	dead bool // guarded by clients.mu
}

// open connects. A daemon that has gone, or has been started again, is looked for once more.
func (c *clients) open(ctx context.Context, path string) result {
	for range 2 {
		cl, err := c.get(ctx)
		if err != nil {
			break
		}
		fd, err := cl.OpenFD(ctx, path)
		gone := err != nil && lost(err)
		c.put(cl, gone)
		switch {
		case err == nil:
			return result{fd: fd}
		case !gone:
			return result{fd: noFD, errno: errnoOf(err)}
		}
	}
	return result{fd: noFD} // no daemon: the kernel says what is with its mount
}

// get returns a client that can take one more.
func (c *clients) get(ctx context.Context) (*client, error) {
	if cl := c.free(); cl != nil {
		return cl, nil
	}
	c.dialing.Lock()
	defer c.dialing.Unlock()
	if cl := c.free(); cl != nil {
		return cl, nil
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	cl := &client{Client: conn, busy: 1}
	c.mu.Lock()
	c.all = append(c.all, cl)
	c.mu.Unlock()
	return cl, nil
}

func (c *clients) free() *client {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range c.all {
		if cl.busy < maxBusy {
			cl.busy++
			return cl
		}
	}
	return nil
}

// put gives back what get has returned.
func (c *clients) put(cl *client, dead bool) {
	c.mu.Lock()
	cl.busy--
	if dead && !cl.dead {
		cl.dead = true
		c.remove(cl)
	}
	if !cl.dead && cl.busy == 0 && len(c.all) > 1 {
		cl.dead = true // one is enough now
		c.remove(cl)
	}
	closing := cl.dead && cl.busy == 0
	c.mu.Unlock()
	if closing {
		cl.Close()
	}
}

// remove takes a client out of those that are used. c.mu is held.
func (c *clients) remove(cl *client) {
	c.all = slices.DeleteFunc(c.all, func(other *client) bool { return other == cl })
}

// lost tells whether err is the daemon's end and not its answer.
func lost(err error) bool {
	return rendezvous.KindOf(err) == rendezvous.Unavailable && (errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE))
}

// errnoOf returns the errno for open(2).
func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	if errors.As(err, &errno) && errno != 0 {
		return errno
	}
	switch rendezvous.KindOf(err) {
	case rendezvous.NotExist:
		return unix.ENOENT
	case rendezvous.Refused:
		return unix.ECONNREFUSED
	case rendezvous.Timeout:
		return unix.ETIMEDOUT
	case rendezvous.Permission:
		return unix.EACCES
	case rendezvous.Invalid:
		return unix.EINVAL
	case rendezvous.Busy:
		return unix.EBUSY
	}
	return unix.EIO
}
