package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster"
)

const (
	readyTime = 20 * time.Second
	stopTime  = 15 * time.Second
)

// Opts say what kind of node to start. The zero value is a cluster of one without a key.
type Opts struct {
	Name    string   // optional: the default is unique in the test binary
	Cluster string   // optional: the cluster's name, "convoke" if empty
	KeyFile string   // optional: with it the node listens at Addr:Port
	Addr    string   // optional: the default is a free one in 127.0.0.0/8, or the host's
	Port    int      // optional: 0 is a free one
	Join    []*Node  // optional: whom to join at the start
	Args    []string // optional: more arguments
	Env     []string // optional: more environment
	Host    *Host    // optional: the network namespace to run in
	Resolv  string   // optional: the text of its /etc/resolv.conf, in a mount namespace of its own
	Plain   bool     // optional: built without the race detector, whose own memory would be measured with the daemon's
}

// A Node is a daemon. Dir holds Mount, its State and Run folders and its stderr. Its methods are for the test's
// goroutine.
type Node struct {
	Name            string
	Dir             string
	Mount           string
	State, RunDir   string
	Addr            string // where it listens, if it has a key: ADDR:PORT
	t               testing.TB
	opts            Opts
	shared          bool // Dir is a mount of its own
	cmd             *exec.Cmd
	exited          chan struct{}
	err             error // of Wait; written before exited is closed
	stderr          *os.File
	killed, stopped bool
}

var nodes atomic.Int64

// Start starts a node and returns when its tree answers and cluster/self is there. At the end of the test it is stopped,
// and the test fails if it did not end well or left its mount behind; a failed test shows its stderr and cluster/log.
func Start(t testing.TB, o Opts) *Node {
	t.Helper()
	n := Prepare(t, o)
	n.Start()
	return n
}

// Prepare makes the folders of a node without starting it.
func Prepare(t testing.TB, o Opts) *Node {
	t.Helper()
	number := nodes.Add(1)
	if o.Name == "" {
		o.Name = fmt.Sprintf("n%d", number)
	}
	Convoked(t) // makes sure of top, too
	n := &Node{t: t, opts: o, Name: o.Name, Dir: filepath.Join(top, strconv.FormatInt(number, 10))}
	n.Mount, n.State, n.RunDir = filepath.Join(n.Dir, "n"), filepath.Join(n.Dir, "state"), filepath.Join(n.Dir, "run")
	if err := os.Mkdir(n.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.remove)
	if o.Resolv != "" {
		n.share()
	}
	stderr, err := os.OpenFile(filepath.Join(n.Dir, "stderr"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	n.stderr = stderr
	if o.KeyFile != "" || len(o.Join) > 0 {
		n.address(number)
	}
	return n
}

// share makes the folder a mount that passes on to other mount namespaces what is mounted in it, and back.
func (n *Node) share() {
	n.t.Helper()
	if err := syscall.Mount(n.Dir, n.Dir, "", syscall.MS_BIND, ""); err != nil {
		n.t.Fatal(err)
	}
	n.shared = true
	if err := syscall.Mount("", n.Dir, "", syscall.MS_SHARED, ""); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.Dir, "resolv.conf"), []byte(n.opts.Resolv), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// address chooses where the node listens: an address of 127.0.0.0/8 that no other node of this process has.
func (n *Node) address(number int64) {
	n.t.Helper()
	addr, port := n.opts.Addr, n.opts.Port
	switch {
	case addr != "":
	case n.opts.Host != nil:
		addr = n.opts.Host.Addr
	default:
		pid := os.Getpid()
		addr = fmt.Sprintf("127.%d.%d.%d", 64+pid>>8&127, pid&255, 1+number%254)
	}
	if port == 0 && n.opts.Host != nil {
		port = cluster.DefaultPort // it has all ports for itself
	}
	if port == 0 {
		port = freePort(n.t, addr)
	}
	n.Addr = net.JoinHostPort(addr, strconv.Itoa(port))
}

// freePort finds a port that is free for tcp and for udp.
func freePort(t testing.TB, addr string) int {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			u.Close()
			return l.Addr().(*net.TCPAddr).Port
		}
	}
	t.Fatalf("no port of %s is free", addr)
	return 0
}

// Command line of the daemon, with its program first.
func (n *Node) argv() []string {
	bin := Convoked(n.t)
	if n.opts.Plain {
		bin = convokedPlain.build(n.t)
	}
	argv := []string{bin, "--name", n.Name, "--state", n.State, "--run", n.RunDir}
	if n.opts.Cluster != "" {
		argv = append(argv, "--cluster", n.opts.Cluster)
	}
	if n.opts.KeyFile != "" {
		argv = append(argv, "--key-file", n.opts.KeyFile)
	}
	if n.Addr != "" {
		// Many tests share the processors, and who is only slow has not died.
		argv = append(argv, "--bind", n.Addr, "--dead-after", "5s")
	}
	for _, m := range n.opts.Join {
		argv = append(argv, "--join", m.Addr)
	}
	return append(append(argv, n.opts.Args...), n.Mount)
}

// inPrivate runs its arguments in a mount namespace where $0 is /etc/resolv.conf. The root is made private first, so
// that this mount stays there; what is mounted below the node's folder is shared still.
const inPrivate = `mount --make-private / && { mount --make-private /etc/resolv.conf 2>/dev/null || :; } && mount --bind "$0" /etc/resolv.conf && exec "$@"`

// Exec starts the daemon without waiting until it is ready.
func (n *Node) Exec() {
	n.t.Helper()
	argv := n.argv()
	if n.opts.Resolv != "" {
		argv = append([]string{"unshare", "-m", "--propagation", "unchanged", "sh", "-c", inPrivate, filepath.Join(n.Dir, "resolv.conf")}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	if n.opts.Host != nil {
		cmd = n.opts.Host.Command(argv[0], argv[1:]...)
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CONVOKE_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, n.opts.Env...)
	cmd.Stderr = n.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	exited := make(chan struct{})
	n.cmd, n.exited, n.killed, n.stopped = cmd, exited, false, false
	go func() {
		n.err = cmd.Wait()
		close(exited)
	}()
}

// Start starts the daemon, again if it has ended, and waits until it is ready.
func (n *Node) Start() {
	n.t.Helper()
	n.Exec()
	ready := make(chan struct{})
	var once sync.Once
	end := time.Now().Add(readyTime)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		// A look at a mount that does not answer yet waits; this loop must not.
		go func() {
			if self, err := os.Readlink(n.Path("cluster/self")); err == nil && self == "members/"+n.Name {
				once.Do(func() { close(ready) })
			}
		}()
		select {
		case <-ready:
			return
		case <-n.exited:
			n.stopped = true
			n.t.Fatalf("%s ended at its start: %v\n%s", n.Name, n.err, n.Stderr())
		case <-look.C:
			if time.Now().After(end) {
				n.t.Fatalf("%s is not ready after %v\n%s", n.Name, readyTime, n.Stderr())
			}
		}
	}
}

// Path returns the path of a file of the tree.
func (n *Node) Path(name string) string { return filepath.Join(n.Mount, name) }

// PID returns the daemon's.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Exited is closed when the daemon has ended.
func (n *Node) Exited() <-chan struct{} { return n.exited }

// Signal sends the daemon a signal. After SIGKILL, use Kill.
func (n *Node) Signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
	if s == syscall.SIGSTOP {
		Eventually(n.t, Bound, "all threads of the daemon are stopped", n.asleep)
	}
}

// asleep tells whether every thread of the daemon has come to its stop; kill(2) returns before.
func (n *Node) asleep() bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", n.cmd.Process.Pid))
	for _, name := range stats {
		b, err := os.ReadFile(name)
		_, state, _ := strings.Cut(string(b), ") ")
		if err == nil && !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return len(stats) > 0
}

// Kill kills the daemon by SIGKILL and waits for its end; its dead mount stays until the next Start or the test's end.
func (n *Node) Kill() {
	n.t.Helper()
	n.killed = true
	n.Signal(syscall.SIGKILL)
	n.wait()
}

// Stop ends the daemon by SIGTERM, and checks that it ends well and leaves no mount.
func (n *Node) Stop() {
	n.t.Helper()
	n.Signal(syscall.SIGTERM)
	n.stopped = true
	if status := n.wait(); status != 0 {
		n.t.Errorf("%s ended with status %d after SIGTERM, want 0: %v", n.Name, status, n.err)
	}
	n.gone()
}

// Wait waits for the end of a daemon that is expected to end by itself, and returns its exit status.
func (n *Node) Wait() int {
	n.t.Helper()
	n.stopped = true
	return n.wait()
}

func (n *Node) wait() int {
	n.t.Helper()
	select {
	case <-n.exited:
	case <-time.After(stopTime):
		n.cmd.Process.Signal(syscall.SIGQUIT) // for its goroutines on stderr
		select {
		case <-n.exited:
		case <-time.After(2 * time.Second):
			n.cmd.Process.Kill()
			<-n.exited
		}
		n.t.Errorf("%s had to be killed", n.Name)
	}
	var exit *exec.ExitError
	if errors.As(n.err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// gone checks that nothing is mounted any more.
func (n *Node) gone() {
	n.t.Helper()
	if Mounted(n.t, n.Mount) {
		n.t.Errorf("%s has left its mount %s", n.Name, n.Mount)
		syscall.Unmount(n.Mount, syscall.MNT_DETACH)
	}
}

// remove stops the daemon and removes its folder.
func (n *Node) remove() {
	defer n.stderr.Close()
	if n.cmd != nil {
		log := ""
		if n.t.Failed() {
			log = n.tryLog()
		}
		select {
		case <-n.exited:
			if !n.killed && !n.stopped {
				n.t.Errorf("%s has ended by itself: %v", n.Name, n.err)
			}
		default:
			n.cmd.Process.Signal(syscall.SIGCONT)
			n.Stop()
		}
		if n.t.Failed() {
			n.t.Logf("%s: stderr:\n%s\ncluster/log:\n%s", n.Name, n.Stderr(), log)
		}
	}
	for Mounted(n.t, n.Mount) {
		if err := syscall.Unmount(n.Mount, syscall.MNT_DETACH); err != nil {
			n.t.Fatalf("unmount %s: %v", n.Mount, err) // nothing may be removed below it
		}
	}
	if n.shared {
		if err := syscall.Unmount(n.Dir, syscall.MNT_DETACH); err != nil {
			n.t.Fatalf("unmount %s: %v", n.Dir, err)
		}
	}
	if err := os.RemoveAll(n.Dir); err != nil {
		n.t.Error(err)
	}
}

// Mounted tells whether anything is mounted at path.
func Mounted(t testing.TB, path string) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(text, []byte(" "+path+" "))
}
