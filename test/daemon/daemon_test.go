package daemon

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestStart_NodeOfItsOwnThatLeavesNothing(t *testing.T) {
	Need(t, "fuse", "root")
	var dir string
	t.Run("node", func(t *testing.T) {
		n := Start(t, Opts{Name: "web1"})
		dir = n.Dir
		n.Want("readlink cluster/self; id -u", "members/web1\n0\n")
		if r := n.ShAs(User{1000, 1000, []uint32{7, 8}}, "id -u; id -g; id -G"); r.Out != "1000\n1000\n1000 7 8\n" {
			t.Errorf("as uid 1000: got %+v", r)
		}
		n.WantErr(U1000, "echo leave >cluster/ctl", "ermission denied")
		if n.FDs() < 5 || n.RSS() < 1<<20 || n.Metric("convoke_uptime_seconds") < 0 || !strings.Contains(n.Stderr(), "ready") {
			t.Errorf("got %d descriptors, %d bytes, stderr %s", n.FDs(), n.RSS(), n.Stderr())
		}
		n.Kill()
		if !Mounted(t, n.Mount) {
			t.Error("the mount of a killed daemon is gone")
		}
		n.Start()
		n.Want("cat cluster/name", "convoke\n")
	})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: got %v, want it removed", dir, err)
	}
}

func TestStart_HostsOfANetwork(t *testing.T) {
	Need(t, "fuse", "netns", "nc")
	w := NewNet(t, 2)
	key := NewKey(t)
	a := Start(t, Opts{Name: "a", KeyFile: key, Host: w.Hosts[0]})
	b := Start(t, Opts{Name: "b", KeyFile: key, Host: w.Hosts[1], Join: []*Node{a}, Resolv: "nameserver 10.77.0.1\n"})
	a.WaitAlive("a", "b")
	b.WaitAlive("a", "b")
	if r := a.ShAs(U1000, "id -u; cat /proc/net/fib_trie"); !strings.HasPrefix(r.Out, "1000\n") || !strings.Contains(r.Out, "10.77.0.1") {
		t.Errorf("got %+v", r)
	}
	_, port, _ := net.SplitHostPort(b.Addr)
	w.Hosts[1].Cut()
	if r := Finish(t, w.Hosts[0].Command("nc", "-z", "-w1", "10.77.0.2", port), Bound); r.Code == 0 {
		t.Errorf("a host that is cut off answers: %+v", r)
	}
	w.Hosts[1].Heal()
	w.Hosts[0].Run("nc -z -w5 10.77.0.2 " + port)
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/resolv.conf", b.PID())); err != nil || string(text) != "nameserver 10.77.0.1\n" {
		t.Errorf("resolv.conf of the daemon: got %q, %v", text, err)
	}
	if text, _ := os.ReadFile("/etc/resolv.conf"); string(text) == "nameserver 10.77.0.1\n" {
		t.Error("resolv.conf of the machine has changed")
	}
}

func TestFinish_TellsTheSignal(t *testing.T) {
	Need(t, "fuse", "root")
	n := Start(t, Opts{})
	if r := n.Sh("kill -TERM $$"); r.Code != 128+int(syscall.SIGTERM) {
		t.Errorf("got %+v", r)
	}
}
