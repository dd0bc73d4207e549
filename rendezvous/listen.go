package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	acceptBatch    = 64                   // how many clients are accepted at once, with the server's identity
	acceptDelay    = 5 * time.Millisecond // the first wait when no descriptor is left; doubled at each turn
	acceptMaxDelay = time.Second          // the longest
)

// listener accepts the clients of one address of a TCP service at once, so that a server can be told who waits.
type listener struct {
	a      *Announcement
	addr   netip.AddrPort
	file   *os.File // the listening socket
	conn   syscall.RawConn
	claims *claims
	ended  chan struct{} // closed by close
	one    sync.Mutex    // held by who accepts: another one would only take the server's identity for nothing
}

// newListener takes fd, in any case.
func newListener(a *Announcement, fd int, addr netip.AddrPort) (*listener, error) {
	file, conn, err := waitable(fd, "listener")
	if err != nil {
		return nil, err
	}
	return &listener{a: a, addr: addr, file: file, conn: conn, claims: newClaims(), ended: make(chan struct{})}, nil
}

// waitable makes a file of a non-blocking descriptor, which Go's poller waits for, and takes it.
func waitable(fd int, name string) (*os.File, syscall.RawConn, error) {
	file := os.NewFile(uintptr(fd), name)
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, conn, nil
}

// close frees the port. What has been accepted and not put into the queue is reset.
func (l *listener) close() {
	close(l.ended)
	l.file.Close() // it returns when nobody uses the descriptor
	l.act(l.claims.close())
}

// serve accepts until the listener is closed.
func (l *listener) serve() {
	backOff(l.conn, l.ended, l.accept, func(err error) {
		l.a.host.opts.Log.Warn("clients cannot be accepted at present", "path", l.a.path.String(), "error", outOfFiles(err))
	})
}

// backOff calls accept whenever conn can be read, until ended. After an error it lets some time pass, and more when
// errors follow each other: it is the process that has no descriptors or memory, and it gets none by asking on and on.
func backOff(conn syscall.RawConn, ended <-chan struct{}, accept func() error, failed func(error)) {
	delay := acceptDelay
	for {
		if conn.Read(func(fd uintptr) bool { return readable(int(fd)) }) != nil {
			return
		}
		err := accept()
		if err == nil {
			delay = acceptDelay
			continue
		}
		select {
		case <-ended:
			return // what failed did so because of that
		default:
		}
		if delay == acceptDelay {
			failed(err)
		}
		wait := time.NewTimer(delay)
		select {
		case <-wait.C:
		case <-ended:
			wait.Stop()
			return
		}
		delay = min(2*delay, acceptMaxDelay)
	}
}

func readable(fd int) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds[:], 0)
	return err == nil && n > 0
}

type accepted struct {
	fd   int
	from netip.AddrPort
}

// accept takes all that wait, for the claims to decide on. It is called from several goroutines: whoever has just
// connected need not wait until the serving one has woken up.
func (l *listener) accept() error {
	for {
		var got []accepted
		var failure error
		l.one.Lock()
		err := l.conn.Control(func(fd uintptr) {
			take := func() { got, failure = acceptAll(int(fd)) }
			creds := l.a.caller.Creds()
			switch {
			case creds.own():
				take()
			case !readable(int(fd)): // the identity would be taken for nothing
			case !runFS(creds, take):
				failure = unix.EPERM
			}
		})
		l.one.Unlock()
		for _, x := range got {
			l.act(l.claims.arrive(x.fd, x.from))
		}
		switch {
		case err != nil:
			return err
		case failure != nil || len(got) < acceptBatch:
			return failure
		}
	}
}

// acceptAll accepts up to acceptBatch connections. With the server's ids the kernel gives them to the server, as far as
// packet filters go.
func acceptAll(l int) (got []accepted, err error) {
	for range acceptBatch {
		fd, from, err := accept4(l)
		switch err {
		case nil:
			got = append(got, accepted{fd, from})
		case unix.EAGAIN:
			return got, nil
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EBADF, unix.EINVAL:
			return got, err
		default:
			// EINTR, ECONNABORTED, and what has gone wrong with this one connection: accept(2), ERRORS.
		}
	}
	return got, nil
}

// act does what the claims have decided.
func (l *listener) act(verdicts []verdict) {
	for _, v := range verdicts {
		switch {
		case v.dead:
			reset(v.fd)
		case v.claim != nil:
			ok := l.a.queue.put(l.client(v, v.claim.peer))
			if !ok {
				reset(v.fd)
			}
			v.claim.done <- ok
		default:
			l.outsider(v)
		}
	}
}

func (l *listener) client(v verdict, peer Peer) *Client {
	return &Client{Peer: peer, Local: l.addr, Remote: v.from, FD: v.fd}
}

// outsider is a client that has not come through this Host. Nobody has proved who he is, but the kernel knows the owner
// of a socket of this host.
func (l *listener) outsider(v verdict) {
	refuse := func(why string) {
		reset(v.fd)
		l.a.host.opts.Log.Debug("client refused", "path", l.a.path.String(), "remote", v.from.String(), "error", why)
	}
	if l.a.restricted() {
		refuse("who he is is not proved")
		return
	}
	if !l.a.queue.hold() {
		refuse("too many clients wait")
		return
	}
	c := l.client(v, unproved(peerHost(v.from)))
	if c.onThisHost() && !l.a.path.Options.Other {
		c.UID = outsiderUID(v.fd, v.from, l.addr)
	}
	if !l.a.queue.put(c) {
		reset(v.fd)
	}
}

// outsiderUID asks the kernel whose the other end of an accepted connection is. The client may be gone, and its address
// another's: the answer is about this connection only if it is still there afterwards.
func outsiderUID(fd int, from, to netip.AddrPort) uint32 {
	uid := socketUID(from, to)
	const established, closeWait = 1, 8 // net/tcp_states.h
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != established && info.State != closeWait {
		return NoID
	}
	return uid
}

// dial connects a client of this Host, and returns when the server's side has been accepted.
func (l *listener) dial(ctx context.Context, c Caller, p Path, timeout time.Duration) (Conn, error) {
	refuse := func(err error) (Conn, error) { return Conn{}, noClient(p, err) }
	if !l.a.queue.hold() {
		return refuse(errFull)
	}
	peer := l.a.host.peerOf(c, peerHost(l.addr))
	if p.Options.Other || l.a.path.Options.Other {
		peer = unproved(peer.Host)
	}
	claim := l.claims.begin(peer)
	conn, err := Dial(ctx, Target{Proto: TCP, Path: p.String(), Addrs: []netip.AddrPort{l.addr}, Node: l.a.host.opts.Self}, DialOpts{
		Creds: c.Creds(), Timeout: timeout, bound: func(from netip.AddrPort) { l.act(l.claims.tell(claim, from)) },
	})
	if err == nil {
		claim.peer.Host = peerHost(conn.Local)
		l.act(l.claims.connected(claim, conn.FD))
		l.accept() // what goes wrong here goes wrong in serve too, where it is logged
		if err = wait(ctx, claim.done, timeout, p); err == nil {
			return conn, nil
		}
	}
	verdicts, unused := l.claims.end(claim)
	l.act(verdicts)
	if unused {
		l.a.queue.give()
	}
	if conn.FD > 0 {
		unix.Close(conn.FD) // only now: until the claim has ended its address must be nobody else's
	}
	return Conn{}, err
}

var errFull = errors.New("too many clients wait already, or the service has just ended")

// noClient is the error of a client that a service here does not take.
func noClient(p Path, why error) error {
	return &Error{Op: "open", Path: p.String(), Kind: Refused, Err: fmt.Errorf("%w: %w", why, unix.ECONNREFUSED)}
}

// wait waits until the server's side of a connection is there.
func wait(ctx context.Context, done <-chan bool, timeout time.Duration, p Path) error {
	var ok bool
	select {
	case ok = <-done:
	default:
		end := time.NewTimer(timeout)
		defer end.Stop()
		select {
		case ok = <-done:
		case <-ctx.Done():
			return contextError(ctx, "open", p.String())
		case <-end.C:
			return &Error{Op: "open", Path: p.String(), Kind: Timeout, Err: fmt.Errorf("the daemon cannot accept the connection: %w", unix.ETIMEDOUT)}
		}
	}
	if !ok {
		return noClient(p, errEndedAnnouncement)
	}
	return nil
}
