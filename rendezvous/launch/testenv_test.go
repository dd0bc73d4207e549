package launch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/rendezvous"
)

// bound is how long anything may take that is expected to be quick.
const bound = 20 * time.Second

// needRoot skips a test where there are no other users; in CI that is a failure.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root: takes other users' ids")
		}
		t.Skip("needs root: takes other users' ids")
	}
}

// libDir makes an empty --lib directory. It is not in t.TempDir, for nothing below /tmp is safe to run.
func libDir(t *testing.T) string {
	t.Helper()
	needRoot(t)
	dir, err := os.MkdirTemp("/var/lib", "cvlib")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	chmod(t, dir, 0o755)
	return dir
}

func chmod(t *testing.T, path string, mode uint32) {
	t.Helper()
	if err := os.Chmod(path, os.FileMode(mode)); err != nil {
		t.Fatal(err)
	}
}

// chown gives path to uid and the group of that number.
func chown(t *testing.T, path string, uid int) {
	t.Helper()
	if err := os.Lchown(path, uid, uid); err != nil {
		t.Fatal(err)
	}
}

// install writes a file of a service's folder, with mode 0755, and returns its path.
func install(t *testing.T, lib, service, file, text string) string {
	t.Helper()
	dir := filepath.Join(lib, Folder, service)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	chmod(t, path, 0o755)
	return path
}

// script is the text of a shell script.
func script(text string) string { return "#!/bin/sh\n" + text + "\n" }

// parse parses a path that the test knows to be right.
func parse(t *testing.T, path string) rendezvous.Path {
	t.Helper()
	p, err := rendezvous.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// within ends the test when f does not return.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(bound):
		t.Fatalf("%s: not after %v", what, bound)
	}
}
