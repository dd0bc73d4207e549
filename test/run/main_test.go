// Package run holds programs under convoke run against real daemons.
package run

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestMain(m *testing.M) { os.Exit(daemon.Main(m)) }

const python = "/usr/bin/python3"

// start starts a node of one for a test that runs beside others.
func start(t *testing.T) *daemon.Node {
	t.Helper()
	daemon.Need(t, "fuse", "root", "python3")
	t.Parallel()
	return daemon.Start(t, daemon.Opts{})
}

// under is a command line of a program under convoke run.
func under(t *testing.T, n *daemon.Node, argv ...string) []string {
	t.Helper()
	return append([]string{daemon.Convoke(t), "run", "--mount", n.Mount, "--"}, argv...)
}

// run runs a program of u under convoke run, in the mount point.
func run(t *testing.T, n *daemon.Node, u daemon.User, argv ...string) daemon.Result {
	t.Helper()
	return n.Run(u, under(t, n, argv...)...)
}

// want fails the test unless a program succeeds and prints just out.
func want(t *testing.T, n *daemon.Node, u daemon.User, out string, argv ...string) {
	t.Helper()
	if r := run(t, n, u, argv...); r.Code != 0 || r.Out != out {
		t.Errorf("uid %d: %.200q\ngot  %q (status %d, stderr %s)\nwant %q", u.UID, argv, r.Out, r.Code, r.Err, out)
	}
}

// py is a Python program in which kind(fd) tells what a descriptor is, and opened(path) opens one and tells.
func py(program string) []string {
	return []string{python, "-c", `
import errno, os, socket, stat, sys
def kind(fd): m = os.fstat(fd).st_mode; return "socket" if stat.S_ISSOCK(m) else "file" if stat.S_ISREG(m) else oct(m)
def opened(path, flags=os.O_RDWR, **more):
    try: fd = os.open(path, flags, **more)
    except OSError as e: return errno.errorcode[e.errno]
    k = kind(fd); os.close(fd); return k
` + program}
}

// listen listens on a port of 127.0.0.1 until the test's end, and returns the path that leads there.
func listen(t *testing.T) (l *net.TCPListener, path string) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, "dev/tcp/local/" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// echo serves connections by sending back what comes until the test's end, and returns its path.
func echo(t *testing.T) string {
	t.Helper()
	l, path := listen(t)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			all.Go(func() {
				stop := context.AfterFunc(t.Context(), func() { c.Close() })
				defer stop()
				defer c.Close()
				_, _ = io.Copy(struct{ io.Writer }{c}, c)
				_ = c.CloseWrite()
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() }) // the test's context has ended by then
	return path
}

// supervisors returns the processes that supervise n's mount.
func supervisors(t *testing.T, n *daemon.Node) (pids []string) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if args := strings.Split(string(b), "\x00"); err == nil && len(args) > 4 && args[2] == "--supervisor=serve" && args[3] == "--mount="+n.Mount {
			pids = append(pids, strings.Split(name, "/")[2])
		}
	}
	return pids
}

// gone waits until no supervisor of n is left.
func gone(t *testing.T, n *daemon.Node) {
	t.Helper()
	daemon.Eventually(t, daemon.Bound, "the supervisor ends", func() bool { return len(supervisors(t, n)) == 0 })
}

// client builds a Go program of testdata without cgo, so that it is static, where every user may execute it.
func client(t *testing.T, n *daemon.Node) string {
	t.Helper()
	path := filepath.Join(n.Dir, "client")
	cmd := exec.Command("go", "build", "-o", path, "./testdata/client")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}
