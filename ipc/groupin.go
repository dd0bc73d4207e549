package ipc

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// The buffer for records grows from groupBuffer to groupBufferMax while reads fill it.
	groupBuffer    = 16 << 10
	groupBufferMax = 256 << 10
	// A record that is larger than groupLarge and has not come whole gets memory of its own, which is used again while
	// it is not larger than groupLargeKept.
	groupLarge     = 128 << 10
	groupLargeKept = 2 << 20
)

// groupIn is what a client receives of its membership.
type groupIn struct {
	own  Process // whose messages are counted as received
	file *os.File
	raw  syscall.RawConn
	out  *groupOut
	lock chan struct{} // holds one while somebody receives

	// Guarded by lock.
	buf        []byte // what was read
	begin, end int    // of what is not decoded yet
	large      []byte // the last large record
	rest       int    // so much of it has not come yet
	record     Record // of Receive
	failed     error  // final
	into       []byte // where readOnce reads to
	n          int
	failure    error
	read0      func(fd uintptr)      // is readOnce
	read1      func(fd uintptr) bool // is readOnce
}

func (in *groupIn) init(f *os.File, raw syscall.RawConn, out *groupOut) {
	in.file, in.raw, in.out, in.lock = f, raw, out, make(chan struct{}, 1)
	in.read0, in.read1 = func(fd uintptr) { in.readOnce(fd) }, in.readOnce
}

func (in *groupIn) readOnce(fd uintptr) bool {
	in.n, in.failure = readNow(int(fd), in.into)
	return in.failure != unix.EAGAIN
}

// acquire has this caller receive, as soon as no other does.
func (in *groupIn) acquire(ctx context.Context) error {
	select {
	case in.lock <- struct{}{}:
		return nil
	default:
	}
	select {
	case in.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errContext
	}
}

func (in *groupIn) release() { <-in.lock }

// buffered tells whether a whole record is there.
func (in *groupIn) buffered() bool {
	size, _, ok := feedFrame(in.buf[in.begin:in.end])
	return ok && padded(size) <= in.end-in.begin
}

// next makes r the next record. r.Data is valid until the next call. It is called with lock held.
func (in *groupIn) next(ctx context.Context, r *Record) error {
	for {
		if in.failed != nil {
			return in.failed
		}
		kind, b, err := in.frame(ctx)
		if err != nil {
			if err != errContext {
				in.stop(err)
			}
			return err
		}
		ended, errno, err := r.decode(kind, b)
		switch {
		case err != nil:
			err = errMalformedFeed
		case ended && errno == 0:
			err = io.EOF
		case ended:
			err = endedBy(errno)
		case r.Kind == MessageRecord:
			if r.From == in.own {
				in.out.back()
			}
			return nil
		case r.Kind != 0:
			return nil
		default:
			continue // a kind of a later version
		}
		in.stop(err)
		return err
	}
}

var errMalformedFeed = worded{"the daemon's record is malformed", unix.EPROTO}

// stop makes err the end.
func (in *groupIn) stop(err error) {
	in.failed = err
	if err == io.EOF {
		err = unix.EPIPE
	}
	in.out.end(err)
}

// frame returns the next record, without what fills it up.
func (in *groupIn) frame(ctx context.Context) (kind uint16, b []byte, err error) {
	for in.rest == 0 {
		size, kind, ok := feedFrame(in.buf[in.begin:in.end])
		switch {
		case ok && (size < feedHeader || size > maxFeedRecord):
			return 0, nil, errMalformedFeed
		case ok && padded(size) <= in.end-in.begin:
			b := in.buf[in.begin : in.begin+size]
			in.begin += padded(size)
			return kind, b, nil
		case ok && size > groupLarge:
			if cap(in.large) < padded(size) || cap(in.large) > max(padded(size), groupLargeKept) {
				in.large = make([]byte, padded(size))
			}
			in.large = in.large[:padded(size)]
			in.rest = len(in.large) - copy(in.large, in.buf[in.begin:in.end])
			in.begin, in.end = 0, 0
		default:
			if err := in.fill(ctx, padded(size)); err != nil {
				return 0, nil, err
			}
		}
	}
	for in.rest > 0 {
		n, err := in.read(ctx, in.large[len(in.large)-in.rest:])
		if err != nil {
			return 0, nil, err
		}
		in.rest -= n
	}
	size, kind, _ := feedFrame(in.large)
	return kind, in.large[:size], nil
}

// fill reads more into buf, which gets room for need bytes.
func (in *groupIn) fill(ctx context.Context, need int) error {
	rest := in.buf[in.begin:in.end]
	size := len(in.buf)
	if in.end == size { // reads that fill the buffer say that there is more to come
		size = min(max(2*size, groupBuffer), groupBufferMax)
	}
	if size = max(size, need); size > len(in.buf) {
		in.buf = make([]byte, size)
	}
	in.begin, in.end = 0, copy(in.buf, rest)
	n, err := in.read(ctx, in.buf[in.end:])
	in.end += n
	return err
}

// read reads something, and waits for it until ctx ends.
func (in *groupIn) read(ctx context.Context, p []byte) (int, error) {
	in.into = p
	err := in.raw.Control(in.read0)
	if err == nil && in.failure == unix.EAGAIN {
		err = in.wait(ctx)
	}
	in.into = nil
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, errContext
	case err != nil:
		return 0, net.ErrClosed
	case in.failure != nil:
		return 0, lostBy(in.failure)
	case in.n == 0:
		return 0, lost{unix.ECONNRESET}
	}
	return in.n, nil
}

// wait is the part of read that waits.
func (in *groupIn) wait(ctx context.Context) error {
	if ctx.Done() == nil {
		return in.raw.Read(in.read1)
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		in.file.SetReadDeadline(time.Unix(1, 0))
		close(done)
	})
	err := in.raw.Read(in.read1)
	if !stop() {
		<-done
		in.file.SetReadDeadline(time.Time{})
	}
	return err
}
