package launch

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asUser runs the calling test once more in a child process of uid 1000, with its directory in lib. It returns true in the child only.
func asUser(t *testing.T, lib string) bool {
	t.Helper()
	const env = "LAUNCH_TEST_LIB"
	if os.Getenv(env) != "" {
		return true
	}
	// Nobody else can walk to the test's program by its name.
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), env+"="+lib)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000, Groups: []uint32{7}}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("as uid 1000: %v\n%s", err, out)
	}
	return false
}

// A daemon that is not root runs its own servers and root's, as itself.
func TestStart_DaemonOfAUser(t *testing.T) {
	lib := os.Getenv("LAUNCH_TEST_LIB")
	if lib == "" {
		lib = libDir(t)
		sockets := lib + "/s"
		if err := os.Mkdir(sockets, 0o755); err != nil {
			t.Fatal(err)
		}
		chown(t, sockets, 1000)
		text := script("id -u; id -g; id -G; exec cat")
		install(t, lib, "tcp/cvroots", "server.inetd", text)
		chown(t, install(t, lib, "tcp/cvown", "server.inetd", text), 1000)
		chown(t, install(t, lib, "tcp/cvother", "server.inetd", text), 1001)
		chown(t, install(t, lib, "fdp/cvlocal", "server", script(python("c,_=s.accept(); c.sendall(b'hello\\n')"))), 1000)
	}
	if !asUser(t, lib) {
		return
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil { // as the daemon does
		t.Fatal(err)
	}
	w := worldIn(t, lib, Opts{})
	for _, name := range []string{"cvroots", "cvown"} {
		f := w.mustOpen(1000, "dev/tcp/local/"+name)
		if err := unix.Shutdown(int(f.Fd()), unix.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		_ = unix.SetNonblock(int(f.Fd()), true)
		if got := rest(t, f); got != "1000\n1000\n1000 7\n" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	w.refused(1000, "dev/tcp/local/cvother", unix.ECONNREFUSED, "cannot run it")
	w.refused(1000, "dev/tcp/local/cvroots,user=1001", unix.EACCES, "")
	f := w.mustOpen(1000, "dev/fdp/local/cvlocal")
	if got := line(t, f); got != "hello" {
		t.Errorf("got %q", got)
	}
	if cred, err := unix.GetsockoptUcred(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil || cred.Uid != 1000 || cred.Pid == int32(os.Getpid()) {
		t.Errorf("got %+v, %v, want the server's pid, not %s", cred, err, strconv.Itoa(os.Getpid()))
	}
}
