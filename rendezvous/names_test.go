package rendezvous

import (
	"strconv"
	"strings"
	"testing"
)

func TestValidName_TakesNamesAndNothingElse(t *testing.T) {
	for _, s := range []string{"a", "0", "web-2", "A.b_c-d", strings.Repeat("x", MaxName)} {
		if !ValidName(s) {
			t.Errorf("ValidName(%q): got false", s)
		}
	}
	for _, s := range []string{"", ".", "..", "-a", "_a", ".a", "a b", "a/b", "a,b", "a=b", "ä", "a\x00", strings.Repeat("x", MaxName+1)} {
		if ValidName(s) {
			t.Errorf("ValidName(%q): got true", s)
		}
	}
}

func TestValidHost_TakesNamesHostNamesAndAddresses(t *testing.T) {
	long := strings.Repeat(strings.Repeat("x", 62)+".", 4)
	for _, s := range []string{
		"local", "web1", "db.example.org", "db.example.org.", "_srv.example.org", "xn--bcher-kva.example",
		"10.0.0.1", "::1", "fe80::1%eth0", "fe80::1%2", "2001:db8::7", "::ffff:10.0.0.1", "::", "1.2.3",
		long + "x", long,
	} {
		if !ValidHost(s) {
			t.Errorf("ValidHost(%q): got false", s)
		}
	}
	for _, s := range []string{
		"", ".", "..", ".a", "-a", "a b", "a/b", "a,b", "[::1]", "::1%", "::1%a/b", "::1%a,b", "::1%" + strings.Repeat("e", 16),
		"10.0.0.1:80", "a@b", "ä.de", "_a..b", long + "xx", strings.Repeat("x", 128),
	} {
		if ValidHost(s) {
			t.Errorf("ValidHost(%q): got true", s)
		}
	}
}

func TestLooksNumeric_FindsAbbreviatedAddresses(t *testing.T) {
	for s, want := range map[string]bool{
		"127.1": true, "1": true, "0x7f000001": true, "1.0x1F": true, "a.1": true, "a.1.": true, "0x": true,
		"web1": false, "1.a": false, "0xg": false, "example.org.": false, "1.2.3.4a": false,
	} {
		if got := looksNumeric(s); got != want {
			t.Errorf("looksNumeric(%q): got %v, want %v", s, got, want)
		}
	}
}

// The values were computed with another implementation of FNV-1a. They are a promise to other systems and may not
// change.
func TestComputedPort_IsTheSameEverywhere(t *testing.T) {
	for name, want := range map[string]uint16{
		"echo":   30694,
		"report": 10631,
		"a":      20058,
	} {
		if got := ComputedPort(name); got != want {
			t.Errorf("ComputedPort(%q): got %d, want %d", name, got, want)
		}
	}
}

func TestComputedPort_StaysInItsRange(t *testing.T) {
	low, high := uint16(65535), uint16(0)
	for i := range 200000 {
		p := ComputedPort(strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("yz", i%5) + strconv.Itoa(i))
		low, high = min(low, p), max(high, p)
	}
	if low != 5001 || high != 32767 {
		t.Errorf("got ports %d to %d, want 5001 to 32767", low, high)
	}
}
