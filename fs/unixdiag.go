package fs

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel's answers about AF_UNIX sockets: linux/unix_diag.h and linux/sock_diag.h.
const (
	sizeNlHeader     = 16 // struct nlmsghdr
	sizeUnixDiagReq  = 24 // struct unix_diag_req
	sizeUnixDiagMsg  = 16 // struct unix_diag_msg
	sizeUnixDiagVFS  = 8  // struct unix_diag_vfs
	sizeRtAttr       = 4  // struct rtattr
	unixDiagVFS      = 1  // UNIX_DIAG_VFS
	unixDiagShowVFS  = 2  // UDIAG_SHOW_VFS
	tcpEstablished   = 1
	tcpListen        = 10
	diagAnswerTime   = time.Second
	diagAnswerBuffer = 64 << 10
)

// unixSocket is what the kernel tells of one.
type unixSocket struct {
	kind, state uint8
	number      uint32 // of the socket itself
	bound       bool   // to a name in a file system:
	dev, ino    uint32 // the name's device and the low half of its inode number
}

// serves tells whether clients can come by the socket's name. The sockets that a server has accepted have the name of the
// listening one, and nobody comes by them.
func (s unixSocket) serves() bool {
	return s.bound && (s.state != tcpEstablished || s.kind == unix.SOCK_DGRAM)
}

// boundSockets returns the numbers of the sockets of this network namespace that serve a name.
func boundSockets(dev, ino uint32) ([]uint32, error) {
	var numbers []uint32
	err := askUnixDiag(unix.NLM_F_DUMP, 0, func(s unixSocket) {
		if s.serves() && s.dev == dev && s.ino == ino {
			numbers = append(numbers, s.number)
		}
	})
	return numbers, err
}

// socketExists tells whether there is a socket of that number that serves a name. It is true when the kernel cannot say.
func socketExists(number uint32) bool {
	found := false
	err := askUnixDiag(0, number, func(s unixSocket) { found = found || s.number == number && s.serves() })
	return found || err != nil && !errors.Is(err, unix.ENOENT)
}

// askUnixDiag asks for one socket or, with NLM_F_DUMP, for all. The kernel answers while it is asked; nothing is waited
// for.
func askUnixDiag(flags uint16, number uint32, each func(unixSocket)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	bound := unix.NsecToTimeval(diagAnswerTime.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &bound); err != nil {
		return err
	}
	if err := unix.Sendto(fd, unixDiagRequest(flags, number), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, diagAnswerBuffer)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
			continue // not from the kernel
		}
		done, err := parseUnixDiag(buf[:n], each)
		if done || err != nil || flags&unix.NLM_F_DUMP == 0 {
			return err
		}
	}
}

func unixDiagRequest(flags uint16, number uint32) []byte {
	b := make([]byte, 0, sizeNlHeader+sizeUnixDiagReq)
	e := binary.NativeEndian
	b = e.AppendUint32(b, sizeNlHeader+sizeUnixDiagReq)
	b = e.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = e.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = e.AppendUint32(b, 1) // sequence number
	b = e.AppendUint32(b, 0) // to the kernel
	b = append(b, unix.AF_UNIX, 0, 0, 0)
	b = e.AppendUint32(b, 1<<32-1) // sockets of all states
	b = e.AppendUint32(b, number)
	b = e.AppendUint32(b, unixDiagShowVFS)
	return e.AppendUint64(b, 1<<64-1) // INET_DIAG_NOCOOKIE twice
}

// parseUnixDiag reads the messages of one answer. done: it was the last one.
func parseUnixDiag(b []byte, each func(unixSocket)) (done bool, err error) {
	e := binary.NativeEndian
	for len(b) >= sizeNlHeader {
		size := int(e.Uint32(b))
		if size < sizeNlHeader || size > len(b) {
			return false, unix.EBADMSG
		}
		body := b[sizeNlHeader:size]
		switch e.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return false, unix.EBADMSG
			}
			if code := int32(e.Uint32(body)); code < 0 && code > -4096 {
				return true, unix.Errno(-code)
			}
			return true, nil
		case unix.SOCK_DIAG_BY_FAMILY:
			if len(body) < sizeUnixDiagMsg {
				return false, unix.EBADMSG
			}
			s := unixSocket{kind: body[1], state: body[2], number: e.Uint32(body[4:])}
			s.attributes(body[sizeUnixDiagMsg:])
			each(s)
		}
		b = b[min(align4(size), len(b)):]
	}
	return false, nil
}

func (s *unixSocket) attributes(b []byte) {
	e := binary.NativeEndian
	for len(b) >= sizeRtAttr {
		size := int(e.Uint16(b))
		if size < sizeRtAttr || size > len(b) {
			return
		}
		if e.Uint16(b[2:]) == unixDiagVFS && size >= sizeRtAttr+sizeUnixDiagVFS {
			s.bound, s.ino, s.dev = true, e.Uint32(b[4:]), e.Uint32(b[8:])
		}
		b = b[min(align4(size), len(b)):]
	}
}

func align4(n int) int { return (n + 3) &^ 3 }
