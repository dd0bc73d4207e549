package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestLookCommand_FindsWhatAShellWouldRun(t *testing.T) {
	dir, later := t.TempDir(), t.TempDir()
	write := func(path string, mode os.FileMode) string {
		t.Helper()
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := write(filepath.Join(dir, "plain"), 0o644)
	tool := write(filepath.Join(dir, "tool"), 0o755)
	write(filepath.Join(dir, "both"), 0o644)
	both := write(filepath.Join(later, "both"), 0o755)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+filepath.Join(dir, "none")+":"+later)
	for _, tc := range []struct {
		name, want string
		status     int
	}{
		{"tool", tool, 0},
		{tool, tool, 0},
		{"both", both, 0},
		{"plain", "", 126},
		{plain, "", 126},
		{"folder", "", 126},
		{dir, "", 126},
		{"nothing", "", 127},
		{"", "", 127},
		{dir + "/nothing", "", 127},
		{tool + "/below", "", 127},
	} {
		got, err := lookCommand(tc.name)
		if got != tc.want || exitStatus(err) != tc.status {
			t.Errorf("%q: got %q, %v (%d), want %q, %d", tc.name, got, err, exitStatus(err), tc.want, tc.status)
		}
	}
}

func TestLookCommand_AnEmptyElementOfPathIsTheFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("tool", nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", ":/nowhere")
	if got, err := lookCommand("tool"); got != "./tool" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	var ended statusError
	if _, err := lookCommand("other"); !errors.As(err, &ended) || ended.Error() != "other: command not found" {
		t.Errorf("got %v", err)
	}
}
