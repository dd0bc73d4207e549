package cluster

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// peer is a member that we have met, as the peer file keeps it.
type peer struct {
	Addr netip.AddrPort
	Left bool // it went in good order, so nobody has to look for it
}

// maxPeerBytes bounds a peer file: some 6,000 members with the longest names.
const maxPeerBytes = 1 << 20

// formatPeers writes one line a peer, "NAME ADDRESS:PORT", with " left" at its
// end, sorted by name.
func formatPeers(peers map[string]peer) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(peers)) {
		fmt.Fprintf(&b, "%s %s", name, peers[name].Addr)
		if peers[name].Left {
			b.WriteString(" left")
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// parsePeers reads what formatPeers writes. The file is a hint where to look:
// lines that are none are left out and counted in bad.
func parsePeers(text []byte) (peers map[string]peer, bad int) {
	peers = map[string]peer{}
	if len(text) > maxPeerBytes {
		return peers, 1
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(f) < 2 || len(f) > 3 || len(f) == 3 && f[2] != "left" || checkNodeName(f[0]) != nil {
			bad++
			continue
		}
		addr, err := netip.ParseAddrPort(f[1])
		if err != nil || !validAddr(addr) {
			bad++
			continue
		}
		peers[f[0]] = peer{Addr: addr, Left: len(f) == 3}
	}
	return peers, bad
}
