package rendezvous

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// sockInfo is what the kernel tells of one of this network namespace's TCP sockets (linux/inet_diag.h).
type sockInfo struct {
	local, remote netip.AddrPort
	uid           uint32 // of the file of the socket
	inode         uint32 // 0: no process has it open
	state         uint8  // as in TCP_INFO
}

var errDiag = errors.New("malformed answer of sock_diag")

// overflowUID is how the kernel shows a uid that the own user namespace does not have: it stands for nobody.
const overflowUID = 65534

// socketUID returns whose TCP socket of this network namespace is connected from one address to another: NoID where
// there is none, and for root, since what other namespaces and programs do as root must never pass for root's proof.
func socketUID(from, to netip.AddrPort) uint32 {
	s, err := lookupSocket(from, to)
	const established, finWait1, finWait2 = 1, 4, 5 // net/tcp_states.h
	connected := s.state == established || s.state == finWait1 || s.state == finWait2
	if err != nil || !connected || s.inode == 0 || s.uid == 0 || s.uid == overflowUID {
		return NoID
	}
	return s.uid
}

// openSocket tells whether some process of this network namespace holds the socket.
func openSocket(from, to netip.AddrPort) bool {
	s, err := lookupSocket(from, to)
	return err == nil && s.inode != 0
}

// lookupSocket asks for the TCP socket that is bound to local and connected to remote. The kernel answers at once, with
// ENOENT where there is none. It needs no privilege.
func lookupSocket(local, remote netip.AddrPort) (sockInfo, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return sockInfo{}, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, diagRequest(local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return sockInfo{}, err
	}
	var buf [4096]byte
	n, from, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT) // the answer was queued by the request
	if err != nil {
		return sockInfo{}, err
	}
	if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
		return sockInfo{}, errDiag // not from the kernel
	}
	s, err := parseDiag(buf[:n])
	if err != nil {
		return sockInfo{}, err
	}
	// The kernel gives a listening socket too, where there is no better one.
	if s.local != unmap(local) || s.remote != unmap(remote) {
		return sockInfo{}, unix.ENOENT
	}
	return s, nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

const (
	diagHeader = 16 // struct nlmsghdr
	diagID     = 48 // struct inet_diag_sockid
	diagAsk    = diagHeader + 8 + diagID
	diagAnswer = diagHeader + 4 + diagID + 20
)

// diagRequest is a struct inet_diag_req_v2 for one socket.
func diagRequest(local, remote netip.AddrPort) []byte {
	b := make([]byte, diagAsk)
	ne, be := binary.NativeEndian, binary.BigEndian
	ne.PutUint32(b[0:], uint32(len(b)))
	ne.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	local, remote = unmap(local), unmap(remote)
	b[16], b[17] = unix.AF_INET, unix.IPPROTO_TCP
	if local.Addr().Is6() {
		b[16] = unix.AF_INET6
	}
	ne.PutUint32(b[20:], ^uint32(0)) // any state
	id := b[24:]
	be.PutUint16(id[0:], local.Port())
	be.PutUint16(id[2:], remote.Port())
	copy(id[4:20], local.Addr().AsSlice())
	copy(id[20:36], remote.Addr().AsSlice())
	ne.PutUint64(id[40:], ^uint64(0)) // whatever cookie
	return b
}

// parseDiag reads an answer: one struct inet_diag_msg, or an error.
func parseDiag(b []byte) (s sockInfo, err error) {
	ne, be := binary.NativeEndian, binary.BigEndian
	if len(b) < diagHeader {
		return s, errDiag
	}
	size, kind := ne.Uint32(b[0:]), ne.Uint16(b[4:])
	if uint64(size) > uint64(len(b)) {
		return s, errDiag
	}
	b = b[:size]
	if kind == unix.NLMSG_ERROR && len(b) >= diagHeader+4 {
		n := int32(ne.Uint32(b[diagHeader:]))
		if n >= 0 || n < -4095 {
			return s, errDiag
		}
		return s, unix.Errno(-n)
	}
	if kind != unix.SOCK_DIAG_BY_FAMILY || len(b) < diagAnswer {
		return s, errDiag
	}
	m := b[diagHeader:]
	id := m[4:]
	addr := func(b []byte) netip.Addr {
		if m[0] == unix.AF_INET {
			return netip.AddrFrom4([4]byte(b[:4]))
		}
		return netip.AddrFrom16([16]byte(b[:16])).Unmap()
	}
	if m[0] != unix.AF_INET && m[0] != unix.AF_INET6 {
		return s, errDiag
	}
	s.state = m[1]
	s.local = netip.AddrPortFrom(addr(id[4:]), be.Uint16(id[0:]))
	s.remote = netip.AddrPortFrom(addr(id[20:]), be.Uint16(id[2:]))
	s.uid = ne.Uint32(m[4+diagID+12:])
	s.inode = ne.Uint32(m[4+diagID+16:])
	return s, nil
}
