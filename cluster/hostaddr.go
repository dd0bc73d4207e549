package cluster

import (
	"net"
	"net/netip"
)

// hostAddr chooses the address of a node that was given none: the first private
// IPv4 address of the host, else its first address that is no loopback or
// link-local one, else 127.0.0.1.
func hostAddr() netip.Addr {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return chooseAddr(addrs)
}

func chooseAddr(addrs []net.Addr) netip.Addr {
	best := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := p.Addr().Unmap()
		if ip.Is4() && ip.IsPrivate() {
			return ip
		}
		if best.IsLoopback() && ip.IsGlobalUnicast() {
			best = ip
		}
	}
	return best
}
