package ipc

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Open connects to path as [Client.Open] does, over the default mount: that of [Locate] without an argument. All callers
// in this process share one connection to the daemon, which is made when it is needed, and again after the daemon was
// restarted.
func Open(ctx context.Context, path string) (net.Conn, error) {
	if _, err := streamPath(path); err != nil {
		return nil, err
	}
	return onShared(ctx, func(c *Client) (net.Conn, error) { return c.Open(ctx, path) })
}

// Announce announces path as [Client.Announce] does, over the connection that Open uses.
func Announce(ctx context.Context, path string) (*Listener, error) {
	return onShared(ctx, func(c *Client) (*Listener, error) { return c.Announce(ctx, path) })
}

// onShared calls do with the shared Client, and once more with a new one if the daemon has gone before it saw the
// request.
func onShared[T any](ctx context.Context, do func(*Client) (T, error)) (T, error) {
	c, err := shared.client(ctx)
	if err != nil {
		var none T
		return none, err
	}
	result, err := do(c)
	if err == nil || !errors.As(err, new(*unsent)) {
		return result, err
	}
	if c, err = shared.client(ctx); err != nil {
		return result, err
	}
	return do(c)
}

// clients are the connections of Open and Announce, by mount point: the default mount is where the environment says.
type clients struct {
	lock   chan struct{} // holds one while a connection is looked for or made; a channel, since that may take a while
	byDir  sync.Map      // string to *Client
	locate func(mount string) (*Tree, error)
}

var shared = clients{lock: make(chan struct{}, 1), locate: Locate}

func (s *clients) client(ctx context.Context) (*Client, error) {
	dir, err := mountPoint("")
	if err != nil {
		return nil, err
	}
	if c, ok := s.byDir.Load(dir); ok && c.(*Client).alive() {
		return c.(*Client), nil
	}
	select {
	case s.lock <- struct{}{}:
		defer func() { <-s.lock }()
	case <-ctx.Done():
		return nil, contextEnded(ctx, "connect to the daemon of", dir)
	}
	if c, ok := s.byDir.Load(dir); ok && c.(*Client).alive() {
		return c.(*Client), nil
	}
	tree, err := s.locate(dir)
	if err != nil {
		return nil, err
	}
	c, err := tree.Dial(ctx)
	if err != nil {
		return nil, err
	}
	s.byDir.Store(dir, c)
	return c, nil
}
