package rendezvous

import (
	"net/netip"
	"strconv"
)

// NoID stands for a uid or gid that is not proved.
const NoID = noID

// Peer is who is at the other end of a connection, as far as it is proved.
type Peer struct {
	Host     string // its address, or "local" for FDP
	Node     string // the member it is on; "" if that is not known
	PID      int    // 0: not proved
	UID, GID uint32 // NoID: not proved
}

// unproved returns a Peer of which nothing but the address is known.
func unproved(host string) Peer { return Peer{Host: host, UID: NoID, GID: NoID} }

// peerHost is how an address stands in Peer.Host.
func peerHost(a netip.AddrPort) string { return a.Addr().Unmap().String() }

// peerOf is the Peer for a caller on this node whose identity is proved.
func (h *Host) peerOf(c Caller, host string) Peer {
	return Peer{Host: host, Node: h.opts.Self, PID: c.TGID, UID: c.UID, GID: c.GID}
}

func (p Peer) fields() [5]string {
	id := func(n uint32) string {
		if n == NoID {
			return "-"
		}
		return strconv.FormatUint(uint64(n), 10)
	}
	f := [5]string{p.Host, p.Node, "-", id(p.UID), id(p.GID)}
	if p.PID != 0 {
		f[2] = strconv.Itoa(p.PID)
	}
	for i := range f {
		if f[i] == "" {
			f[i] = "-"
		}
	}
	return f
}

// String returns "HOST NODE PID UID GID", with "-" for what is not known.
func (p Peer) String() string {
	f := p.fields()
	return f[0] + " " + f[1] + " " + f[2] + " " + f[3] + " " + f[4]
}

// Env returns what a server is told of its client in its environment, CONVOKE_PEER_HOST=10.0.0.2 and so on for NODE,
// PID, UID and GID, with "-" for what is not known, and CONVOKE_PEER_ADDR for addr, the client's address!port as
// conn/ID/remote has it, "-" for "".
func (p Peer) Env(addr string) []string {
	if addr == "" {
		addr = "-"
	}
	f := p.fields()
	return []string{
		"CONVOKE_PEER_HOST=" + f[0], "CONVOKE_PEER_NODE=" + f[1], "CONVOKE_PEER_PID=" + f[2],
		"CONVOKE_PEER_UID=" + f[3], "CONVOKE_PEER_GID=" + f[4], "CONVOKE_PEER_ADDR=" + addr,
	}
}
