package faults

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

// needFiles skips a test where processes may not have that many descriptors.
func needFiles(t *testing.T, n uint64) {
	t.Helper()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Max < n {
		t.Skipf("needs %d descriptors a process, the limit is %d", n, l.Max)
	}
}

// streams opens many streams, says so, writes and reads on each, says so, and closes them when it is told to.
const streams = `
import os, resource, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
fds = [os.open(sys.argv[1], os.O_RDWR) for i in range(int(sys.argv[2]))]
print("open", flush=True)
for i, fd in enumerate(fds): os.write(fd, b"%08d" % i)
for i, fd in enumerate(fds): assert os.read(fd, 8) == b"%08d" % i, i
print("used", flush=True)
sys.stdin.readline()`

func TestStreams_TenThousandOpen(t *testing.T) {
	const many = 10000
	needFiles(t, many+1000)
	n := start(t)
	port, echo := echoAll(t)
	// One stream first, for what the daemon opens once.
	n.Spawn(daemon.Root, "python3", "-c", streams, "dev/tcp/local/"+port, "1").Expect("open")
	echo(1)
	waitMetric(t, n, "convoke_connections", 1)
	fds := n.FDs()
	c := n.Spawn(daemon.Root, "python3", "-c", streams, "dev/tcp/local/"+port, strconv.Itoa(many))
	echo(many)
	c.Expect("used")
	if got := n.Metric("convoke_connections"); got != many+1 {
		t.Errorf("%d connections, want %d", got, many+1)
	}
	if r := n.Sh("ls conn | wc -l"); strings.TrimSpace(r.Out) != strconv.Itoa(many+1) {
		t.Errorf("conn lists %q", r.Out)
	}
	c.Signal(syscall.SIGKILL)
	c.Ends(daemon.Bound)
	waitMetric(t, n, "convoke_connections", 1)
	daemon.Eventually(t, daemon.Bound, "descriptors back", func() bool { return n.FDs() <= fds+2 })
}

// echoAll listens on a port. echo takes that many connections and then answers eight bytes on each; it has no goroutine
// for each, of which the race detector allows 8,128.
func echoAll(t *testing.T) (port string, echo func(count int)) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	t.Cleanup(func() {
		l.Close()
		for _, c := range conns {
			c.Close()
		}
	})
	port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	return port, func(count int) {
		t.Helper()
		l.(*net.TCPListener).SetDeadline(time.Now().Add(3 * daemon.Bound))
		var b [8]byte
		first := len(conns)
		for range count {
			c, err := l.Accept()
			if err != nil {
				t.Fatalf("after %d connections: %v", len(conns), err)
			}
			conns = append(conns, c)
		}
		for i, c := range conns[first:] {
			c.SetDeadline(time.Now().Add(daemon.Bound))
			if _, err := io.ReadFull(c, b[:]); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			if _, err := c.Write(b[:]); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
	}
}

// openAgain opens the same path in rounds and prints the number that the server gives each connection.
const openAgain = `read -r go
i=0
while [ $i -lt 20 ]; do
	exec 3<>"$1" || exit 1
	read -r id <&3 || exit 2
	echo "$id"
	exec 3>&-
	i=$((i+1))
done`

func TestStreams_OpenedByManyAtTheSameTime(t *testing.T) {
	n := start(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan int, 1)
	go func() {
		count := 0
		for {
			c, err := l.Accept()
			if err != nil {
				accepted <- count
				return
			}
			fmt.Fprintln(c, count)
			count++
			c.Close()
		}
	}()
	const procs, rounds = 200, 20
	path := "dev/tcp/local/" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	var children []*daemon.Child
	for range procs {
		children = append(children, n.Spawn(daemon.U1000, "sh", "-c", openAgain, "sh", path))
	}
	for _, c := range children {
		c.Say("go")
	}
	seen := map[string]bool{}
	for i, c := range children {
		for range rounds {
			id := c.Line()
			if seen[id] {
				t.Errorf("connection %s was given to two opens", id)
			}
			seen[id] = true
		}
		if status := c.Ends(daemon.Bound); status != 0 || c.Stderr() != "" {
			t.Errorf("process %d: status %d, stderr %q", i, status, c.Stderr())
		}
	}
	l.Close()
	if got := <-accepted; got != procs*rounds {
		t.Errorf("the server has seen %d connections, want %d", got, procs*rounds)
	}
	waitMetric(t, n, "convoke_connections", 0)
}
