package main

import (
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// maxDatagram is the most that a UDP datagram can hold over IPv4.
const maxDatagram = 65507

// socket is a connected socket of connect. It is non-blocking, and who reads
// or writes waits in poll(2): one goroutine for each direction, which the
// process has time for, and which nobody has to stop but at its end. Read and
// Write may be called at once, and Close at any time.
type socket struct {
	fd    int
	path  rendezvous.Path
	ended atomic.Bool // Close was called
}

// Read reads what has come; over udp, one datagram.
func (s *socket) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(s.fd, p)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			if err := wait(s.fd, unix.POLLIN); err != nil {
				return 0, s.failed("read", err)
			}
		case err != nil:
			return 0, s.failed("read", err)
		case n > 0:
			return n, nil
		case s.path.Proto != rendezvous.UDP || s.ended.Load():
			return 0, io.EOF
		}
		// An empty datagram is no end.
	}
}

// Write writes all of p; over udp, as one datagram.
func (s *socket) Write(p []byte) (n int, err error) {
	for n < len(p) {
		more, err := unix.SendmsgN(s.fd, p[n:], nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			if err := wait(s.fd, unix.POLLOUT); err != nil {
				return n, s.failed("write", err)
			}
		case err != nil:
			return n, s.failed("write", err)
		}
		n += max(more, 0)
	}
	return n, nil
}

// CloseWrite tells the other side that nothing more will be written. A
// datagram socket has no end to tell.
func (s *socket) CloseWrite() error {
	if s.path.Proto == rendezvous.UDP {
		return nil
	}
	err := unix.Shutdown(s.fd, unix.SHUT_WR)
	if err == unix.ENOTCONN {
		// The other side has cut the connection, which whoever reads is told.
		return nil
	}
	return s.failed("shutdown", err)
}

// Close ends the connection both ways, which ends a Read that waits. The
// descriptor is closed by the end of the process: until then nobody else gets
// its number while one of the two still uses it.
func (s *socket) Close() error {
	s.ended.Store(true)
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	return nil
}

// failed returns err with what was tried.
func (s *socket) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return &rendezvous.Error{Op: op, Path: s.path.String(), Kind: rendezvous.KindOf(err), Err: err}
}

// wait waits until fd is ready for events, or has an error to tell.
func wait(fd int, events int16) error {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, -1)
		if err != unix.EINTR {
			return err
		}
	}
}
