package watch

import (
	"fmt"
	"strings"
	"time"
)

// A record is one line without its number, rendered once and shared by all
// readers; it never changes.
type record struct {
	kind Kind
	body string // " TIME KIND fields...\n"
}

const timeLayout = "2006-01-02T15:04:05.000Z"

// newRecord renders a record. The fields are escaped here, at the one place
// through which every line goes.
func newRecord(at time.Time, kind Kind, fields ...string) *record {
	var b strings.Builder
	b.WriteByte(' ')
	b.WriteString(at.UTC().Format(timeLayout))
	b.WriteByte(' ')
	b.WriteString(string(kind))
	for _, f := range fields {
		b.WriteByte(' ')
		b.WriteString(Escape(f))
	}
	b.WriteByte('\n')
	return &record{kind: kind, body: b.String()}
}

// Escape makes one field of any string: bytes that would end the field or the
// line, or that a terminal obeys, become \xHH, and the empty string a minus. It
// guards all lines against strings that come from other members.
func Escape(s string) string {
	plain := s != ""
	for i := 0; plain && i < len(s); i++ {
		plain = plainByte(s[i])
	}
	if plain {
		return s
	}
	if s == "" {
		return "-"
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if plainByte(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, `\x%02X`, s[i])
		}
	}
	return b.String()
}

func plainByte(c byte) bool { return c > ' ' && c < 0x7f && c != '\\' }
