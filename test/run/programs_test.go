package run

import (
	"fmt"
	"strings"
	"testing"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestPrograms_GetTheSocket(t *testing.T) {
	n := start(t)
	path := echo(t)
	shell := `exec 3<>"$0"; printf 'hello\n' >&3; read -r line <&3; echo "$line"
		case $(readlink /proc/$$/fd/3) in socket:*) echo socket; esac`
	for _, tc := range []struct {
		name string
		argv []string
	}{
		{"dash", []string{"dash", "-c", shell, path}},
		{"bash", []string{"bash", "-c", shell, path}},
		{"busybox", []string{"busybox", "sh", "-c", shell, path}},
		{"python", append(py(`
fd = os.open(sys.argv[1], os.O_RDWR)
s = socket.socket(fileno=fd)
s.sendall(b"hello\n"); print(s.recv(100).decode(), end=""); print(kind(fd)); s.shutdown(socket.SHUT_WR); assert s.recv(1) == b""`), path)},
		{"python asyncio", append(py(`
import asyncio
async def main():
    s = socket.socket(fileno=os.open(sys.argv[1], os.O_RDWR | os.O_NONBLOCK))
    r, w = await asyncio.open_connection(sock=s)
    w.write(b"hello\n"); print((await r.readline()).decode(), end=""); print(kind(s.fileno()))
    w.close()
asyncio.run(main())`), path)},
		{"static Go", []string{client(t, n), "talk", path}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			daemon.Need(t, tc.argv[0])
			want(t, n, daemon.U1000, "hello\nsocket\n", tc.argv...)
		})
	}
	gone(t, n)
}

func TestPrograms_ManyThreadsAtOnce(t *testing.T) {
	n := start(t)
	path := echo(t)
	want(t, n, daemon.U1000, "400 sockets, all different\n", append(py(`
import threading
made, lock = [], threading.Lock()
def work(i):
    for j in range(20):
        fd = os.open(sys.argv[1], os.O_RDWR | os.O_CLOEXEC)
        os.stat("/"); open("/etc/hostname").close()
        s = socket.socket(fileno=fd); text = b"%d %d" % (i, j)
        s.sendall(text); assert s.recv(100) == text
        with lock: made.append((s, s.getsockname()))
ts = [threading.Thread(target=work, args=(i,)) for i in range(20)]
for t in ts: t.start()
for t in ts: t.join()
print(len(made), "sockets,", "all different" if len(set(a for _, a in made)) == len(made) else "some twice")`), path)...)
}

func TestPrograms_ForksAndExecs(t *testing.T) {
	n := start(t)
	path := echo(t)
	want(t, n, daemon.U1000, strings.Repeat("socket\n", 20), append(py(`
for i in range(10):
    pid = os.fork()
    if pid == 0:
        print(opened(sys.argv[1]), flush=True)
        os.execv("/bin/sh", ["sh", "-c", 'exec 3<>"$0"; case $(readlink /proc/self/fd/3) in socket:*) echo socket; esac', sys.argv[1]])
    assert os.waitpid(pid, 0)[1] == 0
`), path)...)
}

// What a program has put into the background goes on when the program itself has ended, and nobody waits for it.
func TestPrograms_BackgroundAfterTheEnd(t *testing.T) {
	n := start(t)
	path := echo(t)
	fifo := n.Dir + "/fifo"
	result := n.Dir + "/result"
	script := fmt.Sprintf(`mkfifo %[1]s; : >%[2]s; chmod 666 %[1]s %[2]s
		out=$(%[3]s sh -c '(read -r path <%[1]s; exec 3<>"$path"; echo late >&3; read -r line <&3; echo "$line" $(readlink /proc/self/fd/3) >%[2]s) >/dev/null 2>&1 & echo begun')
		echo "$out"`, fifo, result, strings.Join(under(t, n), " "))
	if r := n.Sh(script); r.Out != "begun\n" || r.Code != 0 {
		t.Fatalf("got %+v", r)
	}
	if pids := supervisors(t, n); len(pids) != 1 {
		t.Errorf("supervisors: got %q, want one for the program in the background", pids)
	}
	n.Sh("echo " + path + " >" + fifo)
	daemon.Eventually(t, daemon.Bound, "the program in the background is answered", func() bool {
		return strings.HasPrefix(n.Sh("cat "+result).Out, "late socket:")
	})
	gone(t, n)
}

func TestPrograms_NestedRunsHaveOneSupervisor(t *testing.T) {
	n := start(t)
	path := echo(t)
	outer := under(t, n, under(t, n, under(t, n, "sh", "-c", `exec 3<>"$0"; readlink /proc/self/fd/3 | cut -d: -f1; echo ready; read -r x`, path)...)...)
	c := n.Spawn(daemon.U1000, outer...)
	c.Expect("socket")
	c.Expect("ready")
	if pids := supervisors(t, n); len(pids) != 1 {
		t.Errorf("supervisors: got %q, want one", pids)
	}
	c.Say("end")
	if status := c.Ends(daemon.Bound); status != 0 {
		t.Errorf("status %d: %s", status, c.Stderr())
	}
	gone(t, n)

	other := daemon.Start(t, daemon.Opts{})
	r := run(t, n, daemon.U1000, under(t, other, "true")...)
	if r.Code != 1 || !strings.Contains(r.Err, "another program supervises the opens of this process") {
		t.Errorf("inside the run of another tree: got %+v", r)
	}
}
