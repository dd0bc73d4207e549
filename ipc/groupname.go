package ipc

import "strings"

// Limits of names of groups.
const (
	maxGroupName     = 128 // bytes, which may be any
	maxTreeGroupName = 127 // of one that stands in the tree as it is
)

// validGroup tells whether the name of a group stands in the tree as it is.
func validGroup(name string) bool {
	if name == "" || len(name) > maxTreeGroupName || !isAlnum(name[0]) {
		return false
	}
	for i := range len(name) {
		if !inGroupName(name[i]) {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

func inGroupName(c byte) bool { return isAlnum(c) || c == '.' || c == '_' || c == '-' }

const upperHex = "0123456789ABCDEF"

// EscapeGroup returns the name by which a group stands below cluster/groups: its own, unless a library has made it with
// a name that files do not have. Of such a one the bytes that may not be there are %HH, and the first byte if that alone
// tells it from a name that may; the empty name is a single %.
func EscapeGroup(name string) string {
	switch {
	case validGroup(name):
		return name
	case name == "":
		return "%"
	}
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if inGroupName(c) && (i > 0 || isAlnum(c) && len(name) <= maxTreeGroupName) {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
	}
	return b.String()
}

// UnescapeGroup returns the name of the group that stands below cluster/groups as s, and false where none can.
func UnescapeGroup(s string) (name string, ok bool) {
	switch {
	case validGroup(s):
		return s, true
	case s == "" || len(s) > 3*maxGroupName:
		return "", false
	case s == "%":
		return "", true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			high, low := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			c = byte(high<<4 | low)
			i += 2
		}
		b.WriteByte(c)
	}
	name = b.String()
	return name, len(name) <= maxGroupName && EscapeGroup(name) == s
}
