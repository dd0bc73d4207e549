package cluster

import (
	"fmt"
	"net/netip"
)

// maxName is the longest name of a node, a cluster or a tag, in bytes.
const maxName = 127

// validName tells whether s is [A-Za-z0-9][A-Za-z0-9._-]* of at most maxName
// bytes. Such a name is safe as a file name and as a field of a line.
func validName(s string) bool {
	if s == "" || len(s) > maxName || !alnum(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !alnum(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func alnum(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// checkNodeName says why a name can not be a node's. "local" and "share" mean
// this host and any member wherever a member's name may stand, so a node of
// that name could not be reached.
func checkNodeName(s string) error {
	switch {
	case !validName(s):
		return fmt.Errorf("node name %q: %w: want letters, digits, '.', '_' and '-', at most %d bytes", s, ErrInvalid, maxName)
	case s == "local" || s == "share":
		return fmt.Errorf("node name %q: %w: the word has a meaning of its own", s, ErrInvalid)
	}
	return nil
}

// validAddr tells whether a member can be reached at a.
func validAddr(a netip.AddrPort) bool {
	ip := a.Addr()
	return a.IsValid() && a.Port() != 0 && ip.Zone() == "" && !ip.IsUnspecified() && !ip.IsMulticast()
}
