package launch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// world is a Host with a Launcher and a directory of servers.
type world struct {
	t    *testing.T
	lib  string
	host *rendezvous.Host
	*Launcher

	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// newWorld closes everything at the test's end, and fails the test if a process is left.
func newWorld(t *testing.T, o Opts) *world {
	t.Helper()
	lib := libDir(t)
	sockets := filepath.Join(lib, "s")
	if err := os.Mkdir(sockets, 0o755); err != nil {
		t.Fatal(err)
	}
	chmod(t, sockets, 0o777)
	return worldIn(t, lib, o)
}

// worldIn is newWorld for a directory that has a folder s for sockets.
func worldIn(t *testing.T, lib string, o Opts) *world {
	t.Helper()
	w := &world{t: t, lib: lib}
	log := slog.New(slog.NewTextHandler(w, nil))
	sockets := filepath.Join(lib, "s")
	w.host = rendezvous.NewHost(rendezvous.HostOpts{
		Resolver: &rendezvous.Resolver{}, Log: log, Self: "web1", SocketDir: sockets,
		Unlink: func(name string) { os.Remove(filepath.Join(sockets, name)) },
	})
	o.Host, o.Log, o.Self, o.Dirs = w.host, log, "web1", []string{w.lib}
	w.Launcher = New(o)
	w.host.SetLauncher(w.Launcher)
	t.Cleanup(func() {
		within(t, "close", w.Close)
		w.host.Close()
		if n := w.Stats().Running; n != 0 {
			t.Errorf("%d processes are left", n)
		}
		if t.Failed() {
			t.Log(w.said())
		}
	})
	return w
}

var serviceCount atomic.Int64

// newService returns the path of a service of its own, and the name of its folder.
func newService(proto string) (path, folder string) {
	name := fmt.Sprintf("cvtest%d-%d", os.Getpid(), serviceCount.Add(1))
	return "dev/" + proto + "/local/" + name, proto + "/" + name
}

var builtServer = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "cvserver")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "server")
	if out, err := exec.Command("go", "build", "-o", name, "testdata/server.go").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return os.ReadFile(name)
})

// serving installs a server of lines, and returns the path of its service.
func (w *world) serving(proto string, uid int) string {
	w.t.Helper()
	text, err := builtServer()
	if err != nil {
		w.t.Fatal(err)
	}
	path, folder := newService(proto)
	chown(w.t, install(w.t, w.lib, folder, "server", string(text)), uid)
	return path
}

// python is the command of a server in Python; s is the listening socket.
func python(text string) string {
	return `exec python3 -c "import socket, time; s=socket.socket(fileno=3); ` + text + `"`
}

// script installs a shell script as server or server.inetd.
func (w *world) script(proto, file, text string) string {
	w.t.Helper()
	path, folder := newService(proto)
	install(w.t, w.lib, folder, file, script(text))
	return path
}

// as returns a caller of this process's namespaces.
func as(t *testing.T, uid uint32) rendezvous.Caller {
	t.Helper()
	c, err := rendezvous.LookupCaller(os.Getpid(), uid, uid)
	if err != nil {
		t.Fatal(err)
	}
	c.Groups = nil
	if uid != 0 {
		c.Caps = 0
	}
	return c
}

// open opens a path as uid.
func (w *world) open(uid uint32, path string) (*os.File, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), bound)
	defer cancel()
	c, err := w.host.Open(ctx, as(w.t, uid), parse(w.t, path))
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(c.FD), path)
	w.t.Cleanup(func() { f.Close() })
	return f, nil
}

// mustOpen ends the test if it cannot.
func (w *world) mustOpen(uid uint32, path string) *os.File {
	w.t.Helper()
	f, err := w.open(uid, path)
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// refused fails the test unless the open fails with errno, and a text.
func (w *world) refused(uid uint32, path string, errno unix.Errno, text string) {
	w.t.Helper()
	f, err := w.open(uid, path)
	if f != nil || !errors.Is(err, errno) || !strings.Contains(err.Error(), text) {
		w.t.Errorf("%s: got %v, want %v with %q", path, err, errno, text)
	}
}

// line reads a line.
func line(t *testing.T, f *os.File) string {
	t.Helper()
	_ = f.SetReadDeadline(time.Now().Add(bound))
	s, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		t.Fatalf("got %q, %v", s, err)
	}
	return strings.TrimSpace(s)
}

// rest reads to the end.
func rest(t *testing.T, f *os.File) string {
	t.Helper()
	_ = f.SetReadDeadline(time.Now().Add(bound))
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("got %q, %v", b, err)
	}
	return string(b)
}

// field returns what follows a word in a line.
func field(line, word string) string {
	f := strings.Fields(line)
	for i := range f {
		if f[i] == word && i+1 < len(f) {
			return f[i+1]
		}
	}
	return ""
}

// ended waits until the server of a service is no more.
func (w *world) ended(path string) {
	w.t.Helper()
	key := instanceOf(parse(w.t, path)).key
	w.Launcher.mu.Lock()
	var r *running
	if s := w.services[key]; s != nil {
		r = s.running
	}
	w.Launcher.mu.Unlock()
	if r != nil {
		within(w.t, "the end of "+path, func() { <-r.ended })
	}
}

// backOff makes the back-off of a service end in d, and returns in what time it would have ended.
func (w *world) backOff(path string, d time.Duration) time.Duration {
	w.t.Helper()
	w.Launcher.mu.Lock()
	defer w.Launcher.mu.Unlock()
	s := w.services[instanceOf(parse(w.t, path)).key]
	left := time.Until(s.until)
	s.until = time.Now().Add(d)
	return left
}
