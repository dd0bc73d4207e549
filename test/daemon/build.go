package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// top is the folder of this test binary: programs, and a folder for each node. Others must be able to walk it, which
// they cannot in t.TempDir's, and it must be short, for a socket's path has at most 107 bytes.
var top string

// Main runs the tests of a package and removes what was built for them. It returns the exit status.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cv")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	top = dir
	defer os.RemoveAll(top)
	if err := os.Chmod(top, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// What tests run as other users must not be a program in root's home folder.
	os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"+os.Getenv("PATH"))
	return m.Run()
}

// A program is one that is built at its first use.
type program struct {
	name  string
	plain bool // without the race detector
	once  sync.Once
	path  string
	err   error
}

var (
	convoked      = &program{name: "convoked"}
	convokedPlain = &program{name: "convoked", plain: true}
	convoke       = &program{name: "convoke"}
)

// Convoked returns the path of the daemon's program, with the race detector when the test has it.
func Convoked(t testing.TB) string { return convoked.build(t) }

// Convoke returns the path of the command, with the race detector when the test has it.
func Convoke(t testing.TB) string { return convoke.build(t) }

func (p *program) build(t testing.TB) string {
	t.Helper()
	if top == "" {
		t.Fatal("the test package has no TestMain that calls daemon.Main")
	}
	p.once.Do(func() {
		p.path = filepath.Join(top, p.name)
		args := []string{"build"}
		switch {
		case p.plain:
			p.path += "-plain"
		case Race:
			args = append(args, "-race")
		}
		args = append(args, "-o", p.path, "github.com/convoke-fs/convoke/cmd/"+p.name)
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			p.err = fmt.Errorf("go %q: %w\n%s", args, err, out)
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.path
}
