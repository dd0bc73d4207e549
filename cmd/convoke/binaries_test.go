package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is convoke and convoked beside each other, as they are installed.
type built struct{ convoke, convoked string }

// builtDir is the folder that they lie in, "" before they are built.
var builtDir string

// buildBoth builds them once for all tests.
var buildBoth = sync.OnceValues(func() (built, error) {
	dir, err := os.MkdirTemp("", "convoke-test-")
	if err != nil {
		return built{}, err
	}
	builtDir = dir
	out, err := exec.Command("go", "build", "-o", dir+"/", "../convoke", "../convoked").CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
		return built{}, err
	}
	return built{filepath.Join(dir, "convoke"), filepath.Join(dir, "convoked")}, nil
})

// binaries returns the built commands.
func binaries(t *testing.T) built {
	t.Helper()
	b, err := buildBoth()
	if err != nil {
		t.Fatalf("go build: %v", err)
	}
	return b
}

func TestMain(m *testing.M) {
	status := m.Run()
	if builtDir != "" {
		os.RemoveAll(builtDir)
	}
	os.Exit(status)
}

// requireShell skips a test whose shell is missing, but fails it where all of
// them are promised.
func requireShell(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is missing", name)
}
