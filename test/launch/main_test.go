package launch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestMain(m *testing.M) { os.Exit(daemon.Main(m)) }

// lib is a --lib folder. It is not below /tmp, where nothing is safe to run.
type lib string

// start starts a node with a lib folder.
func start(t *testing.T, args ...string) (*daemon.Node, lib) {
	t.Helper()
	daemon.Need(t, "fuse", "root")
	dir, err := os.MkdirTemp("/var/lib", "cvlib")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return daemon.Start(t, daemon.Opts{Args: append([]string{"--lib", dir}, args...)}), lib(dir)
}

// script installs a shell script, and returns its path.
func (l lib) script(t *testing.T, service, file, text string) string {
	t.Helper()
	dir := filepath.Join(string(l), "cs", service)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func chown(t *testing.T, path string, uid int) {
	t.Helper()
	if err := os.Chown(path, uid, uid); err != nil {
		t.Fatal(err)
	}
}
