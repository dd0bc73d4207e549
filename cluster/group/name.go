package group

import "strings"

// maxTreeName is the longest name that stands in the tree as it is.
const maxTreeName = 127

// ValidName tells whether a group's name stands in the tree as it is:
// [A-Za-z0-9][A-Za-z0-9._-]*, at most 127 bytes.
func ValidName(s string) bool {
	if s == "" || len(s) > maxTreeName || !alnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return true
}

// EscapeName gives the name by which a group stands in the tree: its own where
// that is possible. Of others, bytes that may not be there are %HH; the first
// byte too, if nothing else tells the name from a valid one; the empty name is a
// single %. The result has at most 3*MaxName bytes and is the name of no other
// group.
func EscapeName(name string) string {
	switch {
	case ValidName(name):
		return name
	case name == "":
		return "%"
	}
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if nameByte(c) && (i > 0 || alnum(c) && len(name) <= maxTreeName) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}

// UnescapeName gives the name of the group that stands in the tree as s, and
// false when none can: each group has one name there.
func UnescapeName(s string) (name string, ok bool) {
	if ValidName(s) {
		return s, true
	}
	if s == "" || len(s) > 3*MaxName {
		return "", false
	}
	if s == "%" {
		return "", true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		b = append(b, c)
	}
	name = string(b)
	return name, len(name) <= MaxName && EscapeName(name) == s
}

func nameByte(c byte) bool { return alnum(c) || c == '.' || c == '_' || c == '-' }

func alnum(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
