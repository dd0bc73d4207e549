package netns

import (
	"os"
	"strings"
	"testing"
)

func TestNet_JoinsItsHostsAndLeavesNothing(t *testing.T) {
	if err := Usable(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	w, err := New(2)
	if err != nil {
		t.Fatal(err)
	}
	a, b := w.Hosts[0], w.Hosts[1]
	out, err := a.Command("ip", "-4", "-o", "addr", "show", "dev", "eth0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), a.Addr+"/24") {
		t.Errorf("eth0 of a: got %q, %v, want %s", out, err, a.Addr)
	}
	for _, f := range []func() error{b.Cut, b.Heal, b.Cut} {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{w.hub, a.NS, b.NS} {
		if _, err := os.Stat("/run/netns/" + name); !os.IsNotExist(err) {
			t.Errorf("%s: got %v, want it gone", name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Errorf("once more: %v", err)
	}
}
