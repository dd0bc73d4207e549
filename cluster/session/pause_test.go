package session

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// childEnv makes the test binary a node of its own, whose value is the address
// of its only target, node 1.
const childEnv = "CONVOKE_SESSION_TEST_CHILD"

func TestMain(m *testing.M) {
	if addr := os.Getenv(childEnv); addr != "" {
		child(netip.MustParseAddrPort(addr))
		return
	}
	os.Exit(m.Run())
}

// child is node 2, and prints what its handler is told until its input ends.
func child(addr netip.AddrPort) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	m, err := New(Config{
		Self: nk(2, 1), Name: "node2", Cluster: "c", Listener: l, Handler: &printer{},
		Hello: func() (ring.ID, uint64) { return ring.ID{}, 0 },
		Log:   slog.New(slog.DiscardHandler), Dead: time.Second,
	})
	if err != nil {
		panic(err)
	}
	m.SetTargets([]Target{{Name: "node1", ID: 1, Addr: addr}})
	io.Copy(io.Discard, os.Stdin)
	m.Close()
}

// printer is a handler that prints.
type printer struct{ mu sync.Mutex }

func (p *printer) line(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Println(s)
}

func (p *printer) Up(*Peer)                              { p.line("up") }
func (p *printer) Frame(*Peer, ring.Type, uint8, []byte) { p.line("frame") }
func (p *printer) Down(*Peer, error, bool)               { p.line("down") }
func (p *printer) Dead(ring.NK)                          { p.line("dead") }
func (p *printer) Paused(time.Duration)                  { p.line("paused") }
func (p *printer) BootKnown(uint64)                      { p.line("boot") }

// A daemon that is stopped is silent for the others, and knows of it when it goes
// on.
func TestPause_OfAProcess(t *testing.T) {
	a := newRecorder(t)
	m, self, _ := startTCP(t, 1, nil, a, func(c *Config) { c.Dead = time.Second })
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+self.Addr.String())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Process.Kill()
		cmd.Wait()
	})
	var mu sync.Mutex
	var lines []string
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			mu.Lock()
			lines = append(lines, s.Text())
			mu.Unlock()
		}
	}()
	count := func(what string) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, l := range lines {
			if l == what {
				n++
			}
		}
		return n
	}
	await(t, "a session", func() bool { return a.peer(2) != nil && count("up") > 0 })

	pauses := count("paused") // this host may be that busy
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, "down at the other node", func() bool { return a.peer(2) == nil })
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, "the pause", func() bool { return count("paused") > pauses })
	await(t, "a session again", func() bool { return a.peer(2) != nil })
	in.Close()
	<-read
	if count("down") == 0 {
		t.Error("it is not told that its session has ended")
	}
	m.Close()
}
