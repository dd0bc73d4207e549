package rendezvous

import (
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

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
	buf := make([]byte, 1<<16)
	backOff(s.conn, s.ended, func() error {
		for range datagramBatch {
			var n int
			var from netip.AddrPort
			var failure error
			err := s.conn.Control(func(fd uintptr) { n, from, failure = receive(int(fd), buf) })
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
			s.x.arrive(s, from, buf[:n])
		}
		return nil
	}, func(error) {})
}

// receive reads one datagram.
func receive(fd int, buf []byte) (n int, from netip.AddrPort, err error) {
	n, sa, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	if err != nil {
		return 0, from, err
	}
	return n, unmap(addrPort(sa)), nil
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
