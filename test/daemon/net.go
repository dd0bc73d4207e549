package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// A Net is a network of hosts that are network namespaces, joined by a switch. It reaches nothing outside.
type Net struct {
	t     testing.TB
	hub   string
	Hosts []*Host
}

// A Host is one network namespace with loopback, and eth0 to the switch.
type Host struct {
	t    testing.TB
	net  *Net
	NS   string // name of the namespace, for ip netns
	Addr string // of eth0, in 10.77.0.0/24
	port string // its end at the switch
}

var nets atomic.Int64

// NewNet makes a network of n hosts, 10.77.0.1 and following; it goes with the test, and must outlive its daemons: make
// it before them.
func NewNet(t testing.TB, n int) *Net {
	t.Helper()
	prefix := fmt.Sprintf("cv%d-%d-", os.Getpid(), nets.Add(1))
	w := &Net{t: t, hub: prefix + "hub"}
	w.add(w.hub)
	w.ip("-n", w.hub, "link", "add", "name", "br0", "type", "bridge")
	w.ip("-n", w.hub, "link", "set", "br0", "up")
	for i := 1; i <= n; i++ {
		h := &Host{t: t, net: w, NS: prefix + strconv.Itoa(i), Addr: fmt.Sprintf("10.77.0.%d", i), port: "p" + strconv.Itoa(i)}
		w.Hosts = append(w.Hosts, h)
		w.add(h.NS)
		w.ip("-n", h.NS, "link", "set", "lo", "up")
		w.ip("-n", h.NS, "link", "add", "name", "eth0", "type", "veth", "peer", "name", h.port, "netns", w.hub)
		w.ip("-n", h.NS, "addr", "add", h.Addr+"/24", "dev", "eth0")
		w.ip("-n", h.NS, "link", "set", "eth0", "up")
		w.ip("-n", w.hub, "link", "set", h.port, "master", "br0", "up")
	}
	return w
}

func (w *Net) add(name string) {
	w.t.Helper()
	w.ip("netns", "add", name)
	w.t.Cleanup(func() {
		if err := ip("netns", "del", name); err != nil {
			w.t.Errorf("network namespace %s stays: %v", name, err)
		}
	})
}

func (w *Net) ip(args ...string) {
	w.t.Helper()
	if err := ip(args...); err != nil {
		w.t.Fatal(err)
	}
}

// ip runs ip(8).
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Cut takes the host off the network: the link stays up for it, but nothing comes through.
func (h *Host) Cut() {
	h.t.Helper()
	h.net.ip("-n", h.net.hub, "link", "set", h.port, "nomaster")
}

// Heal undoes Cut.
func (h *Host) Heal() {
	h.t.Helper()
	h.net.ip("-n", h.net.hub, "link", "set", h.port, "master", "br0")
}

// Command is exec.Command for a program in the host's namespace; its process is the program's own.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=/run/netns/" + h.NS, "--", name}, args...)...)
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
