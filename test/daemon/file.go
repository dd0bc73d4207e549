package daemon

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Open opens a file of the tree by plain open(2), as root and on the node's host, within Bound.
func (n *Node) Open(name string, flags int) (fd int, err error) {
	n.t.Helper()
	open := func() {
		fd, err = retry(func() (int, error) { return unix.Open(n.Path(name), flags|unix.O_CLOEXEC, 0) })
	}
	Within(n.t, Bound, "open "+name, func() {
		if n.opts.Host != nil {
			n.opts.Host.In(open)
		} else {
			open()
		}
	})
	return fd, err
}

// A File is an open file of the tree whose calls block, each with a goroutine of its own.
type File struct {
	t    testing.TB
	Name string
	FD   int
}

// MustOpen is Open for a test that goes on only if it succeeds; the file is closed at the test's end.
func (n *Node) MustOpen(name string, flags int) *File {
	n.t.Helper()
	fd, err := n.Open(name, flags)
	if err != nil {
		n.t.Fatalf("open %s: %v", name, err)
	}
	f := &File{n.t, name, fd}
	n.t.Cleanup(f.Close)
	return f
}

// Close closes it; again does nothing.
func (f *File) Close() {
	if f.FD >= 0 {
		unix.Close(f.FD)
		f.FD = -1
	}
}

// A Done is the outcome of one read(2) or write(2).
type Done struct {
	N    int
	Data string // what was read
	Err  error
}

// Read begins read(2) of size bytes.
func (f *File) Read(size int) <-chan Done {
	c, fd := make(chan Done, 1), f.FD
	go func() {
		b := make([]byte, size)
		n, err := retry(func() (int, error) { return unix.Read(fd, b) })
		c <- Done{n, string(b[:max(n, 0)]), err}
	}()
	return c
}

// Fill begins to write until a write(2) fails, and sends that.
func (f *File) Fill() <-chan Done {
	c, fd := make(chan Done, 1), f.FD
	go func() {
		b := make([]byte, 256<<10)
		for {
			if n, err := retry(func() (int, error) { return unix.Write(fd, b) }); err != nil {
				c <- Done{N: n, Err: err}
				return
			}
		}
	}()
	return c
}

// Wait returns what comes, and ends the test when nothing does within d.
func Wait[T any](t testing.TB, d time.Duration, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(d):
		t.Fatalf("%s: nothing after %v", what, d)
	}
	panic("unreachable")
}

// Want reads from f until it has text, and fails the test if something else comes.
func (f *File) Want(text string) {
	f.t.Helper()
	got := ""
	for len(got) < len(text) {
		r := Wait(f.t, Bound, "read "+f.Name, f.Read(len(text)-len(got)))
		if r.Err != nil || r.N == 0 {
			f.t.Fatalf("%s: got %q, then %v; want %q", f.Name, got, r.Err, text)
		}
		got += r.Data
	}
	if got != text {
		f.t.Errorf("%s: got %q, want %q", f.Name, got, text)
	}
}

// Send writes text by one write(2).
func (f *File) Send(text string) {
	f.t.Helper()
	c, fd := make(chan Done, 1), f.FD
	go func() {
		n, err := retry(func() (int, error) { return unix.Write(fd, []byte(text)) })
		c <- Done{N: n, Err: err}
	}()
	if r := Wait(f.t, Bound, "write "+f.Name, c); r.Err != nil || r.N != len(text) {
		f.t.Fatalf("%s: write of %d bytes: got %d, %v", f.Name, len(text), r.N, r.Err)
	}
}

// retry makes a call again that one of the Go runtime's signals has interrupted.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// Echo sends text to c from f and back.
func (f *File) Echo(c io.ReadWriter, text string) {
	f.t.Helper()
	f.Send(text)
	var b strings.Builder
	Within(f.t, Bound, "read at the server", func() { io.CopyN(&b, c, int64(len(text))) })
	if b.String() != text {
		f.t.Fatalf("%s: the server got %q, want %q", f.Name, b.String(), text)
	}
	if _, err := io.WriteString(c, text); err != nil {
		f.t.Fatal(err)
	}
	f.Want(text)
}
