package fs

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// bindWords are what the programs of these tests begin with.
const bindWords = `
import os, socket, sys, time
def bind(name, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_UNIX, kind)
    s.bind('dev/fdp/local/' + name)
    if kind != socket.SOCK_DGRAM: s.listen(5)
    return s
def there(name): return name in os.listdir('dev/fdp/local')
def gone(name):
    for i in range(2000):
        if not there(name): return True
        time.sleep(0.005)
    return False
`

func TestSocket_GoesWithItsBinder(t *testing.T) {
	m := mountTree(t)
	m.wantPython("True\nTrue\nTrue\n", bindWords+`
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    s = bind('svc'); os.write(w, b'x'); time.sleep(1000)
os.read(r, 1)
print(there('svc'))
os.kill(pid, 9); os.waitpid(pid, 0)
print(not os.path.exists('dev/fdp/local/svc'))
s = bind('svc')       # whoever comes next has the name
print(there('svc'))
`)
	m.want(`ls dev/fdp/local`, "")
}

func TestSocket_StaysWithAChildThatServesIt(t *testing.T) {
	m := mountTree(t)
	m.wantPython("True\nconnected\nTrue\nTrue\nbound\n", bindWords+`
r, w = os.pipe()
if os.fork() == 0:
    s = bind('svc')
    child = os.fork()
    if child == 0: time.sleep(1000)
    os.write(w, b'%d' % child); os._exit(0)
child = int(os.read(r, 100)); os.wait()
print(there('svc'))
c = socket.socket(socket.AF_UNIX); c.connect('dev/fdp/local/svc'); print('connected')
time.sleep(0.1); print(there('svc'))
os.kill(child, 9)
print(gone('svc'))
bind('svc'); print('bound')
`)
}

func TestSocket_AnAcceptedConnectionDoesNotKeepTheName(t *testing.T) {
	m := mountTree(t)
	m.wantPython("True\nhello\n", bindWords+`
r, w = os.pipe()
if os.fork() == 0:
    s = bind('svc'); os.write(w, b'x')
    c, _ = s.accept()
    if os.fork() == 0:
        s.close(); c.recv(1); c.sendall(b'hello'); os._exit(0)
    os.write(w, b'x'); os._exit(0)
os.read(r, 1)
c = socket.socket(socket.AF_UNIX); c.connect('dev/fdp/local/svc')
os.read(r, 1); os.wait()
print(gone('svc'))
c.sendall(b'x'); print(c.recv(100).decode())
`)
}

func TestSocket_OfDatagramsStaysWithAChildToo(t *testing.T) {
	m := mountTree(t)
	m.wantPython("True\nTrue\n", bindWords+`
r, w = os.pipe()
if os.fork() == 0:
    s = bind('log', socket.SOCK_DGRAM)
    child = os.fork()
    if child == 0: time.sleep(1000)
    os.write(w, b'%d' % child); os._exit(0)
child = int(os.read(r, 100)); os.wait()
print(there('log'))
os.kill(child, 9)
print(gone('log'))
`)
}

func TestSocket_OneProcessWithManyIsWatchedOnce(t *testing.T) {
	m := mountTree(t)
	m.wantPython("200 True\n0\n", bindWords+`
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    all = [bind('s%d' % i) for i in range(200)]; os.write(w, b'x'); time.sleep(1000)
os.read(r, 1)
print(len(os.listdir('dev/fdp/local')), not os.system('rm dev/fdp/local/s7'))
os.kill(pid, 9); os.waitpid(pid, 0)
print(len(os.listdir('dev/fdp/local')))
`)
	d := m.tree.sockets
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.binders.byPID) != 0 {
		t.Errorf("%d processes are watched, want none", len(d.binders.byPID))
	}
}

func TestSocket_TheDaemonsNameIsNobodyElses(t *testing.T) {
	m := mountTree(t)
	if r := m.python(bindWords + `bind('convoke')`); !strings.Contains(r.err, "Permission denied") {
		t.Errorf("got %+v", r)
	}
	m.wantErr(": <dev/fdp/local/convoke,create", "Permission denied")
	m.wantErr(": <dev/fdp/local/convoke,night,create", "Permission denied")
	if r := m.python(bindWords + `bind('svc,sock')`); !strings.Contains(r.err, "Invalid argument") {
		t.Errorf("got %+v", r)
	}
}

func TestSocket_OfAnotherNetworkNamespaceGoesWithItsBinderAlone(t *testing.T) {
	m := mountTree(t)
	needTool(t, "unshare")
	if exec.Command("unshare", "-n", "true").Run() != nil {
		skip(t, "needs network namespaces")
	}
	r := m.run(nil, "unshare", "-n", "python3", "-c", bindWords+`
r, w = os.pipe()
if os.fork() == 0:
    s = bind('svc')
    if os.fork() == 0: os.read(r, 1); os._exit(0) # it has the socket, which the daemon cannot see
    os._exit(0)
os.wait()
print(gone('svc')); os.write(w, b'x')
`)
	if r.out != "True\n" || r.code != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestUnlinkSocket_TakesOnlyWhatTheDaemonMade(t *testing.T) {
	m := mountTree(t)
	dir, err := unix.Open(m.dir+"/dev/fdp/local", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	bind := func(name string) (int, error) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd, unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)})
	}
	for _, name := range []string{"svc,sock", "svc,user=5,sock,night", "convoke"} {
		if _, err := bind(name); err != nil {
			t.Fatalf("bind %s: %v", name, err)
		}
	}
	if _, err := bind("svc,sock"); err != unix.EADDRINUSE {
		t.Errorf("bind of a name that is taken: got %v, want EADDRINUSE", err)
	}
	m.want(`ls -p dev/fdp/local; stat -c '%a %F' dev/fdp/local/convoke dev/fdp/local/svc,sock dev/fdp/local/svc dev/fdp/local/svc,stream dev/fdp/local/svc,night,user=5
		test -e dev/fdp/local/svc,user || echo; test -e dev/fdp/local/svc,user,night && echo perhaps`,
		"convoke\nsvc\nsvc,user=5,night\n666 socket\n600 socket\n666 regular empty file\n666 regular empty file\n666 regular empty file\n\nperhaps\n")
	m.wantErr("rm dev/fdp/local/svc", "not permitted")
	m.wantErr("rm dev/fdp/local/convoke", "not permitted")
	for _, name := range []string{"svc,sock", "nobody,sock", ",,", "svc,user=5,night,sock"} {
		m.tree.UnlinkSocket(name)
	}
	m.want("ls dev/fdp/local; test -e dev/fdp/local/svc,sock || echo gone", "convoke\ngone\n")
	if _, err := bind("svc,sock"); err != nil {
		t.Errorf("bind again: %v", err)
	}
}

func TestUnixDiag_FindsWhoServesAName(t *testing.T) {
	dir := t.TempDir()
	var st unix.Stat_t
	listening, err := net.Listen("unix", dir+"/l")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(dir+"/l", &st); err != nil {
		t.Fatal(err)
	}
	dev := unix.Major(st.Dev)<<20 | unix.Minor(st.Dev)
	numbers, err := boundSockets(dev, uint32(st.Ino))
	if err != nil || len(numbers) != 1 || !socketExists(numbers[0]) {
		t.Fatalf("of a listening socket: got %v, %v", numbers, err)
	}
	client, err := net.Dial("unix", dir+"/l")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listening.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	listening.(*net.UnixListener).SetUnlinkOnClose(false)
	listening.Close()
	if socketExists(numbers[0]) {
		t.Error("a closed socket exists")
	}
	if numbers, err := boundSockets(dev, uint32(st.Ino)); err != nil || len(numbers) != 0 {
		t.Errorf("with an accepted connection alone: got %v, %v", numbers, err)
	}
}

func FuzzParseUnixDiag(f *testing.F) {
	f.Add(unixDiagRequest(unix.NLM_F_DUMP, 0))
	f.Add(append(unixDiagRequest(0, 7), 12, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		if done, err := parseUnixDiag(b, func(unixSocket) { n++ }); done && err == nil && len(b) < sizeNlHeader {
			t.Error("a message without a header was the last one")
		}
		if n > len(b)/sizeNlHeader {
			t.Errorf("%d sockets in %d bytes", n, len(b))
		}
	})
}

// The kernel finds a bound socket by its number, so all names of one must have the same.
func TestSocket_IsTheSameUnderBothOfItsNames(t *testing.T) {
	m := mountTree(t)
	m.wantPython("True\nhello\nhello\n", bindWords+`
s = bind('svc')
print(os.stat('dev/fdp/local/svc').st_ino == os.stat('dev/fdp/local/svc,sock').st_ino)
for name in 'svc', 'svc,sock':
    c = socket.socket(socket.AF_UNIX); c.connect('dev/fdp/local/' + name)
    s.accept()[0].send(b'hello'); print(c.recv(9).decode())
`)
}

func TestSocket_OneThatIsNotThereIsLookedForAndNotMade(t *testing.T) {
	m := mountTree(t)
	m.wantPython("ENOENT\nENOENT\nEPERM\n", `
import errno, os
for flags in os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT:
    try: os.open('dev/fdp/local/none', flags)
    except OSError as e: print(errno.errorcode[e.errno])
`)
}
