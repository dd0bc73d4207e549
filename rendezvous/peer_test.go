package rendezvous

import (
	"slices"
	"testing"
)

func TestPeer_ShowsWhatIsNotKnownAsADash(t *testing.T) {
	for _, tt := range []struct {
		p    Peer
		want string
	}{
		{Peer{Host: "10.0.0.2", Node: "web2", PID: 4242, UID: 1000, GID: 1001}, "10.0.0.2 web2 4242 1000 1001"},
		{Peer{Host: "local", PID: 1, UID: 0, GID: 0}, "local - 1 0 0"},
		{unproved("::1"), "::1 - - - -"},
		{Peer{UID: 1000, GID: NoID}, "- - - 1000 -"},
	} {
		if got := tt.p.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestPeer_TellsAServerInItsEnvironment(t *testing.T) {
	want := []string{
		"CONVOKE_PEER_HOST=10.0.0.2", "CONVOKE_PEER_NODE=-", "CONVOKE_PEER_PID=-", "CONVOKE_PEER_UID=1000",
		"CONVOKE_PEER_GID=-", "CONVOKE_PEER_ADDR=10.0.0.2!4000",
	}
	p := Peer{Host: "10.0.0.2", UID: 1000, GID: NoID}
	if got := p.Env("10.0.0.2!4000"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	want[5] = "CONVOKE_PEER_ADDR=-"
	if got := p.Env(""); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
