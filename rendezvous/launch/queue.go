package launch

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// queued returns how many connected clients wait at a listening socket to be accepted.
func queued(fd int) (int, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return 0, err
	}
	if domain == unix.AF_UNIX {
		return queuedUnix(fd)
	}
	// Of a listening socket the kernel gives the accept queue there (net/ipv4/tcp.c, tcp_get_info).
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, err
	}
	return int(info.Unacked), nil
}

// The parts of linux/sock_diag.h and linux/unix_diag.h that x/sys does not have.
const (
	udiagShowRqlen = 0x10
	unixDiagRqlen  = 4
	unixDiagReq    = 24
	unixDiagMsg    = 16
)

// queuedUnix asks the kernel's sock_diag(7), the only one that tells it of an AF_UNIX socket.
func queuedUnix(fd int) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, err
	}
	defer unix.Close(nl)
	if err := unix.Sendto(nl, unixQuery(uint32(st.Ino)), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	// The kernel has answered before sendto(2) returns.
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(nl, answer, 0)
	if err != nil {
		return 0, err
	}
	return parseUnixQueue(answer[:n], uint32(st.Ino))
}

// unixQuery asks for the socket whose inode has that number.
func unixQuery(ino uint32) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+unixDiagReq)
	e := binary.NativeEndian
	e.PutUint32(b[0:], uint32(len(b)))
	e.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	e.PutUint16(b[6:], unix.NLM_F_REQUEST)
	req := b[unix.SizeofNlMsghdr:]
	req[0] = unix.AF_UNIX
	e.PutUint32(req[4:], anyOf) // sockets in all states
	e.PutUint32(req[8:], ino)
	e.PutUint32(req[12:], udiagShowRqlen)
	e.PutUint32(req[16:], anyOf) // any cookie
	e.PutUint32(req[20:], anyOf)
	return b
}

const anyOf = 1<<32 - 1

var errNoAnswer = errors.New("sock_diag gives no answer")

// parseUnixQueue reads the answer to unixQuery.
func parseUnixQueue(b []byte, ino uint32) (int, error) {
	e := binary.NativeEndian
	if len(b) < unix.SizeofNlMsghdr+4 {
		return 0, errNoAnswer
	}
	size, kind := e.Uint32(b), e.Uint16(b[4:])
	if uint64(size) > uint64(len(b)) || size < unix.SizeofNlMsghdr+4 {
		return 0, errNoAnswer
	}
	b = b[unix.SizeofNlMsghdr:size]
	switch kind {
	case unix.NLMSG_ERROR:
		if errno := -int32(e.Uint32(b)); errno > 0 {
			return 0, unix.Errno(errno)
		}
		return 0, errNoAnswer
	case unix.SOCK_DIAG_BY_FAMILY:
	default:
		return 0, errNoAnswer
	}
	if len(b) < unixDiagMsg || e.Uint32(b[4:]) != ino {
		return 0, errNoAnswer
	}
	for b = b[unixDiagMsg:]; len(b) >= 4; {
		n := int(e.Uint16(b))
		if n < 4 || n > len(b) {
			break
		}
		if e.Uint16(b[2:]) == unixDiagRqlen && n >= 8 {
			return int(e.Uint32(b[4:])), nil
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return 0, errNoAnswer
}
