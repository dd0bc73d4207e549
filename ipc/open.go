package ipc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// OpenFD connects to path, in either form of rendezvous.Parse, and returns the connected socket: non-blocking,
// close-on-exec, and the caller's to close. The daemon has no part in what is then sent.
//
// When ctx ends, OpenFD returns at once and the daemon gives the connection up. Without that the daemon bounds the time
// (30 s).
//
// To a service of fdp this process connects itself, kernel to kernel, so that its server sees this process as
// the peer (SO_PEERCRED, pid too); the daemon is asked only when there is no such socket, since it may start the server.
//
// Errors are *rendezvous.Error with the errno that open(2) of the path would give: ECONNREFUSED, ENOENT, EACCES, ...;
// EINVAL for a path that is none, or with create; Unavailable when the daemon has gone; ETIMEDOUT or EINTR when ctx has
// ended, or the errno that its cause has.
func (c *Client) OpenFD(ctx context.Context, path string) (int, error) {
	p, err := streamPath(path)
	if err != nil {
		return -1, err
	}
	if p.Proto == rendezvous.FDP {
		fd, err := c.connectFDP(ctx, p)
		switch {
		case err == nil:
			return fd, nil
		case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED):
			return -1, c.fail(ctx, "open", p.String(), err)
		}
	}
	a, err := c.work(ctx, opOpen, p.String())
	if err != nil {
		return -1, c.fail(ctx, "open", p.String(), err)
	}
	if _, err = decodeOpened(a.body); err != nil || len(a.fds) != 1 {
		a.close()
		return -1, c.fail(ctx, "open", p.String(), errMalformed)
	}
	return a.fds[0], nil
}

var errMalformed = fmt.Errorf("the daemon's answer is malformed: %w", unix.EPROTO)

// streamPath reads the path of a stream that is to be opened.
func streamPath(path string) (rendezvous.Path, error) {
	p, err := rendezvous.Parse(path)
	if err == nil && p.Options.Create {
		err = &rendezvous.Error{Op: "open", Path: p.String(), Kind: rendezvous.Invalid,
			Err: worded{"with create it is announced, not opened", unix.EINVAL}}
	}
	return p, err
}

// Open is OpenFD with a net.Conn: a *net.TCPConn, *net.UDPConn or *net.UnixConn.
func (c *Client) Open(ctx context.Context, path string) (net.Conn, error) {
	fd, err := c.OpenFD(ctx, path)
	if err != nil {
		return nil, err
	}
	conn, err := connOf(fd)
	if err != nil {
		return nil, failed("open", path, err)
	}
	return conn, nil
}

// connOf makes a net.Conn of a connected socket, which it takes over.
func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close() // FileConn has a copy
	return net.FileConn(f)
}

// work sends an OPEN or ANNOUNCE and waits for its answer.
func (c *Client) work(ctx context.Context, op uint16, path string) (answer, error) {
	return c.workWith(ctx, op, 2+len(path), func(b []byte) []byte { return appendString(b, path) })
}

// workWith sends a request of which only so many may be in progress, with a body of size bytes, and waits for its
// answer.
func (c *Client) workWith(ctx context.Context, op uint16, size int, body func([]byte) []byte) (answer, error) {
	select {
	case c.slots <- struct{}{}:
	default:
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return answer{}, errContext
		case <-c.done:
			return answer{}, &unsent{c.why()}
		}
	}
	if headerSize+size > maxFrame {
		<-c.slots
		return answer{}, unix.ENAMETOOLONG
	}
	return c.request(ctx, nil, func(tag uint32) []byte {
		return body(appendHeader(make([]byte, 0, 128), header{op: op, tag: tag}))
	}, func() { <-c.slots }, nil)
}
