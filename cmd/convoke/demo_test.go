package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// needFuse skips a test that cannot mount here, but fails it where mounting is
// promised.
func needFuse(t *testing.T) {
	t.Helper()
	err := demoNeeds(os.Geteuid())
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// demoCommand returns a demonstration by the binary in a folder, whose
// temporary files are below the returned folder. That is short, for sockets.
func demoCommand(t *testing.T, binary string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	tmp, err := os.MkdirTemp("", "demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Not RemoveAll: what is left may be mounted.
		if err := os.Remove(tmp); err != nil {
			t.Errorf("something is left: %v", err)
		}
	})
	cmd = exec.Command(binary, "demo", "--no-wait")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "CONVOKE_MOUNT=/none", "CONVOKE_NAME=other")
	return cmd, tmp
}

func TestDemo_ShowsWhatItSays(t *testing.T) {
	needFuse(t)
	cmd, _ := demoCommand(t, binaries(t).convoke)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &stdout, &stderr)
	}
	for _, want := range []string{"\nHELLO\n", "\nANY PROGRAM WILL DO\n", "MEMBER_LEFT web2 ring=", "Connection refused",
		"\nweb1: msg 2 ", "\nmsg 3 ", "\nweb1: msg 3 "} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, &stdout)
		}
	}
}

func TestDemo_InterruptLeavesNothing(t *testing.T) {
	needFuse(t)
	cmd, _ := demoCommand(t, binaries(t).convoke)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// When a connection is open, three daemons are.
	var shown strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(shown.String(), "exec 3<>") {
		n, err := stdout.Read(buf)
		shown.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v\n%s%s", err, &shown, &stderr)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, stdout); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("got %v, want exit status 1", err)
	}
	if !strings.Contains(stderr.String(), "demo: interrupted") {
		t.Errorf("got %s", &stderr)
	}
}

func TestDemo_DaemonThatFailsIsQuotedAndNothingIsLeft(t *testing.T) {
	needFuse(t)
	// A copy of convoke beside another daemon: /proc/self/exe knows no links.
	dir := t.TempDir()
	text, err := os.ReadFile(binaries(t).convoke)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"convoke": text, "convoked": []byte("#!/bin/sh\necho out of order >&2\nexit 78\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd, _ := demoCommand(t, filepath.Join(dir, "convoke"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("got %v, want exit status 1", err)
	}
	if !strings.Contains(stderr.String(), "has ended: exit status 78\nout of order") {
		t.Errorf("got %s", &stderr)
	}
}

// session starts a shell of a demonstration.
func session(t *testing.T) (s *demoShell, out *bytes.Buffer) {
	t.Helper()
	out = new(bytes.Buffer)
	s, err := startShell(t.TempDir(), t.TempDir(), out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		s.wait()
	})
	return s, out
}

func TestDemoShell_IsOneSession(t *testing.T) {
	s, out := session(t)
	for _, tc := range []struct {
		command, output string
		status          int
	}{
		{"a=1; exec 3>&2", "", 0},
		{"echo $a >&3", "1\n", 0},
		{"echo two; false", "two\n", 1},
		{"cat /nonexistent", "cat: /nonexistent: No such file or directory\n", 1},
		{"echo a \\\n  b", "a b\n", 0},
	} {
		output, status, err := s.run(t.Context(), tc.command)
		if err != nil || output != tc.output || status != tc.status {
			t.Errorf("%s: got %q, %d, %v, want %q, %d", tc.command, output, status, err, tc.output, tc.status)
		}
	}
	want := "$ a=1; exec 3>&2\n$ echo $a >&3\n1\n$ echo two; false\ntwo\n$ cat /nonexistent\n" +
		"cat: /nonexistent: No such file or directory\n$ echo a \\\n>   b\na b\n"
	if out.String() != want {
		t.Errorf("shown:\n%s\nwant:\n%s", out, want)
	}
}

func TestDemoShell_WaitsForWhatTheBackgroundSays(t *testing.T) {
	s, out := session(t)
	if _, _, err := s.run(t.Context(), "mkfifo f; while read -r x; do echo \"got $x\"; done <f &\nexec 4>f"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.run(t.Context(), "echo hello >&4"); err != nil {
		t.Fatal(err)
	}
	if err := s.await(t.Context(), "got hello"); err != nil {
		t.Error(err)
	}
	// Once more, when it has come already.
	if err := s.await(t.Context(), "got hello"); err != nil {
		t.Error(err)
	}
	if got := strings.Count(out.String(), "got hello\n"); got != 1 {
		t.Errorf("shown %d times:\n%s", got, out)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.await(ctx, "what nobody says"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestDemoShell_KillEndsTheBackgroundToo(t *testing.T) {
	s, _ := session(t)
	if _, _, err := s.run(t.Context(), "sleep 1000 &"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s.kill()
	s.wait()
	if took := time.Since(begin); took > 100*time.Second {
		t.Errorf("the end took %v", took)
	}
}

func TestDemoShell_EndOfTheShellIsAnError(t *testing.T) {
	s, _ := session(t)
	// A redirection that fails on a special builtin ends a POSIX shell.
	if output, status, err := s.run(t.Context(), "exit 3"); err == nil {
		t.Errorf("got %q, %d, want an error", output, status)
	}
}

func TestParseMounts_InnermostFirstAndOnlyBelow(t *testing.T) {
	const mountinfo = `22 1 0:20 / / rw - ext4 /dev/root rw
40 22 0:40 / /tmp/demo/web1 rw - fuse convoke rw
41 22 0:41 / /tmp/demo2/web1 rw - fuse convoke rw
42 22 0:42 / /tmp/demo/a\040b\134 rw - fuse convoke rw

43 22
`
	got := parseMounts(mountinfo, "/tmp/demo")
	if want := []string{`/tmp/demo/a b\`, "/tmp/demo/web1"}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFreePort_IsFreeAtAllAddresses(t *testing.T) {
	port, err := freePort(demoAddrs)
	if err != nil || port < 1024 {
		t.Errorf("got %d, %v", port, err)
	}
}
