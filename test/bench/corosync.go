package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/netns"
)

// cpgMember is the source of a member by libcpg.
//
//go:embed cpg/member.c
var cpgMember []byte

// corosyncProgram is where Debian's package has it, which is in no user's PATH.
const corosyncProgram = "/usr/sbin/corosync"

// buildCPG builds the member by libcpg in dir and returns its path. The error says what is missing.
func buildCPG(ctx context.Context, dir string) (string, error) {
	if _, err := exec.LookPath(corosyncProgram); err != nil {
		return "", fmt.Errorf("no corosync (Debian: apt-get install --no-install-recommends corosync libcpg-dev): %w", err)
	}
	source, program := filepath.Join(dir, "member.c"), filepath.Join(dir, "cpgmember")
	if err := os.WriteFile(source, cpgMember, 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-Wextra", "-o", program, source, "-lcpg", "-lpthread")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("its member does not build (Debian: apt-get install --no-install-recommends gcc libc6-dev libcpg-dev): %w\n%s", err, out)
	}
	return program, nil
}

// corosyncs is the system corosync. Its daemons have no option for the places where they keep and find things, so each
// runs in a mount namespace in which these are its own, and members enter that.
type corosyncs struct {
	net     *netns.Net
	dir     string
	client  string // program of a member
	daemons []*process
}

func newCorosyncs(dir, client string, crypto bool) func(*netns.Net) (system, error) {
	return func(w *netns.Net) (system, error) {
		c := &corosyncs{net: w, dir: dir, client: client, daemons: make([]*process, len(w.Hosts))}
		key := make([]byte, 1024)
		rand.Read(key)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(c.file("key"), key, 0o400); err != nil {
			return nil, err
		}
		for i := range w.Hosts {
			if err := os.MkdirAll(c.file("var", i), 0o700); err != nil {
				return nil, err
			}
			if err := os.WriteFile(c.file("conf", i), []byte(c.config(i, crypto)), 0o600); err != nil {
				return nil, err
			}
		}
		return c, nil
	}
}

// file is the path of a file, one of each node where number is given.
func (c *corosyncs) file(name string, number ...int) string {
	for _, i := range number {
		name = fmt.Sprintf("%s%d", name, i+1)
	}
	return filepath.Join(c.dir, name)
}

// config is the file corosync.conf of a node: what is not in it is corosync's default.
func (c *corosyncs) config(i int, crypto bool) string {
	var b strings.Builder
	cipher, hash := "none", "none"
	if crypto {
		cipher, hash = "aes256", "sha256"
	}
	fmt.Fprintf(&b, "totem {\n  version: 2\n  cluster_name: bench\n  transport: knet\n  crypto_cipher: %s\n  crypto_hash: %s\n", cipher, hash)
	if crypto {
		fmt.Fprintf(&b, "  keyfile: %s\n", c.file("key"))
	}
	b.WriteString("}\nnodelist {\n")
	for j, h := range c.net.Hosts {
		fmt.Fprintf(&b, "  node {\n    ring0_addr: %s\n    name: n%d\n    nodeid: %d\n  }\n", h.Addr, j+1, j+1)
	}
	fmt.Fprintf(&b, "}\nquorum {\n  provider: corosync_votequorum\n}\nlogging {\n  to_stderr: no\n  to_syslog: no\n  to_logfile: yes\n  logfile: %s\n}\n", c.file("log", i))
	return b.String()
}

func (c *corosyncs) start(ctx context.Context, i int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(c.file("out", i), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := c.net.Hosts[i].Command(self, "corosync", c.file("var", i), c.file("conf", i))
	cmd.Stdout, cmd.Stderr = log, log
	d, err := startProcess(cmd)
	if err != nil {
		return err
	}
	c.daemons[i] = d
	// Members go where the daemon is, so it must have got there.
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond) // nothing tells of an exec
	defer tick.Stop()
	for {
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.pid(i))); string(comm) == "corosync\n" {
			return nil
		}
		select {
		case <-d.ended:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("corosync has ended: %s", text)
		case <-ctx.Done():
			return fmt.Errorf("corosync does not start: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// runCorosync: VAR CONF. It becomes corosync, with folders of its own where corosync's are.
func runCorosync(args []string) error {
	runtime.LockOSThread() // exec keeps what this thread has
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, dir := range []string{"/run", "/dev/shm"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	if err := os.Mkdir("/run/corosync", 0o700); err != nil {
		return err
	}
	if err := unix.Mount(args[0], "/var/lib/corosync", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /var/lib/corosync: %w", err)
	}
	return unix.Exec(corosyncProgram, []string{"corosync", "-f", "-c", args[1]}, os.Environ())
}

func (c *corosyncs) pid(i int) int { return c.daemons[i].cmd.Process.Pid }

func (c *corosyncs) log(i int) string { return c.file("log", i) }

func (c *corosyncs) kill(i int) { c.daemons[i].end(unix.SIGKILL) }

func (c *corosyncs) member(i int, _, tag, group string) *exec.Cmd {
	return exec.Command("nsenter", "-t", fmt.Sprint(c.pid(i)), "-m", "-n", "--", c.client, tag, group)
}

func (c *corosyncs) stop() error {
	for _, d := range c.daemons {
		if d != nil {
			_ = d.cmd.Process.Signal(unix.SIGTERM) // to all, then wait: they say goodbye to each other
		}
	}
	var errs []error
	for i, d := range c.daemons {
		if d != nil && !d.end(unix.SIGTERM) {
			errs = append(errs, fmt.Errorf("corosync on node %d did not end on SIGTERM", i+1))
		}
	}
	return errors.Join(errs...)
}
