package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// listening is a convoke feed of a daemon.
type listening struct {
	*exec.Cmd
	t     *testing.T
	lines *bufio.Reader
}

// listenTo starts one.
func listenTo(t *testing.T, mount string, args ...string) *listening {
	t.Helper()
	l := &listening{Cmd: exec.Command(binaries(t).convoke, append([]string{"--mount", mount, "feed"}, args...)...), t: t}
	l.Stderr = os.Stderr
	out, err := l.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Process.Kill() // where it has not ended, so that a test that waits fails and does not hang
		l.Wait()
	})
	l.lines = bufio.NewReader(out)
	return l
}

// want fails unless the next lines are these, in which PID is this feed's process.
func (l *listening) want(lines ...string) {
	l.t.Helper()
	for _, want := range lines {
		want = strings.ReplaceAll(want, "PID", fmt.Sprint(l.Process.Pid)) + "\n"
		if got, err := l.lines.ReadString('\n'); err != nil || got != want {
			l.t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
}

func TestMounted_FeedReadsWhatTheFileReads(t *testing.T) {
	mount, _ := daemon(t)
	if err := os.Mkdir(filepath.Join(mount, "cluster/groups/chat"), 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(mount, "cluster/groups/chat/feed"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	self := os.Getpid()
	l := listenTo(t, mount, "chat")
	members := fmt.Sprintf("1:%d,1:PID", self) // sorted by their numbers
	if self > l.Process.Pid {
		members = fmt.Sprintf("1:PID,1:%d", self)
	}
	l.want("conf members=" + members + " joined=1:PID:JOIN left=-")
	ring, err := l.lines.ReadString('\n')
	if err != nil || !strings.HasPrefix(ring, "ring ") || !strings.HasSuffix(ring, " members=1\n") {
		t.Errorf("got %q, %v", ring, err)
	}
	if _, err := file.WriteString("by the file\n"); err != nil {
		t.Fatal(err)
	}
	l.want(fmt.Sprintf("msg 1 %d by the file", self))
	if out, err := exec.Command(binaries(t).convoke, "--mount", mount, "cast", "chat", "by", "the", "command").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("cast: %v\n%s", err, out)
	}
	if line, err := l.lines.ReadString('\n'); err != nil || !strings.HasSuffix(line, ".0 by the command\n") {
		t.Errorf("got %q, %v", line, err)
	}
	out, err := exec.Command(binaries(t).convoke, "--mount", mount, "groups").Output()
	want := fmt.Sprintf("chat uid=%d gid=%d feed=0600 send=0200 members=%s\n", os.Geteuid(), os.Getegid(),
		strings.ReplaceAll(members, "PID", fmt.Sprint(l.Process.Pid)))
	if err != nil || string(out) != want {
		t.Errorf("groups: got %q, %v, want %q", out, err, want)
	}
	out, err = exec.Command(binaries(t).convoke, "--mount", mount, "groups", "chat").Output()
	if err != nil || strings.Count(string(out), "\n") != 2 || !strings.Contains(string(out), fmt.Sprintf("1 %d solo 20", l.Process.Pid)) {
		t.Errorf("groups chat: got %q, %v", out, err)
	}
	if err := l.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(l.lines); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v", rest, err)
	}
	if err := l.Wait(); err != nil {
		t.Errorf("feed: %v", err)
	}
	// The file has had the same all the time, and reads how it went on.
	lines := bufio.NewReader(file)
	var all strings.Builder
	for !strings.Contains(all.String(), ":LEAVE\n") {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(line)
	}
	if !strings.Contains(all.String(), "by the command\n") || !strings.Contains(all.String(), fmt.Sprintf("left=1:%d:LEAVE", l.Process.Pid)) {
		t.Errorf("got %q", &all)
	}
}

func TestMounted_FeedThatIsKilledIsADeath(t *testing.T) {
	mount, _ := daemon(t)
	first := listenTo(t, mount, "chat") // which makes the group
	first.want("conf members=1:PID joined=1:PID:JOIN left=-")
	if _, err := first.lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	second := listenTo(t, mount, "chat")
	if line, err := first.lines.ReadString('\n'); err != nil || !strings.HasSuffix(line, fmt.Sprintf("joined=1:%d:JOIN left=-\n", second.Process.Pid)) {
		t.Errorf("got %q, %v", line, err)
	}
	second.Process.Kill()
	first.want(fmt.Sprintf("conf members=1:PID joined=- left=1:%d:PROCDOWN", second.Process.Pid))
}

func TestMounted_FeedSendsAMillionBytesALineAndNotOneMore(t *testing.T) {
	mount, _ := daemon(t)
	for size, status := range map[int]int{1 << 20: 0, 1<<20 + 1: 1} {
		cmd := exec.Command(binaries(t).convoke, "--mount", mount, "feed", "--send", "chat")
		cmd.Stdin = strings.NewReader(strings.Repeat("x", size) + "\n")
		out, _ := cmd.Output()
		if got := cmd.ProcessState.ExitCode(); got != status || strings.Contains(string(out), "msg") != (status == 0) || status == 0 && len(out) < size {
			t.Errorf("%d bytes: exit status %d, %d bytes of output", size, got, len(out))
		}
	}
}

func TestMounted_EndOfTheDaemonEndsFeed(t *testing.T) {
	mount, process := daemon(t)
	l := listenTo(t, mount, "chat")
	l.want("conf members=1:PID joined=1:PID:JOIN left=-")
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, l.lines)
	if err := l.Wait(); err == nil || l.ProcessState.ExitCode() != 1 {
		t.Errorf("got %v, want exit status 1", err)
	}
}
