package run

import (
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestFaults_SupervisorKilled(t *testing.T) {
	n := start(t)
	path := echo(t)
	c := n.Spawn(daemon.U1000, under(t, n, append(py(`
s = socket.socket(fileno=os.open(sys.argv[1], os.O_RDWR))
print("ready", flush=True); sys.stdin.readline()
print(opened(sys.argv[1]), opened("/etc/passwd", os.O_RDONLY), flush=True)
s.sendall(b"still"); print(s.recv(100).decode(), flush=True)`), path)...)...)
	c.Expect("ready")
	pid, err := strconv.Atoi(supervisors(t, n)[0])
	if err != nil {
		t.Fatal(err)
	}
	// What is there to end it politely does not: it ends when its programs have.
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT} {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	if r := n.Sh("kill -0 " + strconv.Itoa(pid)); r.Code != 0 || len(supervisors(t, n)) != 1 {
		t.Error("it has ended by a signal")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, n)
	c.Say("go")
	if got := c.Line(); got != "ENOSYS ENOSYS" {
		t.Errorf("opens without a supervisor: got %q", got)
	}
	if got := c.Line(); got != "still" {
		t.Errorf("the socket: got %q", got)
	}
	if status := c.Ends(daemon.Bound); status != 0 {
		t.Errorf("status %d: %s", status, c.Stderr())
	}
}

// blackHole is a node on a host from which an address leads nowhere.
func blackHole(t *testing.T) (n *daemon.Node, path string) {
	t.Helper()
	daemon.Need(t, "fuse", "netns", "python3")
	t.Parallel()
	h := daemon.NewNet(t, 1).Hosts[0]
	h.Run("ip neigh add 10.77.0.99 lladdr 02:00:00:00:00:99 dev eth0")
	return daemon.Start(t, daemon.Opts{Host: h}), "dev/tcp/10.77.0.99/80"
}

func waitDials(t *testing.T, n *daemon.Node, want int64) {
	t.Helper()
	daemon.Eventually(t, daemon.Bound, "dials", func() bool { return n.Metric("convoke_dials") == want })
}

func TestFaults_SignalEndsAnOpenThatWaits(t *testing.T) {
	n, path := blackHole(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		c := n.Spawn(daemon.U1000, under(t, n, "cat", path)...)
		waitDials(t, n, 1)
		began := time.Now()
		c.Signal(sig)
		if status := c.Ends(daemon.Bound); status != 128+int(sig) {
			t.Errorf("%v: status %d", sig, status)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%v: it has ended after %v, want at once", sig, took)
		}
		waitDials(t, n, 0)
	}
	// Others are not held up, nor are other threads of the same program.
	want(t, n, daemon.U1000, "file\n", append(py(`
import threading, time
for i in range(30): threading.Thread(target=opened, args=(sys.argv[1],), daemon=True).start()
while True:
    text = open("cluster/metrics").read()
    if "\nconvoke_dials 30\n" in text: break
    time.sleep(0.01)
print(opened("/etc/passwd", os.O_RDONLY), flush=True); os._exit(0)`), path)...)
	waitDials(t, n, 0)
	gone(t, n)
}

// A server whose backlog is full lets nobody in until it accepts, and then only when the client's kernel asks again.
func TestFaults_SignalsDuringAConnectLeaveOneConnection(t *testing.T) {
	n := start(t)
	srv := n.Spawn(daemon.U1000, python, "-c", `
import socket, sys
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(0)
fill = socket.socket(); fill.connect(s.getsockname())
print(s.getsockname()[1], flush=True)
sys.stdin.readline()
s.accept()
c, a = s.accept(); print(a[1], flush=True)
s.settimeout(2)
try: s.accept(); print("another", flush=True)
except TimeoutError: print("no other", flush=True)`)
	port := srv.Line()
	c := n.Spawn(daemon.U1000, under(t, n, append(py(`
import signal
count = 0
def tick(*_):
    global count; count += 1
    if count == 150: print("ticked", flush=True)
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
s = socket.socket(fileno=os.open("dev/tcp/127.0.0.1/" + sys.argv[1], os.O_RDWR))
print(s.getsockname()[1], flush=True)`), port)...)...)
	c.Expect("ticked") // 1.5 s of signals, more than a connection is kept for nobody
	if dials := n.Metric("convoke_dials"); dials != 1 {
		t.Errorf("%d connections are being made, want 1", dials)
	}
	srv.Say("accept")
	if at, is := srv.Line(), c.Line(); at != is {
		t.Errorf("the server has %s, the program %s", at, is)
	}
	if got := srv.Line(); got != "no other" {
		t.Errorf("at the server: got %s", got)
	}
}

func TestFaults_DaemonStoppedAndStartedAgain(t *testing.T) {
	n := start(t)
	path := echo(t)
	c := n.Spawn(daemon.U1000, under(t, n, append(py(`
os.chdir("/")
s = socket.socket(fileno=os.open(sys.argv[1], os.O_RDWR)); held = s
for line in sys.stdin:
    what = line.strip()
    if what == "open": print(opened(sys.argv[1]), flush=True)
    else: held.sendall(what.encode()); print(held.recv(100).decode(), flush=True)`), n.Path(path))...)...)
	say := func(line, want string) {
		t.Helper()
		c.Say(line)
		if got := c.Line(); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
	say("one", "one")
	n.Signal(syscall.SIGSTOP)
	say("two", "two")
	n.Signal(syscall.SIGCONT)
	say("open", "socket")
	n.Kill()
	say("three", "three")
	say("open", "ENOTCONN")
	n.Start()
	say("open", "socket")
	say("four", "four")
	n.Stop()
	say("open", "ENOENT")
	n.Start()
	say("open", "socket")
	say("five", "five")
}

// The supervisor has to ask the daemon for names of local services, and waits for its answer.
func TestFaults_StoppedDaemonHoldsUpWhoNeedsIt(t *testing.T) {
	n := start(t)
	path := echo(t)
	for _, end := range []string{"goes on", "is killed"} {
		c := n.Spawn(daemon.U1000, under(t, n, append(py(`
import threading
mount, path = sys.argv[1:]
os.chdir("/")
got = []
def work(i): got.append(opened(mount + "/dev/fdp/local/none%d,stream" % i if i % 2 else mount + "/" + path))
print("ready", flush=True); sys.stdin.readline()
ts = [threading.Thread(target=work, args=(i,)) for i in range(40)]
for t in ts: t.start()
for i in range(100): assert opened("/etc/passwd", os.O_RDONLY) == "file"
print("not held up", flush=True)
for t in ts: t.join()
print(*sorted(got), flush=True)`), n.Mount, path)...)...)
		c.Expect("ready")
		n.Signal(syscall.SIGSTOP)
		c.Say("go")
		if got := c.Line(); got != "not held up" {
			t.Errorf("while the daemon is stopped: got %q", got)
		}
		if end == "is killed" {
			c.Signal(syscall.SIGKILL)
			c.Ends(daemon.Bound)
			n.Signal(syscall.SIGCONT)
			break
		}
		n.Signal(syscall.SIGCONT)
		want := strings.TrimSpace(strings.Repeat("ENOENT ", 20) + strings.Repeat("socket ", 20))
		if got := c.Line(); got != want {
			t.Errorf("then: got %q, want %q", got, want)
		}
	}
	gone(t, n)
}

func TestFaults_ThreadWithAnotherIdentityIsLeftToTheKernel(t *testing.T) {
	n := start(t)
	path := echo(t)
	c := n.Spawn(daemon.Root, under(t, n, append(py(`
import ctypes
print(opened(sys.argv[1]), flush=True)
os.setgroups([4242]); print(opened(sys.argv[1]), flush=True)
os.setgroups([]); print(opened(sys.argv[1]), flush=True)
os.setresuid(1000, 1000, 0); fd = os.open(sys.argv[1], os.O_RDWR); print(kind(fd), flush=True)
sys.stdin.readline()
os.close(fd); os.setresuid(0, 0, 0); print(opened(sys.argv[1]), flush=True)
libc = ctypes.CDLL(None)
assert libc.unshare(0x20000) == 0; print(opened(sys.argv[1]), flush=True) # CLONE_NEWNS
assert libc.unshare(0x40000000) == 0; print(opened(sys.argv[1]), flush=True) # CLONE_NEWNET
`), n.Path(path))...)...)
	for i, want := range []string{"socket", "file", "socket", "file"} {
		if got := c.Line(); got != want {
			t.Errorf("%d: got %q, want %q", i, got, want)
		}
	}
	if r := n.Sh("cat conn/*/status"); !strings.Contains(r.Out, "uid=1000") {
		t.Errorf("the daemon does not see the user: %q", r.Out)
	}
	c.Say("go on")
	for i, want := range []string{"socket", "file", "EACCES"} {
		if got := c.Line(); got != want {
			t.Errorf("then %d: got %q, want %q", i, got, want)
		}
	}
}

// A program that changes the path while it is read gets what one of its own opens could have given it.
func TestFaults_PathRacedInALoop(t *testing.T) {
	n := start(t)
	path := echo(t)
	secret := filepath.Join(n.Dir, "secret")
	mine := filepath.Join(n.Dir, "mine")
	n.Sh("echo secret >" + secret + "; chmod 600 " + secret + "; echo mine >" + mine + "; chmod 644 " + mine)
	r := run(t, n, daemon.U1000, client(t, n), "race", n.Path(path), mine, secret)
	if r.Code != 0 || !strings.HasPrefix(r.Out, "ok ") {
		t.Errorf("got %+v", r)
	}
	t.Log(r.Out)
}

// Go's own runtime makes and retries the calls of this one, from many threads.
func TestFaults_ThousandOpensOfManyThreads(t *testing.T) {
	n := start(t)
	path := echo(t)
	want(t, n, daemon.U1000, "1000 sockets\n", client(t, n), "many", path)
	if fds, err := unix.Open(n.Path("cluster/name"), unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		t.Errorf("the daemon: %v", err)
	} else {
		unix.Close(fds)
	}
	gone(t, n)
}
