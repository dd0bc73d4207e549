package netns

import (
	"fmt"
	"strings"
)

// The packet filter of a host: what comes from an address of the set cut is lost, what comes by tcp from one of the set
// rst is answered by a reset.
const filter = `table inet faults {
	set cut { type ipv4_addr; }
	set rst { type ipv4_addr; }
	chain in {
		type filter hook input priority 0;
		ip saddr @cut drop
		ip saddr @rst meta l4proto tcp reject with tcp reset
	}
}
`

// Lose has the host lose all that comes from the other one; what it sends there still arrives.
func (h *Host) Lose(from *Host) error { return h.change("add", "cut", from) }

// Hear undoes Lose.
func (h *Host) Hear(from *Host) error { return h.change("delete", "cut", from) }

// Reset has the host answer all that comes by tcp from the other one with a reset, which ends the connection there.
func (h *Host) Reset(from *Host) error { return h.change("add", "rst", from) }

// Keep undoes Reset.
func (h *Host) Keep(from *Host) error { return h.change("delete", "rst", from) }

// HearAll undoes all of Lose and Reset at this host.
func (h *Host) HearAll() error {
	if !h.filtered {
		return nil
	}
	return h.nft("flush set inet faults cut\nflush set inet faults rst\n")
}

func (h *Host) change(verb, set string, from *Host) error {
	if !h.filtered {
		if err := h.nft(filter); err != nil {
			return err
		}
		h.filtered = true
	}
	return h.nft(fmt.Sprintf("%s element inet faults %s { %s }\n", verb, set, from.Addr))
}

// nft gives a script to nft(8) in the host's namespace.
func (h *Host) nft(script string) error {
	cmd := h.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft on %s: %s: %w: %s", h.NS, script, err, out)
	}
	return nil
}
