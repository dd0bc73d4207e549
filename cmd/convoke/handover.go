package main

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The protocol of send and recv, as convoke-serve(1) tells it to other
// programs: one message with the descriptors, one byte as the answer, 0 or an
// errno.

// maxFDs is how many descriptors one message may carry (SCM_MAX_FD in the
// kernel's include/net/scm.h).
const maxFDs = 253

// handOver passes descriptors by a connected AF_UNIX socket, which is in Go's
// poller, and waits for the receiver's answer until the socket's deadline. The
// error is the receiver's errno, ECONNRESET when he has gone without an
// answer, or ETIMEDOUT.
func handOver(sock *os.File, fds []int) error {
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = unix.Sendmsg(int(fd), []byte{0}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		return failed != unix.EAGAIN
	})
	if err = errors.Join(err, failed); err != nil {
		return plainErrno(err)
	}
	var answer [1]byte
	switch _, err = io.ReadFull(sock, answer[:]); {
	case errors.Is(err, io.EOF):
		return syscall.ECONNRESET
	case err != nil:
		return plainErrno(err)
	case answer[0] != 0:
		return syscall.Errno(answer[0])
	}
	return nil
}

// plainErrno returns the errno in err, ETIMEDOUT for the end of a deadline,
// else err.
func plainErrno(err error) error {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, os.ErrDeadlineExceeded):
		return syscall.ETIMEDOUT
	}
	return err
}

// waitMessage waits until something can be read from the socket, or its
// deadline. It takes nothing from it. io.EOF: the other side has closed.
func waitMessage(sock *os.File) error {
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, _, failed = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	switch {
	case err != nil:
		return plainErrno(err)
	case failed != nil:
		return failed
	case n == 0:
		return io.EOF
	}
	return nil
}

// takeOver takes the message that waits and returns its descriptors, at least
// one and at most most of them. Else all are closed: EINVAL, there is none;
// E2BIG, there are more. Further descriptors are never taken: the kernel
// closes them with the socket.
func takeOver(sock *os.File, most int) (fds []int, err error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	data, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*most))
	var length, flags int
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			_, length, flags, _, failed = unix.Recvmsg(int(fd), data, control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			if failed != unix.EINTR {
				return
			}
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, plainErrno(err)
	}
	fds, err = rights(control[:length])
	switch {
	case err != nil:
	case flags&unix.MSG_CTRUNC != 0, len(fds) > most:
		// Room for one lets two in, by alignment.
		err = syscall.E2BIG
	case len(fds) == 0:
		err = syscall.EINVAL
	default:
		return fds, nil
	}
	closeAll(fds)
	return nil, err
}

// rights returns the descriptors in control messages, those before one that is
// malformed too. It does so itself, since x/sys's panics for a piece of one.
func rights(control []byte) (fds []int, err error) {
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return fds, err
		}
		for header.Level == unix.SOL_SOCKET && header.Type == unix.SCM_RIGHTS && len(data) >= 4 {
			fds = append(fds, int(int32(binary.NativeEndian.Uint32(data))))
			data = data[4:]
		}
		control = rest
	}
	return fds, nil
}

// closeAll closes descriptors.
func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// answer tells the sender how it went, and does not wait for him.
func answer(sock *os.File, err error) {
	code := byte(0)
	if err != nil {
		code = byte(syscall.EIO)
		var errno syscall.Errno
		if errors.As(err, &errno) && errno > 0 && errno < 256 {
			code = byte(errno)
		}
	}
	_ = sock.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = sock.Write([]byte{code}) // who has gone need not know
}
