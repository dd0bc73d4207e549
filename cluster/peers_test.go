package cluster

import (
	"maps"
	"net/netip"
	"strings"
	"testing"
)

func TestPeers_RoundTrip(t *testing.T) {
	want := map[string]peer{
		"web1":  {Addr: netip.MustParseAddrPort("127.0.0.1:7947")},
		"web_2": {Addr: netip.MustParseAddrPort("[fd00::1]:1"), Left: true},
	}
	text := formatPeers(want)
	if string(text) != "web1 127.0.0.1:7947\nweb_2 [fd00::1]:1 left\n" {
		t.Errorf("file %q", text)
	}
	if got, bad := parsePeers(text); !maps.Equal(got, want) || bad != 0 {
		t.Errorf("got %v, %d bad lines, want %v", got, bad, want)
	}
}

func TestPeers_BadLinesAreLeftOut(t *testing.T) {
	text := `good 127.0.0.1:1
nothing
zero 127.0.0.1:0
local 127.0.0.1:1
any 0.0.0.0:1
host example.org:1
a/b 127.0.0.1:1
gone 127.0.0.1:2 gone
two  127.0.0.1:2
four 127.0.0.1:2 left left

last 127.0.0.1:3 left`
	got, bad := parsePeers([]byte(text))
	if len(got) != 2 || bad != 10 || got["good"].Addr.Port() != 1 || !got["last"].Left {
		t.Errorf("got %v, %d bad lines", got, bad)
	}
	if got, bad := parsePeers([]byte(strings.Repeat("a", maxPeerBytes+1))); len(got) != 0 || bad == 0 {
		t.Errorf("a file that is too long: %v, %d", got, bad)
	}
}

func FuzzParsePeers(f *testing.F) {
	f.Add([]byte("web1 127.0.0.1:7947\nweb2 [::1]:1 left\n"))
	f.Add([]byte("a b c d\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, _ := parsePeers(text)
		for name, p := range got {
			if !validName(name) || !validAddr(p.Addr) {
				t.Fatalf("%q at %v", name, p.Addr)
			}
		}
		if again, bad := parsePeers(formatPeers(got)); !maps.Equal(again, got) || bad != 0 {
			t.Fatalf("%v comes back as %v", got, again)
		}
	})
}
