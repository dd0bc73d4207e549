package rendezvous

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Client is one client of an announcement, accepted and not yet used. Who has it from Next owns it.
type Client struct {
	Peer
	Local, Remote netip.AddrPort
	FD            int        // the socket, non-blocking and close-on-exec; -1 for UDP
	Datagrams     *Datagrams // for UDP
}

// Gone tells whether nothing can come of the connection any more: the client has reset it, or, on this host, has closed
// it and sent nothing. One that has only ended what it sends waits for the answer, and one that has sent something is
// to be heard.
func (c *Client) Gone() bool {
	if c.Datagrams != nil {
		return c.Datagrams.isClosed()
	}
	fds := [1]unix.PollFd{{Fd: int32(c.FD), Events: unix.POLLRDHUP}}
	if n, err := unix.Poll(fds[:], 0); err != nil || n == 0 {
		return false
	}
	events := fds[0].Revents
	if events&unix.POLLERR != 0 {
		return true
	}
	tcp := c.Remote.IsValid()
	if tcp && events&unix.POLLHUP != 0 {
		return true // both directions are closed, and ours was not by us
	}
	if unread, err := unix.IoctlGetInt(c.FD, unix.SIOCINQ); err != nil || unread > 0 {
		return false
	}
	if !tcp {
		return events&unix.POLLHUP != 0
	}
	return events&unix.POLLRDHUP != 0 && c.onThisHost() && !openSocket(c.Remote, c.Local)
}

func (c *Client) onThisHost() bool {
	a := c.Remote.Addr()
	return a.IsLoopback() || a == c.Local.Addr()
}

// Reject resets the connection, and closes the descriptor.
func (c *Client) Reject() {
	if c.Datagrams != nil {
		c.Datagrams.Close()
		return
	}
	reset(c.FD)
}

// reset closes a socket so that the other side, if it is TCP's, has ECONNRESET and the port no TIME_WAIT.
func reset(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
}
