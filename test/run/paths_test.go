package run

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestPaths_HoweverTheyLeadThere(t *testing.T) {
	n := start(t)
	path := echo(t)
	port := filepath.Base(path)
	dir := filepath.Join(n.Dir, "links")
	bound := filepath.Join(n.Dir, "bound dev")
	n.Sh("mkdir " + dir + " '" + bound + "'; chmod 755 " + dir + " '" + bound + "'")
	if err := unix.Mount(n.Path("dev"), bound, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(bound, unix.MNT_DETACH) })
	for name, to := range map[string]string{"file": n.Path(path), "options": n.Path(path) + "/now", "dev": "../n/dev"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range []daemon.User{daemon.U1000, daemon.Root} {
		r := run(t, n, u, append(py(`
mount, links, bound, port = sys.argv[1:]
def show(what, k): print(what, k)
show("absolute", opened(mount + "/dev/tcp/local/" + port))
show("relative", opened("dev/tcp/local/" + port))
show("dots", opened("dev/../dev//tcp/./local/" + port))
show("comma", opened("dev/tcp/local/" + port + ",now"))
show("slash", opened("dev/tcp/local/" + port + "/now/test"))
show("link", opened(links + "/file"))
show("link+option", opened(links + "/file/test"))
show("link to options", opened(links + "/options"))
show("linked folder", opened(links + "/dev/tcp/local/" + port))
show("bound", opened(bound + "/tcp/local/" + port))
show("bound slash", opened(bound + "/tcp/local/" + port + "/now"))
d = os.open("dev/tcp", os.O_PATH)
show("dirfd", opened("local/" + port, dir_fd=d))
show("dirfd slash", opened("local/" + port + "/now", dir_fd=d))
d = os.open("dev/tcp/local", os.O_RDONLY)
show("dirfd of the host", opened(port, dir_fd=d))
os.chdir("dev/tcp/local")
show("in the host", opened(port))
show("above", opened("../../tcp/local/" + port))
os.chdir(links)
show("relative link", opened("file"))
show("relative out", opened("../n/dev/tcp/local/" + port))
show("nofollow", opened("file", os.O_RDWR | os.O_NOFOLLOW))
show("trailing slash", opened(mount + "/dev/tcp/local/" + port + "/"))
show("bad option", opened(mount + "/dev/tcp/local/" + port + "/.x"))
show("other file", opened("/etc/passwd", os.O_RDONLY))
show("no file", opened("/nowhere", os.O_RDONLY))
show("below a file", opened("/etc/passwd/x", os.O_RDONLY))
show("state", opened(mount + "/cluster/name", os.O_RDONLY))
show("folder", opened(mount + "/dev/tcp", os.O_RDONLY | os.O_DIRECTORY)[:3])
show("O_PATH", opened(mount + "/dev/tcp/local/" + port, os.O_PATH))
show("exclusive", opened(mount + "/dev/tcp/local/" + port, os.O_RDWR | os.O_CREAT | os.O_EXCL))
show("stat", stat.S_ISREG(os.stat(mount + "/dev/tcp/local/" + port).st_mode) and os.access(mount + "/dev/tcp/local/" + port, os.R_OK))
`), n.Mount, dir, bound, port)...)
		const sockets = "absolute relative dots comma slash link link+option link_to_options linked_folder bound bound_slash dirfd dirfd_slash dirfd_of_the_host in_the_host above relative_link relative_out"
		var b strings.Builder
		for _, what := range strings.Fields(sockets) {
			b.WriteString(strings.ReplaceAll(what, "_", " ") + " socket\n")
		}
		b.WriteString("nofollow ELOOP\ntrailing slash ENOTDIR\nbad option ENOTDIR\nother file file\nno file ENOENT\nbelow a file ENOTDIR\nstate file\n" +
			"folder 0o4\nO_PATH file\nexclusive EEXIST\nstat True\n")
		if r.Code != 0 || r.Out != b.String() {
			t.Errorf("uid %d: got status %d, stderr %s\n%s\nwant\n%s", u.UID, r.Code, r.Err, r.Out, b.String())
		}
	}
}

func TestPaths_RootOfAProgramThatHasItsOwn(t *testing.T) {
	n := start(t)
	port := filepath.Base(echo(t))
	jail := filepath.Join(n.Dir, "jail")
	n.Sh("mkdir -p " + jail + "/dev " + jail + "/tmp")
	if err := unix.Mount(n.Path("dev"), jail+"/dev", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(jail+"/dev", unix.MNT_DETACH) })
	if err := os.Symlink("/dev/tcp/local/"+port, jail+"/tmp/link"); err != nil {
		t.Fatal(err)
	}
	want(t, n, daemon.Root, "ENOENT\nsocket\nsocket\nsocket\nsocket\nENOENT\nsocket\n", append(py(`
mount, jail, port = sys.argv[1:]
out = os.open("/", os.O_PATH)
print(opened("/dev/tcp/local/" + port))
print(opened(mount + "/dev/tcp/local/" + port))
os.chroot(jail); os.chdir("/dev")
print(opened("/dev/tcp/local/" + port + "/now"))
print(opened("tcp/local/" + port))
print(opened("/tmp/link"))
print(opened(mount + "/dev/tcp/local/" + port))
print(opened("." + mount + "/dev/tcp/local/" + port, dir_fd=out))
`), n.Mount, jail, port)...)
}

func TestPaths_FlagsAreTheSockets(t *testing.T) {
	n := start(t)
	path := echo(t)
	want(t, n, daemon.U1000, strings.Repeat("ok\n", 16), append(py(`
import fcntl, ctypes
libc = ctypes.CDLL(None, use_errno=True)
def raw(flags):
    fd = libc.open(sys.argv[1].encode(), flags)
    assert fd >= 0, ctypes.get_errno()
    return fd
for access in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
    for cloexec in (0, os.O_CLOEXEC):
        for nonblock in (0, os.O_NONBLOCK):
            fd = raw(access | cloexec | nonblock)
            assert kind(fd) == "socket"
            assert bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC) == bool(cloexec)
            assert bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK) == bool(nonblock)
            if nonblock:
                try: os.read(fd, 1); assert False
                except BlockingIOError: pass
            else:
                os.write(fd, b"x"); assert os.read(fd, 10) == b"x"
            os.close(fd)
            print("ok")
`), path)...)
	want(t, n, daemon.U1000, "socket\n", client(t, n), "openat2", path)
	if strings.HasPrefix(unameMachine(t), "x86_64") {
		want(t, n, daemon.U1000, "socket\n", append(py(`
import ctypes
fd = ctypes.CDLL(None, use_errno=True).syscall(85, sys.argv[1].encode(), 0o600) # creat
print(kind(fd))`), path)...)
	}
}

func unameMachine(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(u.Machine[:])
}

func TestPaths_ErrorsAreThoseOfASocket(t *testing.T) {
	n := start(t)
	_, path := listen(t)
	l, free := listen(t)
	l.Close()
	want(t, n, daemon.U1000, "ECONNREFUSED ENOENT EINVAL ENOENT EACCES EMFILE\n", append(py(`
import resource
got = [opened(sys.argv[1]), opened("dev/tcp/host.invalid/80"), opened("dev/tcp/local/0"), opened("dev/fdp/local/none"), opened("dev/tcp/local/x,user=1001")]
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
got.append(opened(sys.argv[2]))
print(*got)`), free, path)...)
}

func TestPaths_OtherProtocols(t *testing.T) {
	n := start(t)
	srv := n.Spawn(daemon.U1000, python, "-c", `
import socket, struct, sys
s = socket.socket(socket.AF_UNIX); s.bind("dev/fdp/local/svc"); s.listen(5); print("bound", flush=True)
while True:
    c, _ = s.accept()
    pid, uid, gid = struct.unpack("3i", c.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    data, fds, _, _ = socket.recv_fds(c, 100, 5)
    print(uid, gid, data.decode(), len(fds), flush=True); c.sendall(b"answer"); c.close()`)
	srv.Expect("bound")
	want(t, n, daemon.U1000, "ENXIO ENXIO answer 1000\n", py(`
import struct
s = socket.socket(fileno=os.open("dev/fdp/local/svc/stream", os.O_RDWR))
socket.send_fds(s, [b"hi"], [1])
uid = struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
print(opened("dev/fdp/local/svc"), opened("dev/fdp/local/svc,sock"), s.recv(100).decode(), uid)`)...)
	if got := srv.Line(); got != "1000 1000 hi 1" {
		t.Errorf("server: got %q", got)
	}

	udp := n.Spawn(daemon.U1000, python, "-c", `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1], flush=True)
while True:
    b, a = s.recvfrom(100); s.sendto(b.upper(), a)`)
	port, err := strconv.Atoi(udp.Line())
	if err != nil {
		t.Fatal(err)
	}
	want(t, n, daemon.U1000, "True HELLO\n", append(py(`
fd = os.open("dev/udp/127.0.0.1/" + sys.argv[1], os.O_RDWR); s = socket.socket(fileno=fd)
s.send(b"hello"); print(s.type == socket.SOCK_DGRAM, s.recv(100).decode())`), strconv.Itoa(port))...)
}
