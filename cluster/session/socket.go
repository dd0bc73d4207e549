package session

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lowat is how much unsent data the kernel holds for a socket: with more of
	// it in our own queue, control frames need not wait behind megabytes.
	lowat = 128 << 10

	// userTimeout ends a connection whose data nobody acknowledges. It counts
	// windows that the peer has closed, too, so it is longer than a peer may be
	// busy; silence is judged much earlier.
	userTimeout = 10 * time.Second
)

// rawConn gives the socket of c, nil when it has none.
func rawConn(c net.Conn) syscall.RawConn {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// tune sets the options of a socket. None of them is needed to be right, so one
// that the kernel does not know is left out.
func tune(raw syscall.RawConn) {
	if raw == nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, lowat)
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond))
	})
}

// abort lets a close tell the peer at once, and forget what it has not read.
func abort(raw syscall.RawConn) {
	if raw == nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
}

// shut ends both directions, so that whoever waits for the socket goes on. The
// socket stays open: closing it waits for them.
func shut(raw syscall.RawConn) {
	raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_RDWR) })
}

// look tells whether bytes wait to be read, and whether the peer has closed its
// side or is gone. A connection without a socket tells neither.
func look(raw syscall.RawConn) (unread, hung bool) {
	if raw == nil {
		return false, false
	}
	raw.Control(func(fd uintptr) {
		if n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
			unread = n > 0
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, err := unix.Poll(fds, 0); err == nil && n > 0 {
			hung = fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
		}
	})
	return unread, hung
}

// writeSome writes what the socket takes without waiting.
func writeSome(fd int, bufs [][]byte) (int, error) {
	for {
		var n int
		var err error
		if len(bufs) == 1 {
			n, err = unix.Write(fd, bufs[0])
		} else {
			n, err = unix.Writev(fd, bufs)
		}
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
