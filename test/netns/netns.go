// Package netns makes small networks of network namespaces for tests and measurements: hosts with a loopback and an
// eth0, joined by a switch that is a namespace of its own. Nothing of it reaches the machine's own network.
package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A Net is a network of hosts.
type Net struct {
	hub   string
	Hosts []*Host
}

// A Host is one network namespace. Its methods are for one goroutine at a time.
type Host struct {
	net  *Net
	NS   string // name of the namespace, for ip netns
	Addr string // of eth0, in 10.77.0.0/24
	port string // its end at the switch

	filtered bool // it has a packet filter
}

var nets atomic.Int64

// New makes a network of n hosts, 10.77.0.1 and following. Networks do not see each other, so all have the same
// addresses. Close removes it; it must outlive what runs in it.
func New(n int) (*Net, error) {
	prefix := fmt.Sprintf("cv%d-%d-", os.Getpid(), nets.Add(1))
	w := &Net{hub: prefix + "hub"}
	if err := w.make(prefix, n); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *Net) make(prefix string, n int) error {
	if err := ips([][]string{
		{"netns", "add", w.hub},
		{"-n", w.hub, "link", "add", "name", "br0", "type", "bridge"},
		{"-n", w.hub, "link", "set", "br0", "up"},
	}); err != nil {
		return err
	}
	for i := 1; i <= n; i++ {
		h := &Host{net: w, NS: prefix + strconv.Itoa(i), Addr: fmt.Sprintf("10.77.0.%d", i), port: "p" + strconv.Itoa(i)}
		w.Hosts = append(w.Hosts, h)
		if err := ips([][]string{
			{"netns", "add", h.NS},
			{"-n", h.NS, "link", "set", "lo", "up"},
			{"-n", h.NS, "link", "add", "name", "eth0", "type", "veth", "peer", "name", h.port, "netns", w.hub},
			{"-n", h.NS, "addr", "add", h.Addr + "/24", "dev", "eth0"},
			{"-n", h.NS, "link", "set", "eth0", "up"},
			{"-n", w.hub, "link", "set", h.port, "master", "br0", "up"},
		}); err != nil {
			return err
		}
	}
	return nil
}

// Close removes the namespaces that there are. The kernel keeps one for as long as a process is in it.
func (w *Net) Close() error {
	var errs []error
	names := []string{w.hub}
	for _, h := range w.Hosts {
		names = append(names, h.NS)
	}
	for _, name := range names {
		if _, err := os.Stat("/run/netns/" + name); err != nil {
			continue
		}
		if err := ip("netns", "del", name); err != nil {
			errs = append(errs, fmt.Errorf("network namespace %s stays: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Cut takes the host off the network: the link stays up for it, but nothing comes through.
func (h *Host) Cut() error { return ip("-n", h.net.hub, "link", "set", h.port, "nomaster") }

// Heal undoes Cut.
func (h *Host) Heal() error { return ip("-n", h.net.hub, "link", "set", h.port, "master", "br0") }

// Command is exec.Command for a program in the host's namespace; its process is the program's own.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=/run/netns/" + h.NS, "--", name}, args...)...)
}

func ips(calls [][]string) error {
	for _, args := range calls {
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

// ip runs ip(8).
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Usable tells why no network can be made here; it tries once in a process.
var Usable = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return errors.New("only root makes network namespaces")
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		return err
	}
	w, err := New(1)
	if err != nil {
		return err
	}
	return w.Close()
})
