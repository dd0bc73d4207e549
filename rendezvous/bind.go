package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	backlog = 4096 // the kernel cuts it to net.core.somaxconn

	// anyPortTries is how often another port is asked for, when the one that is free at one address is not at the other.
	anyPortTries = 64
)

// portChoice is the port for a service: any, this one, or this one and those that follow it.
type portChoice struct {
	port   uint16 // 0: any
	follow bool   // it is a computed port: where it is taken, the next one that is free
	table  bool   // it is from the system's service table
}

// port decides which port the announcement has.
func (a *Announcement) port(ctx context.Context) (portChoice, error) {
	p := a.path
	if p.Proto == FDP {
		return portChoice{}, nil
	}
	if n, err := strconv.ParseUint(p.Service, 10, 16); err == nil {
		if p.Options.Instance() {
			n = 0
		}
		return portChoice{port: uint16(n)}, nil
	}
	n, ok, err := a.host.opts.Resolver.tablePort(ctx, p.Proto, p.Service)
	switch {
	case err != nil:
		return portChoice{}, a.host.opts.Resolver.lookupError(ctx, p.String(), err)
	case p.Options.Instance():
		return portChoice{table: ok}, nil
	case ok:
		return portChoice{port: n, table: true}, nil
	}
	return portChoice{port: ComputedPort(p.Service), follow: true}, nil
}

// listenAddrs returns where to listen, the cluster address first. What only some users may connect to listens on
// loopback only: from elsewhere nobody can prove who he is.
func (a *Announcement) listenAddrs() []netip.Addr {
	addr := a.host.addr()
	switch {
	case addr.IsLoopback():
		return []netip.Addr{addr}
	case !addr.IsValid() || addr.IsUnspecified() || a.restricted():
		return []netip.Addr{loopback}
	}
	return []netip.Addr{addr, loopback}
}

// listen makes the sockets.
func (a *Announcement) listen(ctx context.Context, choice portChoice) error {
	if a.path.Proto == FDP {
		return a.listenUnix(ctx)
	}
	fds, err := a.bindPort(ctx, choice)
	if err != nil {
		var ours *Error
		if errors.As(err, &ours) {
			return err
		}
		return announceError(a.path, KindOf(err), outOfFiles(err))
	}
	if err := a.serveSockets(fds); err != nil {
		a.closeSockets()
		for _, fd := range fds {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
		a.raw = nil
		return announceError(a.path, KindOf(err), err)
	}
	return nil
}

// serveSockets gives each of the sockets an owner, and puts -1 in its place. On an error the rest have none.
func (a *Announcement) serveSockets(fds []int) error {
	for i, fd := range fds {
		local, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		addr := unmap(addrPort(local))
		a.addrs = append(a.addrs, addr)
		fds[i] = -1
		switch {
		case a.opts.Raw:
			a.raw = append(a.raw, fd)
			err = unix.SetNonblock(fd, false)
		case a.path.Proto == UDP:
			if a.datagrams == nil {
				a.datagrams = newDemux(a)
			}
			err = a.datagrams.add(fd, addr)
		default:
			var l *listener
			if l, err = newListener(a, fd, addr); err == nil {
				a.listeners = append(a.listeners, l)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bindPort binds one port at all addresses.
func (a *Announcement) bindPort(ctx context.Context, choice portChoice) ([]int, error) {
	if choice.port == 0 {
		var fds []int
		err := error(unix.EADDRINUSE)
		for try := 0; try < anyPortTries && errors.Is(err, unix.EADDRINUSE); try++ {
			fds, err = a.bindAt(0)
		}
		return fds, err
	}
	if !choice.follow {
		return a.bindAllowed(choice.port)
	}
	const first, count = 5001, 27767 // of the computed ports
	for i := range count {
		fds, err := a.bindAllowed(uint16(first + (int(choice.port)-first+i)%count))
		if !errors.Is(err, unix.EADDRINUSE) {
			return fds, err
		}
		if ctx.Err() != nil {
			return nil, contextError(ctx, "announce", a.path.String())
		}
	}
	return nil, fmt.Errorf("all computed ports are taken: %w", unix.EADDRINUSE)
}

func (a *Announcement) bindAllowed(port uint16) ([]int, error) {
	if err := mayBind(a.caller, a.path, port); err != nil {
		return nil, err
	}
	return a.bindAt(port)
}

// bindAt binds a port at all addresses, or none; 0 is one that is free at all of them.
func (a *Announcement) bindAt(port uint16) (fds []int, err error) {
	fail := func(fd int, err error) ([]int, error) {
		for _, fd := range append(fds, fd) {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
		return nil, err
	}
	for _, ip := range a.listenAddrs() {
		fd, err := a.bindOne(netip.AddrPortFrom(ip, port))
		if err != nil {
			return fail(fd, err)
		}
		fds = append(fds, fd)
		if port == 0 {
			local, err := unix.Getsockname(fd)
			if err != nil {
				return fail(-1, err)
			}
			port = addrPort(local).Port()
		}
	}
	if a.path.Proto == TCP {
		for _, fd := range fds {
			// Somebody else may have bound the port after us and listened before us.
			if err := unix.Listen(fd, backlog); err != nil {
				return fail(-1, err)
			}
		}
	}
	return fds, nil
}

func (a *Announcement) bindOne(at netip.AddrPort) (int, error) {
	sa, family, err := sockaddr(at)
	if err != nil {
		return -1, err
	}
	fd, err := socketAs(a.caller.Creds(), family, a.path.Proto)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fd, err
		}
	}
	if a.path.Proto == TCP {
		// For connections of before that are in TIME_WAIT. Never for UDP, where it would let anybody else bind the same.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fd, err
		}
		if !a.opts.Raw {
			if err := tune(fd, false); err != nil { // what is accepted inherits it
				return fd, err
			}
		}
	}
	return fd, unix.Bind(fd, sa)
}
