package session

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/convoke-fs/convoke/cluster/ring"
)

const (
	readBytes  = 64 << 10 // one read of a socket, at most
	plainBytes = 16 << 10 // one record of TLS
)

// link is a connection that carries frames, encrypted or with checksums.
type link struct {
	conn net.Conn
	raw  syscall.RawConn // nil: no socket
	wire *wire
	tls  *tls.Conn // nil: plain
	in   frameReader
}

// newLink makes a link of a connection. With TLS its greeting follows at the
// first frame in either direction.
func (m *Manager) newLink(conn net.Conn, client bool) *link {
	l := &link{conn: conn, raw: rawConn(conn)}
	l.wire = &wire{Conn: conn, bytes: &m.counts.bytes, onRead: func() {}}
	tune(l.raw)
	l.in = frameReader{max: maxGreeting, sum: m.tls == nil}
	switch {
	case m.tls == nil:
		l.in.r = bufio.NewReaderSize(l.wire, readBytes)
		return l
	case client:
		l.tls = tls.Client(l.wire, m.tls)
	default:
		l.tls = tls.Server(l.wire, m.tls)
	}
	l.wire.buf = make([]byte, readBytes)
	l.in.r = bufio.NewReaderSize(l.tls, plainBytes)
	return l
}

// greet does what TLS needs before frames can travel.
func (l *link) greet() error {
	if l.tls == nil {
		return nil
	}
	return l.tls.Handshake()
}

// writeNow writes a frame and waits until it is written; for greetings.
func (l *link) writeNow(typ ring.Type, body []byte) error {
	f := newFrame(typ, body)
	if l.tls != nil {
		_, err := l.tls.Write(f)
		return err
	}
	_, err := l.wire.Write(appendSum(f, f))
	return err
}

// speaksFor tells whether the certificate of the other side is that of a node.
// Its first name is the same in all.
func (l *link) speaksFor(name string) bool {
	if l.tls == nil {
		return true
	}
	certs := l.tls.ConnectionState().PeerCertificates
	return len(certs) > 0 && len(certs[0].DNSNames) > 1 && slices.Contains(certs[0].DNSNames[1:], name)
}

// addrOf gives the address of the other side; all that have none count as one.
func addrOf(c net.Conn) netip.AddrPort {
	ap, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
