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
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	// The file is O_NONBLOCK, so this does not wait.
	if closed := raw.Control(func(fd uintptr) { n, err = syscall.Read(int(fd), p) }); closed != nil {
		return 0, closed
	}
	switch {
	case err != nil:
		return 0, err
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// nameless tells whether err hides an errno: the poller calls a file "not
// pollable" for reading when the kernel answers POLLERR alone, as it does when
// the daemon has gone away, and has no exported name for that. Writes it tries.
func nameless(err error) bool {
	var errno syscall.Errno
	return err != nil && err != io.EOF && !errors.As(err, &errno) &&
		!errors.Is(err, os.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded)
}
