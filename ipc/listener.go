package ipc

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

var _ net.Listener = (*Listener)(nil)

// Listener is a service that this process has announced. It ends with Close, or with its Client. The methods may be
// called from many goroutines.
type Listener struct {
	c    *Client
	what announced

	slots  chan struct{} // holds a place for each ACCEPT that the daemon has
	late   chan answer   // clients that came for an accept whose ctx had ended; has room for all slots
	closed chan struct{} // closed by Close
	close  func() error
}

// Announce announces path: dev/tcp/local/SERVICE or dev/fdp/local/SERVICE, with options, without create. Clients wait in
// the daemon until they are accepted, at most rendezvous.MaxWaiting; further ones are refused.
//
// Errors are *rendezvous.Error with the errno that open(2) of the path with create would give: EADDRINUSE, EACCES,
// EROFS, ENOSPC, ...; EOPNOTSUPP for udp, see [Client.AnnounceUDP]; as for OpenFD when ctx ends or the daemon has gone.
func (c *Client) Announce(ctx context.Context, path string) (*Listener, error) {
	p, err := rendezvous.Parse(path)
	if err != nil {
		return nil, err
	}
	if p.Proto == rendezvous.UDP {
		return nil, failed("announce", p.String(), worded{"udp has no clients to accept", unix.EOPNOTSUPP})
	}
	a, m, err := c.announce(ctx, p)
	if err != nil {
		return nil, err
	}
	a.close() // there are none
	l := &Listener{
		c: c, what: m, slots: make(chan struct{}, maxAccepts), late: make(chan answer, maxAccepts), closed: make(chan struct{}),
	}
	l.close = sync.OnceValue(l.withdraw)
	return l, nil
}

// announce announces p, which need not have the option create.
func (c *Client) announce(ctx context.Context, p rendezvous.Path) (answer, announced, error) {
	p.Options.Create = false
	path := p.String()
	a, err := c.work(ctx, opAnnounce, path)
	if err != nil {
		return a, announced{}, c.fail(ctx, "announce", path, err)
	}
	m, err := decodeAnnounced(a.body)
	if err != nil {
		a.close()
		return a, m, c.fail(ctx, "announce", path, errMalformed)
	}
	return a, m, nil
}

// Path returns what is announced in the canonical form, ids as numbers.
func (l *Listener) Path() string { return l.what.path }

// Addrs returns where it listens: the cluster address and loopback. For fdp there are none.
func (l *Listener) Addrs() []netip.AddrPort { return l.what.addrs }

// Addr returns the first address, or for fdp the name.
func (l *Listener) Addr() net.Addr {
	if len(l.what.addrs) == 0 {
		return &net.UnixAddr{Name: l.what.path, Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(l.what.addrs[0])
}

// AcceptFD waits for the next client and returns its socket, non-blocking, close-on-exec, the caller's, and who it is as
// far as that is proved. A client that comes when ctx has ended is the next AcceptFD's.
//
// Errors are *rendezvous.Error: as for OpenFD when ctx ends or the daemon has gone; net.ErrClosed after Close.
func (l *Listener) AcceptFD(ctx context.Context) (fd int, p rendezvous.Peer, err error) {
	a, m, err := l.accept(ctx)
	if err != nil {
		return -1, rendezvous.Peer{}, err
	}
	return a.fds[0], m.peer, nil
}

func (l *Listener) accept(ctx context.Context) (answer, accepted, error) {
	a, err := l.next(ctx)
	select {
	case <-l.closed:
		if err == nil {
			a.close()
		}
		err = net.ErrClosed
	default:
	}
	if err != nil {
		return answer{}, accepted{}, l.c.fail(ctx, "accept", l.what.path, err)
	}
	m, err := decodeAccepted(a.body)
	if err != nil || len(a.fds) != 1 {
		a.close()
		return answer{}, accepted{}, l.c.fail(ctx, "accept", l.what.path, errMalformed)
	}
	return a, m, nil
}

// next returns the next answer to an ACCEPT.
func (l *Listener) next(ctx context.Context) (answer, error) {
	select {
	case a := <-l.late:
		return a, nil
	default:
	}
	select {
	case l.slots <- struct{}{}:
	case a := <-l.late:
		return a, nil
	case <-ctx.Done():
		return answer{}, errContext
	case <-l.closed:
		return answer{}, net.ErrClosed
	case <-l.c.done:
		return answer{}, l.c.why()
	}
	return l.c.request(ctx, l.closed, func(tag uint32) []byte {
		b := appendHeader(make([]byte, 0, headerSize+4), header{op: opAccept, tag: tag})
		return binary.LittleEndian.AppendUint32(b, l.what.number)
	}, func() { <-l.slots }, l.keep)
}

// keep takes a client for which nobody waits any more.
func (l *Listener) keep(a answer) {
	select {
	case <-l.closed:
		a.close()
		return
	default:
	}
	select {
	case l.late <- a:
	default:
		a.close()
	}
	select {
	case <-l.closed:
		l.drop() // Close may have done so too early
	default:
	}
}

// drop closes what keep has kept.
func (l *Listener) drop() {
	for {
		select {
		case a := <-l.late:
			a.close()
		default:
			return
		}
	}
}

// AcceptPeer is AcceptFD with a net.Conn: a *net.TCPConn or *net.UnixConn.
func (l *Listener) AcceptPeer(ctx context.Context) (net.Conn, rendezvous.Peer, error) {
	fd, p, err := l.AcceptFD(ctx)
	if err != nil {
		return nil, p, err
	}
	conn, err := connOf(fd)
	if err != nil {
		return nil, rendezvous.Peer{}, failed("accept", l.what.path, err)
	}
	return conn, p, nil
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	conn, _, err := l.AcceptPeer(context.Background())
	return conn, err
}

// Close ends the announcement: when it returns, the name and the port are free, unless the daemon takes longer than
// [AnswerTime] (ETIMEDOUT). Clients that still wait are reset; what was accepted stays. An accept that waits ends with
// net.ErrClosed.
func (l *Listener) Close() error { return l.close() }

func (l *Listener) withdraw() error {
	close(l.closed)
	l.c.sock.wake() // whoever reads may wait for a client of l
	err := l.c.withdraw(l.what)
	l.drop()
	return err
}

// withdraw ends an announcement. That the connection has ended is no error: the announcement has too.
func (c *Client) withdraw(m announced) error {
	ctx, cancel := context.WithTimeout(context.Background(), AnswerTime)
	defer cancel()
	_, err := c.request(ctx, nil, func(tag uint32) []byte {
		b := appendHeader(make([]byte, 0, headerSize+4), header{op: opWithdraw, tag: tag})
		return binary.LittleEndian.AppendUint32(b, m.number)
	}, nil, nil)
	if err == nil || errors.As(err, new(lost)) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EBADF) {
		return nil
	}
	return c.fail(ctx, "withdraw", m.path, err)
}

// UDPListener is a udp service that this process has announced: it has the bound sockets themselves. It ends with
// Close; when its Client ends the name goes, and the sockets stay until Close.
type UDPListener struct {
	c     *Client
	what  announced
	conns []*net.UDPConn
	close func() error
}

// AnnounceUDP announces path, dev/udp/local/SERVICE with options, without create. The errors are those of Announce;
// EINVAL for another protocol.
func (c *Client) AnnounceUDP(ctx context.Context, path string) (*UDPListener, error) {
	p, err := rendezvous.Parse(path)
	if err != nil {
		return nil, err
	}
	if p.Proto != rendezvous.UDP {
		return nil, failed("announce", p.String(), worded{"it is no udp service", unix.EINVAL})
	}
	a, m, err := c.announce(ctx, p)
	if err != nil {
		return nil, err
	}
	u := &UDPListener{c: c, what: m}
	for i, fd := range a.fds {
		conn, err := packetConnOf(fd)
		if err != nil {
			for _, fd := range a.fds[i+1:] {
				unix.Close(fd)
			}
			return nil, errors.Join(failed("announce", m.path, err), u.withdraw())
		}
		u.conns = append(u.conns, conn)
	}
	u.close = sync.OnceValue(u.withdraw)
	return u, nil
}

// packetConnOf makes a net.UDPConn of a bound socket, which it takes over.
func packetConnOf(fd int) (*net.UDPConn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close() // FilePacketConn has a copy
	conn, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	if udp, ok := conn.(*net.UDPConn); ok {
		return udp, nil
	}
	conn.Close()
	return nil, errMalformed
}

// Conns returns the sockets, one for each address; they are closed by Close.
func (u *UDPListener) Conns() []*net.UDPConn { return u.conns }

// Path returns what is announced in the canonical form, ids as numbers.
func (u *UDPListener) Path() string { return u.what.path }

// Addrs returns the addresses of Conns, in the same order.
func (u *UDPListener) Addrs() []netip.AddrPort { return u.what.addrs }

// Close ends the announcement and closes its sockets.
func (u *UDPListener) Close() error { return u.close() }

func (u *UDPListener) withdraw() error {
	for _, conn := range u.conns {
		conn.Close()
	}
	return u.c.withdraw(u.what)
}
