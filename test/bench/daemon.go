package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// startTime is how long a daemon may take to be ready, stopTime how long to end.
const (
	startTime = 20 * time.Second
	stopTime  = 10 * time.Second
)

// daemon is a convoked with a mount of its own, a node alone: without a key it listens on no port.
type daemon struct {
	cmd   *exec.Cmd
	mount string
	ended chan error
}

// startDaemon starts the executable file with all it needs below dir, and returns once its mount answers.
func startDaemon(ctx context.Context, file, dir string) (*daemon, error) {
	return startNode(ctx, dir, exec.Command(file, daemonArgs("bench", dir)...))
}

// daemonArgs are the arguments of a node with all it needs below dir, and its mount last.
func daemonArgs(name, dir string, more ...string) []string {
	args := append([]string{"--config", "/dev/null", "--name", name, "--state", filepath.Join(dir, "s"), "--run", filepath.Join(dir, "r")}, more...)
	return append(args, nodeMount(dir))
}

func nodeMount(dir string) string { return filepath.Join(dir, "n") }

// startNode is startDaemon with a command of daemonArgs.
func startNode(ctx context.Context, dir string, cmd *exec.Cmd) (*daemon, error) {
	d := &daemon{cmd: cmd, mount: nodeMount(dir), ended: make(chan error, 1)}
	// Whoever asks a mount whose daemon was killed is told so.
	if err := os.MkdirAll(d.mount, 0o755); err != nil && !errors.Is(err, unix.ENOTCONN) && !mounted(d.mount) {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.cmd.Env = daemonEnv(os.Environ())
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // ^C is for us; we tell the daemon in our own time
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { d.ended <- d.cmd.Wait() }()
	if err := d.ready(ctx); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, text), d.stop())
	}
	return d, nil
}

// daemonEnv leaves out what would configure the daemon.
func daemonEnv(env []string) (kept []string) {
	for _, v := range env {
		if !strings.HasPrefix(v, "CONVOKE_") && !strings.HasPrefix(v, "NOTIFY_SOCKET=") && !strings.HasPrefix(v, "JOURNAL_STREAM=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// ready waits for cluster/self, which is there once the daemon serves.
func (d *daemon) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond) // nothing tells of a name that appears in a mount
	defer tick.Stop()
	for {
		if _, err := os.Lstat(filepath.Join(d.mount, "cluster/self")); err == nil {
			return nil
		}
		select {
		case err := <-d.ended:
			d.ended <- err
			return fmt.Errorf("it has ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("it does not get ready: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// stop ends the daemon and sees to it that its mount is gone.
func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(unix.SIGTERM)
	var err error
	select {
	case <-d.ended:
	case <-time.After(stopTime):
		err = errors.New("the daemon did not end on SIGTERM")
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
	if !mounted(d.mount) {
		return err
	}
	if os.Geteuid() == 0 {
		return errors.Join(err, unix.Unmount(d.mount, unix.MNT_DETACH))
	}
	return errors.Join(err, exec.Command("fusermount3", "-uz", d.mount).Run())
}

func mounted(dir string) bool {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	return strings.Contains(string(b), " "+dir+" ")
}

// removeDir removes a temporary folder, unless something is still mounted in it.
func removeDir(dir string) error {
	if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(b), " "+dir+"/") {
		return fmt.Errorf("%s: a mount is left in it", dir)
	}
	return os.RemoveAll(dir)
}

// stream is the stream file that leads to a port of this host.
func (d *daemon) stream(port int) target {
	return target(fmt.Sprintf("%s/dev/tcp/127.0.0.1/%d", d.mount, port))
}

// metric returns a value of cluster/metrics.
func (d *daemon) metric(name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(d.mount, "cluster/metrics"))
	if err != nil {
		return 0, err
	}
	return field(string(b), name)
}

// status returns a number of /proc/PID/status, which everybody may read: "Threads:", or "VmRSS:" in KiB.
func (d *daemon) status(name string) (int, error) {
	return processStatus(d.cmd.Process.Pid, name)
}

// field finds the line that begins with the word name and returns the number behind it.
func field(text, name string) (int, error) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			return strconv.Atoi(f[1])
		}
	}
	return 0, fmt.Errorf("%s is not there", name)
}
