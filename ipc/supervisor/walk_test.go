package supervisor

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestGuess_CutsBehindTheHost(t *testing.T) {
	for _, tc := range []struct{ path, dir, rest string }{
		{"/n/dev/tcp/web/80", "/n/dev/tcp/web", "80"},
		{"/n/dev/udp/web/80/now/x", "/n/dev/udp/web", "80/now/x"},
		{"../tcp/web/80,now", "../tcp/web", "80,now"},
		{"/n/dev/tcp/tcp/80", "", ""}, // a host of that name: the longer way
		{"tcp/web/80", "", ""},        // so is this
		{"/n/dev/tcp/web", "", ""},
		{"/n/dev/tcp/web/", "", ""},
		{"/n/dev/tcp//80", "", ""},
		{"/n/dev/tcp/web/80/", "", ""},
		{"/n/dev/tcp/web/80//now", "", ""},
		{"/n/dev/tcp/web/../web/80", "", ""},
		{"/n/dev/tcp/web/80/..", "", ""},
		{"/n/dev/fdp/local/x", "", ""},
		{"/etc/passwd", "", ""},
	} {
		dir, rest, ok := guess([]byte(tc.path))
		if string(dir) != tc.dir || string(rest) != tc.rest || ok != (tc.dir != "") {
			t.Errorf("%s: got %q %q %v", tc.path, dir, rest, ok)
		}
	}
	for at, want := range map[string]bool{
		"dev/tcp/web": true, "dev/udp/::1": true, "dev/tcp": false, "dev/tcp/web/80": false, "dev/fdp/local": false, "tcp/web": false, "": false,
	} {
		if isHost(at) != want {
			t.Errorf("%s: got %v", at, !want)
		}
	}
}

// layOut makes files in a folder that stands for the tree, and returns a walker on it.
func layOut(t *testing.T) (w *walker, dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]string{
		"n/dev/tcp/web/80": "", "n/dev/fdp/local/svc": "", "n/dev/fdp/local/svc,stream": "", "n/dev/fdp/local/svc,a,b": "", "n/dev/tcp/web/cluster": "", "n/cluster/name": "",
		"plain": "", "to-stream": dir + "/n/dev/tcp/web/80", "to-options": dir + "/n/dev/tcp/web/80/now",
		"rel": "n/dev/tcp/web/80/now", "sub/up": "../rel", "to-dev": "n/dev", "loop": "loop",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if link != "" {
			err = os.Symlink(link, path)
		} else {
			err = os.WriteFile(path, nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	m, err := watchMounts("/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	// A folder of an ordinary file system stands for the mount, whatever that is on.
	fd, errno := openFolder([]byte(dir + "/n\x00"))
	if errno != 0 {
		t.Fatal(errno)
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if errno := statx(fd, emptyPath[:], unix.AT_EMPTY_PATH, &st); errno != 0 {
		t.Fatal(errno)
	}
	m.tree = device{st.Dev_major, st.Dev_minor}
	m.byID = map[uint64]mount{st.Mnt_id: {dev: m.tree, root: "/", point: dir + "/n"}}
	m.anyDevice = true
	return &walker{mounts: m, moved: &always}, dir
}

func TestStream_WhereAPathLeads(t *testing.T) {
	w, dir := layOut(t)
	for _, tc := range []struct{ cwd, path, want string }{
		{"/", dir + "/n/dev/tcp/web/80", "dev/tcp/web/80"},
		{"/", dir + "/n/dev/tcp/web/81", "dev/tcp/web/81"}, // the folder has every name
		{"/", dir + "/n/dev/tcp/web/80/now", "dev/tcp/web/80/now"},
		{"/", dir + "//n/./dev/tcp/../tcp/web/80/now/x", "dev/tcp/web/80/now/x"},
		{"/", dir + "/n/dev/fdp/local/svc", "dev/fdp/local/svc"},
		{"/", dir + "/n/dev/fdp/local/svc/a/b", "dev/fdp/local/svc/a/b"},
		{"/", dir + "/n/dev/fdp/local/svc/stream", "dev/fdp/local/svc/stream"},
		{"/", dir + "/n/dev/fdp/local/svc/other", ""}, // another instance, which is not there
		{"/", dir + "/n/dev/fdp/local/none", ""},
		{"/", dir + "/n/dev/tcp/web/80/", ""},
		{"/", dir + "/n/dev/tcp/web", ""},
		{"/", dir + "/to-stream", "dev/tcp/web/80"},
		{"/", dir + "/to-stream/now", "dev/tcp/web/80/now"},
		{"/", dir + "/to-options", "dev/tcp/web/80/now"},
		{"/", dir + "/to-options/x", "dev/tcp/web/80/now/x"},
		{"/", dir + "/to-dev/tcp/web/80", "dev/tcp/web/80"},
		{"/", dir + "/loop", ""},
		{"/", dir + "/loop/x", ""},
		{"/", dir + "/plain", ""},
		{"/", dir + "/plain/now", ""},
		{"/", "/etc/hostname/x", ""},
		{"/", "/proc/self/cwd/" + dir + "/n/dev/tcp/web/80", ""}, // not this process's
		{"/", "/proc/self/root/" + dir + "/n/dev/tcp/web/80", ""},
		{dir, "n/dev/tcp/web/80", "dev/tcp/web/80"},
		{dir, "rel", "dev/tcp/web/80/now"},
		{dir, "rel/x", "dev/tcp/web/80/now/x"},
		{dir, "to-options", "dev/tcp/web/80/now"},
		{dir + "/sub", "up", "dev/tcp/web/80/now"},
		{dir + "/sub", "../n/dev/tcp/web/80", "dev/tcp/web/80"},
		{dir + "/n/dev/tcp/web", "80", "dev/tcp/web/80"},
		{dir + "/n/dev/tcp", "web/80/now", "dev/tcp/web/80/now"},
		{dir + "/n/dev", "tcp/web/80/now", "dev/tcp/web/80/now"},
		{dir + "/n", "cluster/name", "cluster/name"}, // which is none: Parse says so
	} {
		t.Chdir(tc.cwd)
		for _, looked := range []bool{true, false} {
			w.view.begin(uint32(os.Getpid()), &opened{dir: unix.AT_FDCWD}, looked)
			got, ok := w.stream([]byte(tc.path), 0)
			w.view.end()
			if ok != (tc.want != "") || ok && got != tc.want {
				t.Errorf("in %s, root known %v: %s: got %q, %v; want %q", tc.cwd, looked, tc.path, got, ok, tc.want)
			}
		}
	}
}

// notified is what the kernel would say of an openat(2) of this process.
func notified(dir int, path []byte, flags int) *notification {
	n := &notification{TID: uint32(os.Getpid()), Nr: unix.SYS_OPENAT, Arch: machine}
	n.Args = [6]uint64{uint64(uint32(dir)), uint64(uintptr(unsafe.Pointer(&path[0]))), uint64(flags)}
	return n
}

func TestWant_FlagsAndOptions(t *testing.T) {
	w, dir := layOut(t)
	for _, tc := range []struct {
		path  string
		flags int
		want  wanted
	}{
		{"dev/tcp/web/80", unix.O_RDWR, wanted{path: "dev/tcp/web/80"}},
		{"dev/tcp/web/80/now", unix.O_RDONLY | unix.O_CLOEXEC, wanted{path: "dev/tcp/web/80,now", cloexec: true}},
		{"dev/tcp/web/80", unix.O_WRONLY | unix.O_NONBLOCK | unix.O_CREAT | unix.O_TRUNC, wanted{path: "dev/tcp/web/80", nonblock: true}},
		{"dev/tcp/web/80", unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, wanted{}},
		{"dev/tcp/web/80", unix.O_RDWR | unix.O_DIRECTORY, wanted{}},
		{"dev/tcp/web/80", unix.O_PATH, wanted{}},
		{"dev/tcp/web/80", unix.O_ACCMODE, wanted{}},
		{"dev/tcp/web/80,create", unix.O_RDONLY, wanted{}},
		{"dev/tcp/web/80,user=x,other", unix.O_RDONLY, wanted{}},
		{"dev/fdp/local/svc/a/b", unix.O_RDONLY, wanted{path: "dev/fdp/local/svc,a,b"}},
		{"dev/fdp/local/svc/sock", unix.O_RDONLY, wanted{}},
		{"dev/fdp/local/svc/stream", unix.O_RDONLY, wanted{path: "dev/fdp/local/svc,stream"}},
		{"cluster/name", unix.O_RDONLY, wanted{}},
	} {
		path := []byte(dir + "/n/" + tc.path + "\x00")
		got, ok := w.want(notified(-1, path, tc.flags))
		if got != tc.want || ok != (tc.want.path != "") {
			t.Errorf("%s %#x: got %+v, %v; want %+v", tc.path, tc.flags, got, ok, tc.want)
		}
		runtime.KeepAlive(path)
	}
	fd, err := unix.Open(dir+"/n/dev", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	path := []byte("tcp/web/80\x00")
	if got, ok := w.want(notified(fd, path, unix.O_RDWR)); !ok || got.path != "dev/tcp/web/80" {
		t.Errorf("relative to a descriptor: got %+v, %v", got, ok)
	}
	if got, ok := w.want(notified(1<<20, path, unix.O_RDWR)); ok {
		t.Errorf("relative to none: got %+v", got)
	}
	link := []byte(dir + "/to-stream\x00")
	if got, ok := w.want(notified(-1, link, unix.O_RDWR|unix.O_NOFOLLOW)); ok {
		t.Errorf("O_NOFOLLOW of a link: got %+v", got)
	}
	if got, ok := w.want(notified(-1, link, unix.O_RDWR)); !ok || got.path != "dev/tcp/web/80" {
		t.Errorf("a link: got %+v, %v", got, ok)
	}
}

func TestWant_RulesOfOpenat2(t *testing.T) {
	w, dir := layOut(t)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, tc := range []struct {
		path    string
		resolve uint64
		want    string
	}{
		{"n/dev/tcp/web/80", 0, "dev/tcp/web/80"},
		{"n/dev/tcp/web/80/now", unix.RESOLVE_BENEATH, "dev/tcp/web/80,now"},
		{"/n/dev/tcp/web/80", unix.RESOLVE_IN_ROOT, "dev/tcp/web/80"},
		{"/../n/dev/tcp/web/80", unix.RESOLVE_IN_ROOT, "dev/tcp/web/80"},
		{"/n/dev/tcp/web/80", unix.RESOLVE_BENEATH, ""},
		{"../" + filepath.Base(dir) + "/n/dev/tcp/web/80", unix.RESOLVE_BENEATH, ""},
		{"to-dev/tcp/web/80", unix.RESOLVE_NO_SYMLINKS, ""},
		{"rel", unix.RESOLVE_NO_SYMLINKS, ""},
		{"n/dev/tcp/web/80", resolveCached, ""},
	} {
		path := []byte(tc.path + "\x00")
		how := &unix.OpenHow{Flags: unix.O_RDWR, Resolve: tc.resolve}
		n := notified(fd, path, 0)
		n.Nr, n.Args[2], n.Args[3] = unix.SYS_OPENAT2, uint64(uintptr(unsafe.Pointer(how))), uint64(unsafe.Sizeof(*how))
		got, ok := w.want(n)
		if got.path != tc.want || ok != (tc.want != "") {
			t.Errorf("%s %#x: got %+v, %v; want %q", tc.path, tc.resolve, got, ok, tc.want)
		}
		runtime.KeepAlive(path)
		runtime.KeepAlive(how)
	}
}

func TestReadPath_AtTheEndOfMemory(t *testing.T) {
	// Two pages, the second of which cannot be read.
	mem, err := unix.Mmap(-1, 0, 3*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	if err := unix.Mprotect(mem[2*pageSize:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	var buf [unix.PathMax]byte
	read := func(at int) (string, bool) {
		b, ok := readPath(uint32(os.Getpid()), uint64(uintptr(unsafe.Pointer(&mem[at]))), &buf)
		return string(b), ok
	}
	end := 2 * pageSize
	copy(mem[end-5:], "abcd\x00")
	if got, ok := read(end - 5); !ok || got != "abcd" {
		t.Errorf("up to the last byte: got %q, %v", got, ok)
	}
	mem[end-1] = 'e'
	if got, ok := read(end - 5); ok {
		t.Errorf("without a NUL: got %q", got)
	}
	long := strings.Repeat("x", unix.PathMax-1)
	copy(mem, long+"\x00")
	if got, ok := read(0); !ok || got != long {
		t.Errorf("the longest: got %d bytes, %v", len(got), ok)
	}
	copy(mem[100:], long+"x\x00")
	if got, ok := read(100); ok {
		t.Errorf("too long: got %d bytes", len(got))
	}
	copy(mem[pageSize-300:], strings.Repeat("y", 600)+"\x00")
	if got, ok := read(pageSize - 300); !ok || got != strings.Repeat("y", 600) {
		t.Errorf("across pages: got %d bytes, %v", len(got), ok)
	}
}

const resolveCached = 0x20 // linux/openat2.h

// always has each root looked at.
var always atomic.Bool

func init() { always.Store(true) }
