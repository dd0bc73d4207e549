package rendezvous

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// skip skips a test for what this machine has not; in CI that is a failure.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root: takes other users' ids")
	}
}

// inNetNS runs the calling test once more in a child process in a network namespace of its own, where loopback is up
// and nothing else is. It returns true in the child only. The child is a process because a namespace belongs to a
// thread, and Dial makes threads of its own.
func inNetNS(t *testing.T) bool {
	t.Helper()
	const env = "RENDEZVOUS_TEST_NETNS"
	if os.Getenv(env) == t.Name() {
		loopbackUp(t)
		return true
	}
	if os.Geteuid() != 0 {
		skip(t, "needs root: makes a network namespace")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("in a network namespace: %v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("%s", out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
		t.Errorf("in a network namespace: the test did not run\n%s", out)
	}
	return false
}

func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Fatal(err)
	}
}

// checkFDs fails the test if it has, at its end, descriptors that it has not now. Some may have gone meanwhile: what an
// earlier test let go of closes when the other side or the garbage collector has come to it.
func checkFDs(t *testing.T) {
	t.Helper()
	before := openFDs(t)
	t.Cleanup(func() {
		had := strings.Split(before, "\n")
		var more []string
		// A dial that was given up closes its descriptors on its own thread, soon after.
		for range 500 {
			more = slices.DeleteFunc(strings.Split(openFDs(t), "\n"), func(fd string) bool { return slices.Contains(had, fd) })
			if len(more) == 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("descriptors at the end: %s, which are none of\n%s", more, before)
	})
}

// openFDs lists the descriptors, but those of Go's poller, which appear at its first use.
func openFDs(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		n, _ := strconv.Atoi(e.Name())
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(link, "/proc/") { // the folder that is being read
			continue
		}
		if n > 2 && strings.HasPrefix(link, "anon_inode:[event") && isGoPoller(n) {
			continue
		}
		list = append(list, e.Name()+" "+link)
	}
	return strings.Join(list, "\n")
}

// isGoPoller tells the runtime's epoll and its eventfd from ours: they are there before any socket of a test.
func isGoPoller(fd int) bool { return fd == runtimePoller[0] || fd == runtimePoller[1] }

var runtimePoller = func() (fds [2]int) {
	r, w, err := os.Pipe() // starts the runtime's poller
	if err != nil {
		panic(err)
	}
	defer r.Close()
	defer w.Close()
	links, _ := filepath.Glob("/proc/self/fd/*")
	n := 0
	for _, l := range links {
		if s, _ := os.Readlink(l); strings.HasPrefix(s, "anon_inode:[event") && n < len(fds) {
			fds[n], _ = strconv.Atoi(filepath.Base(l))
			n++
		}
	}
	return fds
}()

// checkIdentity fails the test if any thread of this process has not the ids and groups that the process has.
func checkIdentity(t *testing.T) {
	t.Helper()
	want := identityOf(t, "/proc/self/status")
	threads, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, path := range threads {
		if got := identityOf(t, path); got != "" && got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
		}
	}
}

// identityOf returns the lines of a status file that are about the identity, "" if the thread has gone.
func identityOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		switch key, _, _ := strings.Cut(line, ":"); key {
		case "Uid", "Gid", "Groups", "CapEff", "CapPrm":
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// addAddress gives loopback one more address. It is for tests in a network namespace of their own.
func addAddress(t *testing.T, prefix string) {
	t.Helper()
	ip, err := exec.LookPath("ip")
	if err != nil {
		skip(t, "needs ip")
	}
	if out, err := exec.Command(ip, "address", "add", prefix, "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
