package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
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

func TestHost_LosesOneWayAndResets(t *testing.T) {
	Need(t, "netns", "nft")
	w := NewNet(t, 2)
	a, b := w.Hosts[0], w.Hosts[1]
	s := b.Serve()
	dial := func(d time.Duration) (c net.Conn, err error) {
		a.In(func() { c, err = net.DialTimeout("tcp", net.JoinHostPort(b.Addr, fmt.Sprint(s.Port)), d) })
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return c, err
	}
	c, err := dial(Bound)
	if err != nil {
		t.Fatal(err)
	}
	server := s.Accept()
	buf := make([]byte, 1)

	// What a says is lost, and what b says arrives.
	a.must(b.Lose(a.Host))
	if _, err := dial(300 * time.Millisecond); err == nil {
		t.Error("b hears a, whose packets it loses")
	}
	if _, err := server.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(Bound))
	if _, err := c.Read(buf); err != nil || buf[0] != 'y' {
		t.Errorf("a got %q, %v from b", buf, err)
	}
	a.must(b.HearAll())
	if _, err := dial(Bound); err != nil {
		t.Errorf("healed: %v", err)
	}
	a.must(b.Reset(a.Host))
	if _, err := dial(Bound); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want a reset", err)
	}
	if _, err := c.Write([]byte("z")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v of an old connection, want a reset", err)
	}
	a.must(b.Keep(a.Host))
	if _, err := dial(Bound); err != nil {
		t.Errorf("kept: %v", err)
	}
}
