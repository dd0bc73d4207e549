package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ask sends text, half-closes, and returns the whole answer.
func ask(t *testing.T, conn *net.UnixConn, text string) string {
	t.Helper()
	if text != "" {
		if _, err := io.WriteString(conn, text); err != nil {
			t.Error(err)
		}
	}
	if err := conn.CloseWrite(); err != nil {
		t.Error(err)
	}
	out, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	return string(out)
}

func TestServe_CommandHasTheSocketAndKnowsTheClient(t *testing.T) {
	s := serving(t, attendOpts{}, serveClients, "sh", "-c",
		`sort; echo $CONVOKE_PEER_HOST $CONVOKE_PEER_NODE $CONVOKE_PEER_PID $CONVOKE_PEER_UID $CONVOKE_PEER_GID $CONVOKE_PEER_ADDR
		ls -l /proc/$$/fd | grep -cF "$(readlink /proc/$$/fd/0)"; grep flags /proc/self/fdinfo/0`)
	// There are two descriptors of the socket, which is O_RDWR and blocks.
	want := "apple\npear\nlocal - 42 1000 - -\n2\nflags:\t02\n"
	if got := ask(t, s.l.dialTo(t), "pear\napple\n"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestServe_RunsAtMostMaxAtOnce(t *testing.T) {
	const most, clients = 3, 12
	dir := t.TempDir()
	// Each process is seen as long as it runs.
	s := serving(t, attendOpts{most: most}, serveClients, "sh", "-c", `touch $0/$$; ls $0 | wc -l; sleep 0.02; rm $0/$$`, dir)
	var wg sync.WaitGroup
	seen := make(chan string, clients)
	for range clients {
		conn := s.l.dialTo(t)
		wg.Go(func() { seen <- ask(t, conn, "") })
	}
	wg.Wait()
	close(seen)
	for n := range seen {
		if n = strings.TrimSpace(n); len(n) != 1 || n < "1" || n > fmt.Sprint(most) {
			t.Errorf("%s processes at once, want at most %d", n, most)
		}
	}
}

func TestServe_SignalStopsAcceptingAndServesToTheEnd(t *testing.T) {
	s := serving(t, attendOpts{verbose: true}, serveClients, "cat")
	conn := s.l.dialTo(t)
	hello(t, conn)
	s.stop()
	// The announcement is gone while the client is served.
	waitFor(t, "the announcement is gone", func() bool {
		c, err := net.Dial("unix", s.l.path)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if got := ask(t, conn, "still there\n"); got != "still there\n" {
		t.Errorf("got %q", got)
	}
	if err := s.end(t); err != nil {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{": for local - 42 1000 -\n", "stopping: terminated\n", ": exit status 0\n"} {
		if !strings.Contains(s.stderr.String(), want) {
			t.Errorf("stderr has no %q:\n%s", want, s.stderr)
		}
	}
}

// hello waits until a cat at the other end answers.
func hello(t *testing.T, conn *net.UnixConn) {
	t.Helper()
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "hello\n" {
		t.Fatalf("got %q, %v", buf, err)
	}
}

// waitFor waits for something that no channel tells.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testTime); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

func TestServe_SecondSignalEndsTheWholeGroup(t *testing.T) {
	// The shell ignores SIGTERM, and so does its child: both have to be killed.
	s := serving(t, attendOpts{}, serveClients, "sh", "-c", `trap "" TERM; (echo $$; sleep 1000); echo never`)
	conn := s.l.dialTo(t)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		t.Fatalf("got %q, %v", line, err)
	}
	s.stop()
	s.stop()
	if err := s.end(t); err != nil {
		t.Errorf("got %v", err)
	}
	// No copy of the socket is left in a process that goes on.
	if out, err := io.ReadAll(conn); err != nil || len(out) != 0 {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestServe_GraceEndsWhatGoesOn(t *testing.T) {
	s := serving(t, attendOpts{grace: 0.05, bounded: true}, serveClients, "cat")
	conn := s.l.dialTo(t)
	hello(t, conn)
	s.stop()
	if err := s.end(t); err != nil {
		t.Errorf("got %v", err)
	}
	if out, err := io.ReadAll(conn); err != nil || len(out) != 0 {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestServe_OnceEndsAsTheCommandDoes(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 128 + 15} {
		s := serving(t, attendOpts{once: true, most: 1}, serveClients, "sh", "-c", script)
		ask(t, s.l.dialTo(t), "")
		if got := exitStatus(s.end(t)); got != want {
			t.Errorf("%s: got %d, want %d", script, got, want)
		}
		if c, err := net.Dial("unix", s.l.path); err == nil {
			t.Errorf("%s: it is still announced", script)
			c.Close()
		}
	}
}

func TestServe_CommandThatVanishedIsToldAndOthersAreServed(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\necho ok\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := serving(t, attendOpts{most: 1}, serveClients, tool)
	if err := os.Rename(tool, tool+"2"); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, s.l.dialTo(t), ""); got != "" {
		t.Errorf("got %q", got)
	}
	waitFor(t, "it is told", func() bool {
		return s.stderr.String() == "convoke: "+tool+": no such file or directory\n"
	})
	if err := os.Rename(tool+"2", tool); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, s.l.dialTo(t), ""); got != "ok\n" {
		t.Errorf("got %q, want ok", got)
	}
}

func TestServe_FailsWhenTheDaemonGoesButServesToTheEnd(t *testing.T) {
	s := serving(t, attendOpts{}, serveClients, "cat")
	conn := s.l.dialTo(t)
	hello(t, conn)
	s.l.Close()
	if got := ask(t, conn, "still there\n"); got != "still there\n" {
		t.Errorf("got %q", got)
	}
	if err := s.end(t); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want that the listener is closed", err)
	}
}

func TestCrew_KillReachesAProcessThatIsStartedMeanwhile(t *testing.T) {
	crew, err := newCrew([]string{"sleep", "1000"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan syscall.WaitStatus, 1)
	<-crew.places
	crew.kill()
	if _, err := crew.start([]uintptr{0, 1, 2}, nil, func(_ int, status syscall.WaitStatus) { ended <- status }); err != nil {
		t.Fatal(err)
	}
	if status := <-ended; !status.Signaled() || describe(status) != "signal SIGTERM" || shellStatus(status) != 128+15 {
		t.Errorf("got %v", describe(status))
	}
	crew.wait()
	if len(crew.places) != 2 {
		t.Errorf("%d places, want 2", len(crew.places))
	}
}

func TestServe_RunsAScriptThatNamesNoInterpreter(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(tool, []byte("echo \"$1\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := serving(t, attendOpts{}, serveClients, tool, "an argument")
	if got := ask(t, s.l.dialTo(t), ""); got != "an argument\n" {
		t.Errorf("got %q", got)
	}
}

func TestServe_ProcessesGetTheSignalsOfAShell(t *testing.T) {
	s := serving(t, attendOpts{}, serveClients, "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
	// What is ignored here, since this runs in the background of a shell or under nohup, is so there.
	var ignored uint64
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			ignored |= 1 << (sig - 1)
		}
	}
	want := fmt.Sprintf("SigBlk:\t%016x\nSigIgn:\t%016x\n", 0, ignored)
	if got := ask(t, s.l.dialTo(t), ""); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
