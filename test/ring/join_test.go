package ring

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/ipc"
)

// A membership is how a member is in a group: by package ipc, or by the file feed.
type membership interface {
	send(text []byte) error
	// next gives the next line of the feed. For a message it also gives its text, and the ring that it came with, where
	// that is told.
	next() (line, text []byte, ring string, err error)
	// leave ends it; what comes before that can still be had by next, until io.EOF.
	leave() error
}

// join joins. An error that wraps errNotYet may be another one a moment later.
func join(way, mount, group string) (membership, error) {
	if way == "feed" {
		return joinFeed(mount, group)
	}
	return joinClient(mount, group)
}

// byClient is a membership by package ipc.
type byClient struct {
	group *ipc.Group
	line  []byte
}

func joinClient(mount, group string) (membership, error) {
	tree, err := ipc.Locate(mount)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	c, err := tree.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close() // the membership stays
	g, err := c.Join(ctx, group, ipc.JoinOpts{Create: true})
	if err != nil {
		return nil, err
	}
	return &byClient{group: g}, nil
}

func (c *byClient) send(text []byte) error { return c.group.Send(context.Background(), text) }

func (c *byClient) next() (line, text []byte, ring string, err error) {
	r, err := c.group.Receive(context.Background())
	if err != nil {
		return nil, nil, "", err
	}
	if r.Kind == ipc.MessageRecord {
		from := fmt.Sprintf("%d %d", r.From.Node, r.From.PID)
		if r.From.N > 1 {
			from += fmt.Sprintf(".%d", r.From.N)
		}
		return []byte("msg " + from), r.Data, r.Ring.String(), nil
	}
	c.line = r.AppendText(c.line[:0])
	return bytes.TrimSuffix(c.line, []byte("\n")), nil, "", nil
}

func (c *byClient) leave() error { return c.group.Leave(context.Background()) }

// byFeed is a membership by the file feed.
type byFeed struct {
	fd    int
	lines *bufio.Reader
}

func joinFeed(mount, group string) (membership, error) {
	folder := filepath.Join(mount, "cluster/groups", group)
	if err := unix.Mkdir(folder, 0o755); err != nil && err != unix.EEXIST {
		return nil, &os.PathError{Op: "mkdir", Path: folder, Err: err}
	}
	fd, err := retry(func() (int, error) { return unix.Open(filepath.Join(folder, "feed"), unix.O_RDWR|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: folder + "/feed", Err: err}
	}
	return &byFeed{fd, bufio.NewReaderSize(plainFile(fd), 256<<10)}, nil
}

// plainFile reads a descriptor that Go's poller does not see, as a shell does.
type plainFile int

func (f plainFile) Read(p []byte) (int, error) {
	n, err := retry(func() (int, error) { return unix.Read(int(f), p) })
	if err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func (f *byFeed) send(text []byte) error {
	n, err := retry(func() (int, error) { return unix.Write(f.fd, text) })
	if err == nil && n != len(text) {
		err = fmt.Errorf("%d of %d bytes were written", n, len(text))
	}
	return err
}

func (f *byFeed) next() (line, text []byte, ring string, err error) {
	line, err = f.lines.ReadBytes('\n')
	if err != nil {
		if err == io.EOF && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, nil, "", err
	}
	line = line[:len(line)-1]
	if rest, ok := bytes.CutPrefix(line, []byte("msg ")); ok {
		node, rest, _ := bytes.Cut(rest, []byte(" "))
		pid, text, _ := bytes.Cut(rest, []byte(" "))
		return line[:4+len(node)+1+len(pid)], text, "", nil
	}
	return line, nil, "", nil
}

// leave closes the file. Nobody can read on from it.
func (f *byFeed) leave() error { return unix.Close(f.fd) }

// notYet tells whether a join may do better a moment later: the daemon is not there, or has no ring.
func notYet(err error) bool {
	for _, e := range []error{
		unix.ENOENT, unix.ENOTCONN, unix.ECONNREFUSED, unix.ECONNRESET, unix.ECONNABORTED, unix.ETIMEDOUT, unix.EAGAIN, unix.ENODEV, unix.ESHUTDOWN,
		unix.EHOSTUNREACH, unix.EIO, unix.EPIPE,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return strings.Contains(err.Error(), "no daemon")
}
