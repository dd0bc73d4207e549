package main

import (
	"context"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/rendezvous"
)

// client is what commands ask of the daemon by its socket: an *ipc.Client, or
// something else in tests.
type client interface {
	// OpenFD returns a connected socket, non-blocking.
	OpenFD(ctx context.Context, path string) (int, error)
	// Announce announces path until the listener is closed.
	Announce(ctx context.Context, path string) (listener, error)
	Close() error
}

// listener is an announced path: an *ipc.Listener.
type listener interface {
	// AcceptFD returns the socket of the client that waits for longest, or
	// waits for one.
	AcceptFD(ctx context.Context) (fd int, peer rendezvous.Peer, err error)
	// Addrs returns where it listens; none for a local service.
	Addrs() []netip.AddrPort
	Close() error
}

// ipcClient makes a client of an *ipc.Client.
type ipcClient struct{ *ipc.Client }

func (c ipcClient) Announce(ctx context.Context, path string) (listener, error) {
	l, err := c.Client.Announce(ctx, path)
	if err != nil {
		return nil, err // not a listener that is nil inside
	}
	return l, nil
}

// dialDaemon connects to the daemon's socket.
func dialDaemon(t *ipc.Tree) (client, error) {
	c, err := t.Dial(context.Background())
	if err != nil {
		return nil, err
	}
	return ipcClient{c}, nil
}

// remoteAddr returns the other side of a TCP socket as conn/ID/remote has it,
// address!port, else "".
func remoteAddr(fd int) string {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return ""
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr).String() + "!" + strconv.Itoa(sa.Port)
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr).Unmap()
		if link, err := net.InterfaceByIndex(int(sa.ZoneId)); sa.ZoneId != 0 && err == nil {
			addr = addr.WithZone(link.Name)
		}
		return addr.String() + "!" + strconv.Itoa(sa.Port)
	}
	return ""
}
