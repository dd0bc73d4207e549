package launch

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// look finds the server of tcp/echo in one directory; the warnings are an error too.
func look(t *testing.T, self uint32, dirs ...string) (*server, error) {
	t.Helper()
	var warning error
	s, err := find(dirs, self, rendezvous.TCP, "echo", func(_ string, err error) { warning = err })
	if s != nil {
		t.Cleanup(s.close)
	}
	return s, errors.Join(err, warning)
}

func TestFind_ServerOfAFolder(t *testing.T) {
	lib := libDir(t)
	if s, err := look(t, 0, lib, "/nonexistent"); s != nil || err != nil {
		t.Errorf("no folder: got %+v, %v", s, err)
	}
	path := install(t, lib, "tcp/echo", "server", script("exit"))
	s, err := look(t, 0, "/nonexistent", lib)
	if err != nil || s == nil || s.path != path || s.owner != 0 || s.inetd || s.hosts != nil {
		t.Fatalf("got %+v, %v", s, err)
	}
	chown(t, path, 1000)
	if s, err = look(t, 0, lib); err != nil || s == nil || s.owner != 1000 {
		t.Errorf("a user's server in root's folder: got %+v, %v", s, err)
	}
	if err := os.Rename(path, filepath.Join(filepath.Dir(path), "server.inetd")); err != nil {
		t.Fatal(err)
	}
	if s, err = look(t, 0, lib); err != nil || s == nil || !s.inetd {
		t.Errorf("server.inetd: got %+v, %v", s, err)
	}
}

func TestFind_FirstFolderHasTheService(t *testing.T) {
	one, two := libDir(t), libDir(t)
	install(t, two, "tcp/echo", "server", script("exit"))
	path := install(t, one, "tcp/echo", "server", script("exit"))
	if s, err := look(t, 0, one, two); err != nil || s.path != path {
		t.Errorf("got %+v, %v, want %s", s, err, path)
	}
	// An empty file says that it is never to be started, wherever else there is one.
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if s, err := look(t, 0, one, two); err != nil || s != nil {
		t.Errorf("empty file: got %+v, %v, want none", s, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if s, err := look(t, 0, one, two); err != nil || s != nil {
		t.Errorf("folder without a server: got %+v, %v, want none", s, err)
	}
}

func TestFind_UsersOwnFolder(t *testing.T) {
	lib := libDir(t)
	path := install(t, lib, "tcp/echo", "server", script("exit"))
	for p := path; p != filepath.Dir(lib); p = filepath.Dir(p) {
		chown(t, p, 1000)
	}
	if s, err := look(t, 0, lib); err != nil || s == nil || s.owner != 1000 {
		t.Errorf("got %+v, %v", s, err)
	}
	// Root's file can have come there by the user's hands.
	chown(t, path, 0)
	if s, err := look(t, 0, lib); s != nil || !errors.Is(err, errUnsafe) {
		t.Errorf("root's server in a user's folder: got %+v, %v", s, err)
	}
}

func TestFind_RefusesWhatOthersCouldHaveMade(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, lib, path string)
		want string
	}{
		{"writable by all", func(t *testing.T, lib, path string) { chmod(t, path, 0o757) }, "server is writable"},
		{"writable by group", func(t *testing.T, lib, path string) { chmod(t, path, 0o775) }, "server is writable"},
		{"writable folder", func(t *testing.T, lib, path string) { chmod(t, filepath.Dir(path), 0o777) }, "echo is writable"},
		{"writable protocol", func(t *testing.T, lib, path string) { chmod(t, lib+"/cs/tcp", 0o777) }, "tcp is writable"},
		{"sticky directory", func(t *testing.T, lib, path string) {
			if err := os.Chmod(lib, 0o777|os.ModeSticky); err != nil {
				t.Fatal(err)
			}
		}, "is writable"},
		{"another user's folder", func(t *testing.T, lib, path string) { chown(t, filepath.Dir(path), 1001) }, "belongs to uid 0, and what it is in to uid 1001"},
		{"two users", func(t *testing.T, lib, path string) { chown(t, filepath.Dir(path), 1001); chown(t, path, 1000) }, "belongs to uid 1000"},
		{"nobody's", func(t *testing.T, lib, path string) { chown(t, path, nobody) }, "belongs to nobody"},
		{"second link", func(t *testing.T, lib, path string) {
			if err := os.Link(path, lib+"/other"); err != nil {
				t.Fatal(err)
			}
		}, "2 links"},
		{"set-uid", func(t *testing.T, lib, path string) { sysChmod(t, path, 0o4755) }, "set-id"},
		{"set-gid", func(t *testing.T, lib, path string) { sysChmod(t, path, 0o2755) }, "set-id"},
		{"not executable", func(t *testing.T, lib, path string) { chmod(t, path, 0o644) }, "not executable"},
		{"folder", func(t *testing.T, lib, path string) { replace(t, path, func() error { return os.Mkdir(path, 0o755) }) }, "no regular file"},
		{"fifo", func(t *testing.T, lib, path string) {
			replace(t, path, func() error { return unix.Mkfifo(path, 0o755) })
		}, "no regular file"},
		{"link", func(t *testing.T, lib, path string) {
			replace(t, path, func() error { return os.Symlink("/bin/true", path) })
		}, "symbolic link"},
		{"linked folder", func(t *testing.T, lib, path string) {
			dir := filepath.Dir(path)
			if err := os.Rename(dir, dir+"2"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(dir+"2", dir); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link"},
		{"linked protocol", func(t *testing.T, lib, path string) {
			if err := os.Rename(lib+"/cs/tcp", lib+"/cs/other"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("other", lib+"/cs/tcp"); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link"},
		{"hosts writable", func(t *testing.T, lib, path string) {
			chmod(t, install(t, lib, "tcp/echo", "hosts", "share\n"), 0o666)
		}, "hosts is writable"},
		{"hosts a fifo", func(t *testing.T, lib, path string) {
			if err := unix.Mkfifo(filepath.Join(filepath.Dir(path), "hosts"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "no regular file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lib := libDir(t)
			path := install(t, lib, "tcp/echo", "server", script("exit"))
			if s, err := look(t, 0, lib); err != nil || s == nil {
				t.Fatalf("before: got %+v, %v", s, err)
			}
			c.do(t, lib, path)
			if s, err := look(t, 0, lib); s != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v, want %q", s, err, c.want)
			}
		})
	}
}

// sysChmod sets bits that os.FileMode has elsewhere.
func sysChmod(t *testing.T, path string, mode uint32) {
	t.Helper()
	if err := unix.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, path string, do func() error) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := do(); err != nil {
		t.Fatal(err)
	}
}

// A directory in which others can write must not decide which names this host has: only its warning is to be seen.
func TestFind_LeavesOutWhatItCannotTrust(t *testing.T) {
	bad, good := libDir(t), libDir(t)
	install(t, bad, "tcp/echo", "server", script("exit"))
	chmod(t, bad, 0o777)
	path := install(t, good, "tcp/echo", "server", script("exit"))
	var told string
	s, err := find([]string{bad, good}, 0, rendezvous.TCP, "echo", func(dir string, err error) { told = dir })
	if err != nil || s == nil || s.path != path || told != bad {
		t.Fatalf("got %+v, %v, warning of %q", s, err, told)
	}
	s.close()
}

func TestFind_DaemonThatIsNotRoot(t *testing.T) {
	lib := libDir(t)
	path := install(t, lib, "tcp/echo", "server", script("exit"))
	if s, err := look(t, 1000, lib); err != nil || s == nil || s.owner != 0 {
		t.Errorf("root's: got %+v, %v", s, err)
	}
	chown(t, path, 1000)
	if s, err := look(t, 1000, lib); err != nil || s == nil || s.owner != 1000 {
		t.Errorf("its own: got %+v, %v", s, err)
	}
	chown(t, path, 1001)
	if s, err := look(t, 1000, lib); s != nil || !errors.Is(err, errUnsafe) {
		t.Errorf("another's: got %+v, %v", s, err)
	}
}

// What find returns is always root's program, whatever is renamed to and fro meanwhile.
func TestFind_SwappedInALoop(t *testing.T) {
	lib, evil := libDir(t), libDir(t)
	path := install(t, lib, "tcp/echo", "server", script("exit 1"))
	other := install(t, evil, "tcp/echo", "server", script("exit 2"))
	chown(t, other, 1000)
	chown(t, filepath.Dir(other), 1000)
	link := filepath.Join(lib, "cs/tcp/link")
	if err := os.Symlink(filepath.Dir(other), link); err != nil {
		t.Fatal(err)
	}
	var want unix.Stat_t
	if err := unix.Stat(path, &want); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	swapped := make(chan error, 1)
	go func() {
		for !stop.Load() {
			if err := unix.Renameat2(unix.AT_FDCWD, filepath.Dir(path), unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil {
				swapped <- err
				return
			}
		}
		swapped <- nil
	}()
	found, refused := 0, 0
	for range 5000 {
		s, err := find([]string{lib}, 0, rendezvous.TCP, "echo", func(string, error) {})
		switch {
		case s != nil:
			var st unix.Stat_t
			if err := unix.Fstat(s.fd, &st); err != nil || st.Ino != want.Ino || s.owner != 0 {
				t.Errorf("got %+v, inode %d, %v, want inode %d", s, st.Ino, err, want.Ino)
			}
			s.close()
			found++
		case err != nil:
			refused++
		}
	}
	stop.Store(true)
	if err := <-swapped; err != nil {
		t.Fatal(err)
	}
	if found == 0 || refused == 0 {
		t.Errorf("found %d times, refused %d times: there was no race", found, refused)
	}
}

func TestNames_OfFolders(t *testing.T) {
	one, two := libDir(t), libDir(t)
	install(t, one, "fdp/a", "server", "x")
	install(t, two, "fdp/a", "server", "x")
	install(t, two, "fdp/b", "server", "x")
	install(t, two, "tcp/c", "server", "x")
	install(t, two, "fdp/.x", "server", "x")
	got := names([]string{one, "/nonexistent", two}, 0, rendezvous.FDP)
	slices.Sort(got)
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %q", got)
	}
}

func TestHosts_NamesOfMembers(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", []string{}},
		{"# nobody\n", []string{}},
		{"web1\nweb2", []string{"web1", "web2"}},
		{" web1 # the first\n\n\tshare\r\n", []string{"web1", "share"}},
	} {
		got, err := parseHosts(c.text)
		if err != nil || got == nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, %v, want %q", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"a b\n", "web1\n../x\n", "\x00\n"} {
		if got, err := parseHosts(text); err == nil {
			t.Errorf("%q: got %q, want an error", text, got)
		}
	}
}

func TestHosts_WhoMayStart(t *testing.T) {
	lib := libDir(t)
	install(t, lib, "tcp/echo", "server", script("exit"))
	for _, c := range []struct {
		hosts string
		want  bool
	}{{"web1\n", true}, {"web2\n", false}, {"web2\nshare\n", true}, {"", false}} {
		install(t, lib, "tcp/echo", "hosts", c.hosts)
		s, err := look(t, 0, lib)
		if err != nil || s.here("web1") != c.want {
			t.Errorf("%q: got %+v, %v, want %v", c.hosts, s, err, c.want)
		}
	}
}

func FuzzHosts(f *testing.F) {
	f.Add("web1\n# x\nshare\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseHosts(text)
		if err != nil {
			return
		}
		again, err := parseHosts(strings.Join(list, "\n"))
		if err != nil || !slices.Equal(list, again) {
			t.Errorf("%q: got %q, then %q, %v", text, list, again, err)
		}
	})
}
