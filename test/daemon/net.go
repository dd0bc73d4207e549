package daemon

import (
	"testing"

	"github.com/convoke-fs/convoke/test/netns"
)

// A Net is a network of hosts that are network namespaces, joined by a switch. It reaches nothing outside.
type Net struct{ Hosts []*Host }

// A Host is one network namespace with loopback, and eth0 to the switch.
type Host struct {
	*netns.Host
	t testing.TB
}

// NewNet makes a network of n hosts, 10.77.0.1 and following; it goes with the test, and must outlive its daemons: make
// it before them.
func NewNet(t testing.TB, n int) *Net {
	t.Helper()
	made, err := netns.New(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := made.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &Net{}
	for _, h := range made.Hosts {
		w.Hosts = append(w.Hosts, &Host{Host: h, t: t})
	}
	return w
}

// Cut takes the host off the network: the link stays up for it, but nothing comes through.
func (h *Host) Cut() { h.t.Helper(); h.must(h.Host.Cut()) }

// Heal undoes Cut.
func (h *Host) Heal() { h.t.Helper(); h.must(h.Host.Heal()) }

func (h *Host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// Run runs a shell script in the host's namespace and returns its output. The test ends when the script fails.
func (h *Host) Run(script string) string {
	h.t.Helper()
	out, err := h.Command("sh", "-c", script).CombinedOutput()
	if err != nil {
		h.t.Fatalf("on %s: %s: %v: %s", h.NS, script, err, out)
	}
	return string(out)
}
