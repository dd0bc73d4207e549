package ipc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFDs is how many descriptors one answer may bring: the sockets of a udp service at all its addresses.
const maxFDs = 16

// errWoken says that wake was called.
var errWoken = errors.New("woken")

// socket is the client's end of a connection to the daemon. It is not in Go's poller: receive blocks its thread, which
// the kernel then wakes without detours.
type socket struct {
	file, event       *os.File // own the descriptors
	fileRaw, eventRaw syscall.RawConn

	// The buffers of whoever receives; that is one at a time.
	buf, rights []byte
}

// newSocket takes a connected socket over, also when it fails.
func newSocket(fd int) (*socket, error) {
	if err := unix.SetNonblock(fd, false); err != nil { // else package os puts it into Go's poller
		unix.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "the daemon's socket")
	n, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		file.Close()
		return nil, err
	}
	s := &socket{
		file: file, event: os.NewFile(uintptr(n), "event"),
		buf: make([]byte, maxFrame+1), rights: make([]byte, unix.CmsgSpace(maxFDs*4)),
	}
	var err2 error
	s.fileRaw, err = s.file.SyscallConn()
	s.eventRaw, err2 = s.event.SyscallConn()
	if err = errors.Join(err, err2); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close ends a receive too.
func (s *socket) close() {
	s.fileRaw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	s.file.Close()
	s.event.Close()
}

// wake makes the present or next receive return errWoken.
func (s *socket) wake() {
	s.eventRaw.Control(func(fd uintptr) { unix.Write(int(fd), []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
}

// hungUp tells whether the daemon has ended the connection.
func (s *socket) hungUp() bool {
	fds := []unix.PollFd{{}}
	s.fileRaw.Control(func(fd uintptr) {
		fds[0].Fd = int32(fd)
		unix.Poll(fds, 0)
	})
	return fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

// write sends one frame without waiting: EAGAIN when there is no room for it.
func (s *socket) write(b []byte) error {
	var failure error
	err := s.fileRaw.Control(func(fd uintptr) {
		for {
			_, failure = unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
			if failure != unix.EINTR {
				return
			}
		}
	})
	if err != nil {
		return net.ErrClosed
	}
	return failure
}

// receive waits for the next frame, or until wake is called, unless that does not matter.
func (s *socket) receive(wakes bool) (a answer, err error) {
	if !wakes {
		if s.fileRaw.Control(func(fd uintptr) { a, err = s.take(int(fd), 0) }) != nil {
			err = net.ErrClosed
		}
		return a, err
	}
	closed := s.eventRaw.Control(func(event uintptr) {
		if s.fileRaw.Control(func(fd uintptr) { a, err = s.receiveFrom(int(fd), int(event)) }) != nil {
			err = net.ErrClosed
		}
	})
	if closed != nil {
		err = net.ErrClosed
	}
	return a, err
}

func (s *socket) receiveFrom(fd, event int) (answer, error) {
	fds := [...]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(event), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds[:], -1); err != nil {
			if err == unix.EINTR {
				continue
			}
			return answer{}, err
		}
		if fds[1].Revents != 0 {
			unix.Read(event, make([]byte, 8))
			return answer{}, errWoken
		}
		a, err := s.take(fd, unix.MSG_DONTWAIT)
		if err != unix.EAGAIN {
			return a, err
		}
	}
}

// take is recvmsg(2) of one frame.
func (s *socket) take(fd, flags int) (answer, error) {
	for {
		n, oobn, flags, _, err := unix.Recvmsg(fd, s.buf, s.rights, unix.MSG_CMSG_CLOEXEC|flags)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return answer{}, err
		case n == 0:
			return answer{}, unix.ECONNRESET
		}
		return parseAnswer(s.buf[:n], s.rights[:oobn], flags)
	}
}

// answer is one answer; whoever takes it owns the descriptors.
type answer struct {
	header
	body []byte
	fds  []int
}

func (a answer) close() {
	for _, fd := range a.fds {
		unix.Close(fd)
	}
}

// parseAnswer takes one message of the socket apart, and keeps nothing of frame. After an error all its descriptors are
// closed.
func parseAnswer(frame, control []byte, flags int) (answer, error) {
	a := answer{fds: descriptors(control)}
	d := decoder{b: frame}
	a.header = d.header()
	if d.err != nil || len(frame) > maxFrame {
		a.close()
		return answer{}, fmt.Errorf("malformed answer: %w", unix.EPROTO)
	}
	a.body = append([]byte(nil), d.b...)
	if int(a.count) != len(a.fds) {
		a.close()
		if flags&unix.MSG_CTRUNC == 0 {
			return answer{}, fmt.Errorf("an answer without its descriptors: %w", unix.EPROTO)
		}
		// The kernel delivers no more descriptors than this process may have. Those of this answer are gone; the
		// connection goes on.
		a.fds, a.count, a.errno, a.body = nil, 0, uint32(unix.EMFILE), nil
	}
	return a, nil
}

// descriptors returns those in control messages.
func descriptors(control []byte) (fds []int) {
	if len(control) == 0 {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for i := range messages {
		if more, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, more...)
		}
	}
	return fds
}
