package ipc

import (
	"context"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

const (
	maxUnixPath = 107 // sun_path, less the final NUL

	// fullDelay is the first wait for room in a full backlog, doubled at each turn up to fullMaxDelay.
	fullDelay    = time.Millisecond
	fullMaxDelay = 50 * time.Millisecond
)

// maxForms bounds what a Client remembers of services of fdp.
const maxForms = 1024

// connectFDP connects to the socket of a service of fdp: NAME where a server has bound it, NAME,sock where it is
// announced and NAME is the stream file. What it was is tried first the next time. ENOENT or ECONNREFUSED: there is
// none, nobody listens, or only the daemon can tell its name.
func (c *Client) connectFDP(ctx context.Context, p rendezvous.Path) (int, error) {
	o := rendezvous.Options{Other: p.Options.Other, Qualifiers: p.Options.Qualifiers}
	var ok bool
	if o.User, ok = numbered(p.Options.User, os.Geteuid()); !ok {
		return -1, unix.ENOENT
	}
	if o.Group, ok = numbered(p.Options.Group, os.Getegid()); !ok {
		return -1, unix.ENOENT
	}
	p.Options = o
	name, dir := p.Element(), c.tree.path("dev/fdp/local")
	suffixes := [2]string{"", ",sock"}
	c.mu.Lock()
	announced := c.forms[name]
	c.mu.Unlock()
	if announced {
		suffixes[0], suffixes[1] = suffixes[1], suffixes[0]
	}
	fd, err := connectUnix(ctx, dir, name+suffixes[0], unix.SOCK_STREAM, rendezvous.DefaultTimeout)
	if err != unix.ENOENT && err != unix.ECONNREFUSED {
		return fd, err
	}
	fd, err = connectUnix(ctx, dir, name+suffixes[1], unix.SOCK_STREAM, rendezvous.DefaultTimeout)
	if err == nil {
		c.mu.Lock()
		if c.forms == nil || len(c.forms) == maxForms {
			c.forms = map[string]bool{}
		}
		c.forms[name] = !announced
		c.mu.Unlock()
	}
	return fd, err
}

// numbered returns the id as it stands in the name of a socket, unless that takes a look into a database of users.
func numbered(id *rendezvous.ID, self int) (*rendezvous.ID, bool) {
	switch {
	case id == nil:
		return nil, true
	case id.Self:
		return &rendezvous.ID{N: uint32(self)}, true
	}
	return id, id.Name == ""
}

// connectUnix connects to the socket name in the folder dir, which may be on the mount. A full backlog is waited for.
// The socket is non-blocking and close-on-exec. Errors are bare: an errno, or errContext.
//
// Each attempt has a goroutine of its own, for the look-ups of the path ask the daemon, and a daemon that is stopped
// does not answer: the goroutine stays until it does.
func connectUnix(ctx context.Context, dir, name string, typ int, timeout time.Duration) (int, error) {
	end := time.NewTimer(timeout)
	defer end.Stop()
	for delay := fullDelay; ; delay = min(2*delay, fullMaxDelay) {
		if ctx.Err() != nil {
			return -1, errContext
		}
		result := make(chan connected, 1)
		go func() {
			fd, err := tryUnix(dir, name, typ)
			result <- connected{fd, err}
		}()
		var r connected
		select {
		case r = <-result:
		case <-ctx.Done():
			go discard(result)
			return -1, errContext
		case <-end.C:
			go discard(result)
			return -1, unix.ETIMEDOUT
		}
		if r.err != unix.EAGAIN {
			return r.fd, r.err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return -1, errContext
		case <-end.C:
			return -1, unix.ETIMEDOUT
		}
	}
}

type connected struct {
	fd  int
	err error
}

// discard waits for a result that nobody wants any more.
func discard(result <-chan connected) {
	if r := <-result; r.err == nil {
		unix.Close(r.fd)
	}
}

// tryUnix makes one attempt. A path that is too long for an address goes by way of a descriptor.
func tryUnix(dir, name string, typ int) (int, error) {
	path := dir + "/" + name
	if len(path) > maxUnixPath {
		target, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer unix.Close(target)
		path = "/proc/self/fd/" + strconv.Itoa(target)
	}
	fd, err := unix.Socket(unix.AF_UNIX, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
