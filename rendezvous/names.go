package rendezvous

import (
	"hash/fnv"
	"net/netip"
	"strings"
)

// Limits of the parts of a path, in bytes.
const (
	MaxHost    = 253 // a HOST: the longest name that the DNS has
	MaxName    = 127 // the name of a service, member, group or alias
	MaxElement = 255 // SERVICE with its options: one file name (NAME_MAX)
)

// ValidName reports whether s is a name of a service, member, group or alias: [A-Za-z0-9][A-Za-z0-9._-]*, at most
// MaxName bytes.
func ValidName(s string) bool {
	if s == "" || len(s) > MaxName || !alnum(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if !nameByte(s[i]) {
			return false
		}
	}
	return true
}

// ValidHost reports whether s may stand for HOST, so that it can be looked up below dev/tcp and dev/udp: a name, a host
// name (with a final dot too), or an IPv4 or IPv6 address (with %zone too). It is at most MaxHost bytes. Nothing is
// resolved: that a host is valid does not say that it exists.
func ValidHost(s string) bool {
	if len(s) > MaxHost {
		return false
	}
	return ValidName(s) || validHostname(s) || validAddr(s)
}

func validHostname(s string) bool {
	s = strings.TrimSuffix(s, ".")
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			if c := label[i]; !alnum(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// validAddr bounds the zone, which netip takes as any bytes at all, to what can name or number an interface.
func validAddr(s string) bool {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return false
	}
	const ifnamsiz = 16 // linux/if.h, the final NUL included
	zone := a.Zone()
	if len(zone) >= ifnamsiz {
		return false
	}
	for i := 0; i < len(zone); i++ {
		if c := zone[i]; !nameByte(c) && c != '@' {
			return false
		}
	}
	return true
}

// looksNumeric reports whether the last label of a host name is a number. No top-level domain is one, but the C
// library's resolver would take such a name for an abbreviated address ("127.1", "0x7f000001").
func looksNumeric(host string) bool {
	host = strings.TrimSuffix(host, ".")
	label := host[strings.LastIndexByte(host, '.')+1:]
	if rest, ok := strings.CutPrefix(strings.ToLower(label), "0x"); ok {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return label != "" && allDigits(label)
}

// ComputedPort is the port of a service name that is neither announced nor in the system's service table: 5001 + (the
// 32-bit FNV-1a hash of the name) mod 27767, thus 5001 to 32767. It is the same on every system, and lies below the
// usual range of ephemeral ports, from which the kernel could have given it to somebody else.
func ComputedPort(name string) uint16 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return uint16(5001 + h.Sum32()%27767)
}

func alnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func nameByte(c byte) bool { return alnum(c) || c == '.' || c == '_' || c == '-' }

func allDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
