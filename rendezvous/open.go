package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Open makes the connection that p names, for c: see convokefs(4), dev.
//
// For a HOST that is this one ("local", Self, "share", "localhost", the addresses at which services listen) it is what
// is announced here under that name, else what the launcher can start, else what the Resolver finds. An address at
// which something announced here listens is that service, however it was named. Who is announced here and accepted by
// this Host is told who c is, but not over udp.
//
// The option now is for other hosts: what is announced and accepted here is connected when Open returns.
//
// Errors are *Error: Permission (EACCES) for a caller in another network namespace, one whom the announcement does not
// admit, and another user's instance; Unavailable: EAGAIN where c makes too many connections at a time, EOPNOTSUPP for
// user and group over udp; Refused where too many clients wait; NotExist for an instance that is not announced; and those of the launcher, Resolve, Dial and
// DialUnix.
func (h *Host) Open(ctx context.Context, c Caller, p Path) (Conn, error) {
	if err := p.Validate(); err != nil {
		return Conn{}, err
	}
	fail := func(kind Kind, why string, errno unix.Errno) (Conn, error) {
		return Conn{}, &Error{Op: "open", Path: p.String(), Kind: kind, Err: fmt.Errorf("%s: %w", why, errno)}
	}
	if p.Options.Create {
		return fail(Invalid, "create announces and does not connect", unix.EINVAL)
	}
	if err := h.sameNet("open", c, p); err != nil {
		return Conn{}, err
	}
	p, err := resolveIDs(c, p)
	if err != nil {
		return Conn{}, err
	}
	if err := mayName("open", c, p); err != nil {
		return Conn{}, err
	}
	if p.unprovable() {
		return fail(Unavailable, "nobody can prove over udp who he is", unix.EOPNOTSUPP)
	}
	if !h.take(c.UID, DialLimit) {
		return fail(Unavailable, "too many connections are being made", unix.EAGAIN)
	}
	defer h.give(c.UID, DialLimit)
	conn, err := h.open(ctx, c, p)
	if err != nil {
		return Conn{}, outOfFiles(err)
	}
	return conn, nil
}

func (h *Host) open(ctx context.Context, c Caller, p Path) (Conn, error) {
	if h.here(p.Host) {
		if a, to, ok := h.find(p); ok {
			return h.connect(ctx, c, p, a, to)
		}
		if p.Proto == FDP {
			return h.openUnix(ctx, c, p)
		}
		if conn, done, err := h.launch(ctx, c, p); done {
			return conn, err
		}
	}
	t, err := h.opts.Resolver.Resolve(ctx, p)
	if err != nil {
		return Conn{}, err
	}
	if a, to, ok := h.listens(p, t.Addrs); ok {
		return h.connect(ctx, c, p, a, to)
	}
	return Dial(ctx, t, DialOpts{Creds: c.Creds(), Now: p.Options.Now, Timeout: h.opts.DialTimeout})
}

// openUnix connects to a socket that a server has bound, or to a server that is to be started, which the socket may be
// left of.
func (h *Host) openUnix(ctx context.Context, c Caller, p Path) (Conn, error) {
	fd, err := -1, error(nil)
	if _, err = h.opts.Resolver.Resolve(ctx, p); err == nil {
		fd, err = DialUnix(ctx, h.opts.SocketDir, p.Service, c.Creds(), h.opts.DialTimeout)
	}
	if kind := KindOf(err); kind != NotExist && kind != Refused {
		return Conn{FD: fd}, err
	}
	if conn, done, err := h.launch(ctx, c, p); done {
		return conn, err
	}
	return Conn{}, err
}

// here tells whether a HOST is surely this one. It asks nobody.
func (h *Host) here(host string) bool {
	switch host {
	case "local", "share":
		return true
	case "":
		return false
	case h.opts.Self:
		return true
	}
	addr, ok := literal(host)
	own := h.addr()
	// What is announced at a cluster address on loopback is not at 127.0.0.1: that may be another daemon's of this host.
	return ok && (addr == own || addr == loopback && !own.IsLoopback())
}

// loopback is where services listen besides the cluster address.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// literal reads a HOST that is an address, or the name that always means one (RFC 6761, section 6.3).
func literal(host string) (netip.Addr, bool) {
	if host == "localhost" {
		return loopback, true
	}
	addr, err := netip.ParseAddr(host)
	return addr.Unmap(), err == nil
}

// find returns what is announced here under p's name, and where to connect to it.
func (h *Host) find(p Path) (a *Announcement, to netip.AddrPort, ok bool) {
	a, ok = h.Find(p)
	if !ok || p.Proto == FDP {
		return a, to, ok
	}
	host := p.Host
	to = a.addrs[len(a.addrs)-1] // loopback, if it listens there
	if addr, ok := literal(host); ok {
		for _, at := range a.addrs {
			if at.Addr() == addr {
				return a, at, true
			}
		}
		return a, to, true // only some may connect: it is not at the cluster address
	}
	if host == h.opts.Self && host != "" && host != "local" {
		to = a.addrs[0]
	}
	return a, to, true
}

// listens returns what is announced here and listens at one of the addresses that p was resolved to.
func (h *Host) listens(p Path, addrs []netip.AddrPort) (*Announcement, netip.AddrPort, bool) {
	if own := h.addr(); p.Host == "local" && own.IsLoopback() && len(addrs) > 0 {
		// It listens there instead of at 127.0.0.1.
		addrs = append([]netip.AddrPort{netip.AddrPortFrom(own, addrs[0].Port())}, addrs...)
	}
	for _, to := range addrs {
		if a, ok := h.at(p.Proto, to); ok {
			return a, unmap(to), true
		}
	}
	return nil, netip.AddrPort{}, false
}

// connect connects to what is announced here.
func (h *Host) connect(ctx context.Context, c Caller, p Path, a *Announcement, to netip.AddrPort) (Conn, error) {
	if err := a.mayConnect(c); err != nil {
		return Conn{}, err
	}
	conn, err := h.connectTo(ctx, c, p, a, to)
	if a.opts.Server {
		return h.served(ctx, p, a, conn, err)
	}
	return conn, err
}

func (h *Host) connectTo(ctx context.Context, c Caller, p Path, a *Announcement, to netip.AddrPort) (Conn, error) {
	if p.Proto == FDP {
		return a.dialUnix(ctx, c, p, h.timeout())
	}
	for _, l := range a.listeners {
		if l.addr == to {
			return l.dial(ctx, c, p, h.timeout())
		}
	}
	t := Target{Proto: p.Proto, Path: p.String(), Addrs: []netip.AddrPort{to}, Node: h.opts.Self, Local: !p.Options.Remote}
	return Dial(ctx, t, DialOpts{Creds: c.Creds(), Now: p.Options.Now, Timeout: h.opts.DialTimeout})
}

// launch connects to a server that is to be started. done is false where there is none.
func (h *Host) launch(ctx context.Context, c Caller, p Path) (conn Conn, done bool, err error) {
	if h.launcher == nil || p.Options.Test {
		return Conn{}, false, nil
	}
	if _, ok := h.launcher.Owner(p); !ok {
		return Conn{}, false, nil
	}
	if err := h.launcher.Start(ctx, c, p); err != nil {
		return Conn{}, !errors.Is(err, unix.ENOENT) && KindOf(err) != NotExist, err
	}
	a, to, ok := h.find(p)
	if !ok {
		return Conn{}, true, noClient(p, errServerEnded)
	}
	conn, err = h.connect(ctx, c, p, a, to)
	return conn, true, err
}

// served is for a connection, or the error of one, to a service with a server that was started. Until the server has
// accepted for the first time each client waits for that: the kernel connects to a listening socket whoever has it.
func (h *Host) served(ctx context.Context, p Path, a *Announcement, conn Conn, err error) (Conn, error) {
	if err != nil {
		if a.serverEnded(err) {
			err = noClient(p, errServerEnded)
		}
		return Conn{}, err
	}
	if a.accepted.Load() || h.launcher == nil {
		return conn, nil
	}
	if p.Options.Now {
		return conn, nil
	}
	if err := h.launcher.Accepted(ctx, a.path); err != nil { // p may name it by its port
		unix.Close(conn.FD)
		return Conn{}, err
	}
	a.accepted.Store(true)
	return conn, nil
}

var errServerEnded = errors.New("the server has ended")

// serverEnded tells whether a connect has failed because the listening socket went meanwhile. TCP resets the connection
// then, which connect(2) to a socket that nobody listens at does not meet; of AF_UNIX the name may be gone.
func (a *Announcement) serverEnded(err error) bool {
	switch {
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.ENOENT):
		return true
	case errors.Is(err, unix.ECONNREFUSED):
		a.host.mu.Lock()
		defer a.host.mu.Unlock()
		return !a.live
	}
	return false
}
