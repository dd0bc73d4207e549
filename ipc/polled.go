package ipc

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// reader is an open file of the tree whose errors are the house's.
type reader struct {
	io.ReadCloser
	name string // below the mount point
}

func (r reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err == io.EOF {
		return n, err
	}
	return n, failed("read", r.name, err)
}

// openStream opens a stream file with Go's poller, so that Close ends a read.
// The open itself is answered from memory and bounded.
func (t *Tree) openStream(name string, flags int) (*os.File, error) {
	opened := make(chan *os.File, 1)
	err := within(AnswerTime, func() error {
		f, err := os.OpenFile(t.path(name), flags, 0)
		if err == nil {
			opened <- f
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-opened, nil
}

// polled is a stream file in Go's poller. A read or write that waits holds no
// thread, and Close ends it.
type polled struct{ *os.File }

// Read is os.File's, with an errno where that has none.
func (f polled) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	if !nameless(err) {
		return n, err
	}
	n, errno := f.directly(func(fd int) (int, error) { return syscall.Read(fd, p) })
	switch {
	case errno != nil:
		return 0, errno
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write is os.File's, with an errno where that has none.
func (f polled) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if !nameless(err) {
		return n, err
	}
	more, errno := f.directly(func(fd int) (int, error) { return syscall.Write(fd, p[n:]) })
	if errno == nil && n+more < len(p) {
		errno = err
	}
	return n + max(more, 0), errno
}

// nameless tells whether err hides an errno: the poller calls a file "not
// pollable" when its daemon has gone away (the kernel answers POLLERR alone),
// and has no exported name for that.
func nameless(err error) bool {
	var errno syscall.Errno
	return err != nil && err != io.EOF && !errors.As(err, &errno) &&
		!errors.Is(err, os.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded)
}

// directly makes a system call on the file, which does not block, past the
// poller.
func (f polled) directly(call func(fd int) (int, error)) (n int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(fd uintptr) { n, err = call(int(fd)) })
	return n, errors.Join(controlErr, err)
}
