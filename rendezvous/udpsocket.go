package rendezvous

import (
	"encoding/binary"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// datagramBatch is how many datagrams are read before others have a turn.
const datagramBatch = 64

// udpSocket is the socket of a UDP service at one of its addresses.
type udpSocket struct {
	x     *demux
	addr  netip.AddrPort
	file  *os.File
	conn  syscall.RawConn
	ended chan struct{}

	waiting atomic.Bool // somebody waits until it can be written to
}

// newUDPSocket takes fd, in any case.
func newUDPSocket(x *demux, fd int, addr netip.AddrPort) (*udpSocket, error) {
	// When a datagram came to this host: see udpClaims.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		unix.Close(fd)
		return nil, err
	}
	file, conn, err := waitable(fd, "udp")
	if err != nil {
		return nil, err
	}
	return &udpSocket{x: x, addr: addr, file: file, conn: conn, ended: make(chan struct{})}, nil
}

func (s *udpSocket) close() {
	close(s.ended)
	s.file.Close()
}

func (s *udpSocket) serve() {
	buf, oob := make([]byte, 1<<16), make([]byte, 256)
	backOff(s.conn, s.ended, func() error {
		for range datagramBatch {
			var n int
			var from netip.AddrPort
			var sent time.Time
			var failure error
			err := s.conn.Control(func(fd uintptr) { n, from, sent, failure = receive(int(fd), buf, oob) })
			switch {
			case err != nil:
				return err
			case failure == unix.EAGAIN:
				return nil
			case failure == unix.ENOMEM || failure == unix.ENOBUFS:
				return failure
			case failure != nil || !from.IsValid():
				continue // EINTR, or an ICMP message about some datagram that was sent
			}
			s.x.arrive(s, from, buf[:n], s.x.claims.find(remote{from, s.addr}, sent))
		}
		return nil
	}, func(error) {})
}

// receive reads one datagram.
func receive(fd int, buf, oob []byte) (n int, from netip.AddrPort, sent time.Time, err error) {
	n, oobn, _, sa, err := unix.Recvmsg(fd, buf, oob, unix.MSG_DONTWAIT)
	if err != nil {
		return 0, from, sent, err
	}
	return n, unmap(addrPort(sa)), timestamp(oob[:oobn]), nil
}

// timestamp returns when a datagram came to this host; the zero time, which is before all claims, if that is not told.
func timestamp(oob []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return time.Time{}
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			ne := binary.NativeEndian
			return time.Unix(int64(ne.Uint64(m.Data)), int64(ne.Uint64(m.Data[8:])))
		}
	}
	return time.Time{}
}

func (s *udpSocket) send(p []byte, to netip.AddrPort) error {
	sa, _, err := sockaddr(to)
	if err != nil {
		return err
	}
	failure := error(unix.EPIPE)
	if s.conn.Control(func(fd uintptr) { failure = unix.Sendto(int(fd), p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, sa) }) != nil {
		return unix.EPIPE // closed
	}
	return failure
}

// awaitRoom lets those be told that could not write, as soon as they can.
func (s *udpSocket) awaitRoom() {
	if !s.waiting.CompareAndSwap(false, true) {
		return
	}
	go func() {
		err := s.conn.Write(func(fd uintptr) bool { return writable(int(fd)) })
		s.waiting.Store(false)
		if err == nil {
			s.x.roomAgain(s)
		}
	}()
}
