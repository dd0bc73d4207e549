package faults

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

// quick is how long something may take that the daemon does at once. Under load the scheduler takes its share.
const quick = 3 * time.Second

func TestDial_NobodyListensIsRefused(t *testing.T) {
	n := start(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path := "dev/tcp/127.0.0.1/" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	if _, err := n.Open(path, unix.O_RDWR); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v, want ECONNREFUSED", err)
	}
	for _, port := range []string{"0", "x,user=4242,qualifier"} {
		if _, err := n.Open("dev/tcp/local/"+port, unix.O_RDWR); err == nil {
			t.Errorf("port %s: opened", port)
		}
	}
	if !strings.Contains(n.Log(), "connection refused") {
		t.Errorf("cluster/log does not tell the cause:\n%s", n.Log())
	}
}

func TestDial_NameServers(t *testing.T) {
	daemon.Need(t, "fuse", "netns")
	t.Parallel()
	h := daemon.NewNet(t, 1).Hosts[0]
	asked := nameServer(t, h, "good.test")
	n := daemon.Start(t, daemon.Opts{Host: h, Resolv: "nameserver " + h.Addr + "\noptions timeout:1 attempts:1\n"})
	s := h.Serve()
	port := strconv.Itoa(s.Port)

	n.MustOpen("dev/tcp/good.test/"+port, unix.O_RDWR).Echo(s.Accept(), "hello")
	if _, err := n.Open("dev/tcp/none.test/"+port, unix.O_RDWR); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a name that is not: got %v, want ENOENT", err)
	}
	if _, err := n.Open("dev/tcp/broken.test/"+port, unix.O_RDWR); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a server that fails: got %v, want EAGAIN", err)
	}
	// A silent one: the opener waits, and can be ended.
	for len(asked) > 0 {
		<-asked
	}
	c := n.Spawn(daemon.U1000, "cat", "dev/tcp/silent.test/"+port)
	daemon.Wait(t, daemon.Bound, "question for silent.test", asked)
	began := time.Now()
	c.Signal(syscall.SIGINT)
	c.Ends(daemon.Bound)
	if took := time.Since(began); took > quick {
		t.Errorf("the opener has ended %v after SIGINT, want at once", took)
	}
	s.None()
}

// nameServer answers A questions for good with the host's address, fails for broken.test, says nothing for silent.test,
// and knows nobody else. It tells each name that is asked for.
func nameServer(t *testing.T, h *daemon.Host, good string) <-chan string {
	t.Helper()
	var conn net.PacketConn
	h.In(func() {
		var err error
		if conn, err = net.ListenPacket("udp4", h.Addr+":53"); err != nil {
			t.Fatal(err)
		}
	})
	asked := make(chan string, 1000)
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			q := b[:size]
			name, end := "", 12 // behind the header: RFC 1035, section 4.1
			for end < len(q) && q[end] != 0 {
				l := int(q[end])
				name += string(q[end+1:end+1+l]) + "."
				end += 1 + l
			}
			end += 5 // the final label, type and class
			name = strings.TrimSuffix(name, ".")
			asked <- name
			reply := append([]byte(nil), q[:end]...)
			reply[2], reply[3] = 0x81, 0x80    // an answer, recursion
			copy(reply[6:12], make([]byte, 6)) // no records
			switch isA := q[end-3] == 1; {
			case name == "silent.test":
				continue
			case name == "broken.test":
				reply[3] |= 2 // SERVFAIL
			case name != good:
				reply[3] |= 3 // NXDOMAIN
			case isA:
				reply[7] = 1
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
				reply = append(reply, net.ParseIP(h.Addr).To4()...)
			}
			_, _ = conn.WriteTo(reply, from)
		}
	}()
	return asked
}

// A host that answers nothing: its address leads to a link address that nobody has.
func blackHole(t *testing.T) (n *daemon.Node, path string) {
	t.Helper()
	daemon.Need(t, "fuse", "netns")
	t.Parallel()
	h := daemon.NewNet(t, 1).Hosts[0]
	h.Run("ip neigh add 10.77.0.99 lladdr 02:00:00:00:00:99 dev eth0")
	return daemon.Start(t, daemon.Opts{Host: h}), "dev/tcp/10.77.0.99/80"
}

func TestDial_BlackHoleEndsWithItsOpener(t *testing.T) {
	n, path := blackHole(t)
	fds := n.FDs()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		c := n.Spawn(daemon.U1000, "cat", path)
		waitMetric(t, n, "convoke_dials", 1)
		began := time.Now()
		c.Signal(sig)
		if status := c.Ends(daemon.Bound); status != 128+int(sig) {
			t.Errorf("%v: status %d", sig, status)
		}
		if took := time.Since(began); took > quick {
			t.Errorf("%v: the opener has ended after %v, want at once", sig, took)
		}
		waitMetric(t, n, "convoke_dials", 0)
	}
	daemon.Eventually(t, daemon.Bound, "descriptors back", func() bool { return n.FDs() <= fds })
}

func TestDial_BlackHoleTimesOut(t *testing.T) {
	n, path := blackHole(t)
	began := time.Now()
	r := daemon.Finish(t, n.Command(daemon.U1000, "python3", "-c", `
import os, sys
try: os.open(sys.argv[1], os.O_RDWR)
except OSError as e: print(e.errno)`, path), 2*time.Minute)
	if want := strconv.Itoa(int(unix.ETIMEDOUT)) + "\n"; r.Out != want || r.Code != 0 {
		t.Errorf("got %+v, want %s", r, want)
	}
	if took := time.Since(began); took < 29*time.Second || took > 55*time.Second {
		t.Errorf("it took %v, want 30 s", took)
	}
}
