package rendezvous

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// DefaultTimeout is how long a dial takes at most when nothing else is said.
	DefaultTimeout = 30 * time.Second

	// attemptDelay is the "Connection Attempt Delay" of RFC 8305, section 5, at its recommended value.
	attemptDelay = 250 * time.Millisecond
)

// DialOpts says for whom and how to dial.
type DialOpts struct {
	Creds   Creds         // required: the caller; the zero value is root
	Now     bool          // optional: do not wait for the connection
	Timeout time.Duration // optional: DefaultTimeout for 0 and less

	// bound is told the own address of each attempt as soon as the kernel has chosen it: the connection may be there by
	// then, not before.
	bound func(local netip.AddrPort)
}

// Conn is a connected socket.
type Conn struct {
	FD            int // non-blocking and close-on-exec; the caller owns it; Go's poller does not know it
	Local, Remote netip.AddrPort
	Node          string // the member that was dialled, else ""
}

// Dial connects to the first address of t that answers. Attempts begin 250 ms apart, or as soon as the one before has
// failed (RFC 8305). Any goroutine may call it; while it waits it holds no OS thread, and it holds no descriptors but
// its sockets and one epoll.
//
// The socket carries the ids of o.Creds for packet filters and ss(8), if this process is root; else it carries those of
// this process. TCP_NODELAY is always set: what is written to a stream is written whole, by a shell or in a program's
// own buffer, and Nagle's delay would only hold up the answer to a request. Keep-alive is as in package net,
// but not on loopback.
//
// For UDP the socket is connected to the first address for which there is a route, and nothing is sent. With o.Now, a
// TCP socket is returned as soon as the handshake has begun, with the first address that does not fail at once; its
// result is then in SO_ERROR.
//
// Errors are *Error that wrap an errno. ctx cancelled: EINTR and ctx's cause, or the errno that the cause has; ctx's
// deadline or o.Timeout over: ETIMEDOUT; else what connect(2) says. Of several addresses' errors it is the most telling
// one: ECONNREFUSED, for that host is there; then EACCES and EPERM, then ETIMEDOUT, then EHOSTUNREACH, ENETUNREACH,
// then others; among equals the first. A socket that TCP has connected to itself, since its own port happened to be the
// one dialled, is ECONNREFUSED: nobody listens there. EPERM: the caller's ids cannot be taken.
func Dial(ctx context.Context, t Target, o DialOpts) (Conn, error) {
	if t.Path == "" && len(t.Addrs) > 0 {
		t.Path = t.Proto.String() + " " + t.Addrs[0].String()
	}
	fail := func(err error) (Conn, error) {
		return Conn{}, &Error{Op: "dial", Path: t.Path, Kind: KindOf(err), Err: err}
	}
	if t.Proto != TCP && t.Proto != UDP || len(t.Addrs) == 0 || !o.Creds.valid() {
		return fail(unix.EINVAL)
	}
	if ctx.Err() != nil {
		return Conn{}, contextError(ctx, "dial", t.Path)
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	d := dial{proto: t.Proto, opts: o, rest: t.Addrs}
	a, err := d.next()
	if errors.Is(err, errPending) {
		a, err = d.wait(ctx)
		if errors.Is(err, errEnded) {
			return Conn{}, contextError(ctx, "dial", t.Path)
		}
	}
	if err != nil {
		return fail(err)
	}
	return Conn{FD: a.fd, Local: a.local, Remote: a.to, Node: t.Node}, nil
}

var (
	errPending = errors.New("not yet connected")
	errEnded   = errors.New("context ended")
)

// dial is one call of Dial.
type dial struct {
	proto   Proto
	opts    DialOpts
	rest    []netip.AddrPort // not yet tried
	pending []attempt        // tried, no answer yet
	err     error            // the most telling one so far
}

type attempt struct {
	fd        int
	to, local netip.AddrPort
}

// next tries addresses until one is connected, or one is pending (errPending), or there are none left and none is
// pending (the most telling error). On loopback this is all there is to a dial.
func (d *dial) next() (attempt, error) {
	for len(d.rest) > 0 {
		to := d.rest[0]
		d.rest = d.rest[1:]
		a, err := d.start(to)
		switch {
		case err == nil:
			return a, nil
		case errors.Is(err, errPending):
			d.pending = append(d.pending, a)
			return attempt{}, errPending
		}
		d.failed(err)
	}
	if len(d.pending) > 0 {
		return attempt{}, errPending
	}
	return attempt{}, d.err
}

// failed keeps the most telling error.
func (d *dial) failed(err error) {
	if d.err == nil || telling(err) > telling(d.err) {
		d.err = err
	}
}

func telling(err error) int {
	var errno unix.Errno
	errors.As(err, &errno)
	switch errno {
	case unix.ECONNREFUSED:
		return 5
	case unix.EACCES, unix.EPERM:
		return 4
	case unix.ETIMEDOUT:
		return 3
	case unix.EHOSTUNREACH, unix.EHOSTDOWN:
		return 2
	case unix.ENETUNREACH, unix.ENETDOWN:
		return 1
	}
	return 0
}

// start makes a socket and begins to connect it. After an error other than errPending there is no socket.
func (d *dial) start(to netip.AddrPort) (attempt, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	sa, family, err := sockaddr(to)
	if err != nil {
		return attempt{}, err
	}
	fd, err := socketAs(d.opts.Creds, family, d.proto)
	if err != nil {
		return attempt{}, err
	}
	a := attempt{fd: fd, to: to}
	if err = d.connect(&a, sa); err != nil && !errors.Is(err, errPending) {
		unix.Close(fd)
	}
	return a, err
}

func (d *dial) connect(a *attempt, sa unix.Sockaddr) error {
	if d.proto == TCP {
		if err := tune(a.fd, a.to.Addr().IsLoopback()); err != nil {
			return err
		}
	}
	err := unix.Connect(a.fd, sa)
	pending := err == unix.EINPROGRESS || err == unix.EINTR
	if err != nil && !pending {
		return err
	}
	if a.local, err = sockname(a.fd); err != nil {
		return err
	}
	if a.to.Addr().IsUnspecified() {
		// To "any" address means to this host, as the kernel has it, by the address that it took for the own end.
		a.to = netip.AddrPortFrom(a.local.Addr(), a.to.Port())
	}
	if a.local == netip.AddrPortFrom(a.to.Addr().WithZone(a.local.Addr().Zone()), a.to.Port()) {
		// Without this the port would be in TIME_WAIT for a minute, and its server could not start.
		unix.SetsockoptLinger(a.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		return unix.ECONNREFUSED
	}
	if d.opts.bound != nil {
		d.opts.bound(a.local)
	}
	if !pending || d.opts.Now {
		return nil
	}
	// On loopback the handshake is over when connect(2) returns, though it says that it goes on. Asked again it tells the
	// outcome (net/ipv4/af_inet.c, __inet_stream_connect).
	switch err = unix.Connect(a.fd, sa); err {
	case unix.EALREADY, unix.EINPROGRESS, unix.EINTR:
		return errPending
	case unix.EISCONN:
		return nil
	}
	return err
}

// socketAs is socket(2) with the caller's ids.
func socketAs(c Creds, family int, proto Proto) (fd int, err error) {
	typ := unix.SOCK_STREAM
	if proto == UDP {
		typ = unix.SOCK_DGRAM
	}
	socket := func() {
		fd, err = unix.Socket(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	}
	if c.own() {
		socket()
		return fd, err
	}
	if !runFS(c, socket) {
		return -1, unix.EPERM
	}
	return fd, err
}

// tune sets TCP_NODELAY, and keep-alive with the values that package net has. On loopback that is left out: the kernel
// that would answer is this one, and it tells the end of a socket at once.
func tune(fd int, loopback bool) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil || loopback {
		return err
	}
	for _, o := range [...]struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

func writable(fd int) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds[:], 0)
	return err == nil && n > 0
}

func socketError(fd int) error {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if n != 0 {
		return unix.Errno(n)
	}
	return nil
}

func sockaddr(a netip.AddrPort) (unix.Sockaddr, int, error) {
	ip := a.Addr()
	switch {
	case !ip.IsValid():
		return nil, 0, unix.EINVAL
	case ip.Is4():
		return &unix.SockaddrInet4{Addr: ip.As4(), Port: int(a.Port())}, unix.AF_INET, nil
	}
	sa := &unix.SockaddrInet6{Addr: ip.As16(), Port: int(a.Port())}
	if zone := ip.Zone(); zone != "" {
		n, err := strconv.ParseUint(zone, 10, 32)
		if err != nil {
			i, err := net.InterfaceByName(zone)
			if err != nil {
				return nil, 0, unix.ENODEV
			}
			n = uint64(i.Index)
		}
		sa.ZoneId = uint32(n)
	}
	return sa, unix.AF_INET6, nil
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			ip = ip.WithZone(strconv.FormatUint(uint64(sa.ZoneId), 10))
		}
		return netip.AddrPortFrom(ip, uint16(sa.Port))
	}
	return netip.AddrPort{}
}
