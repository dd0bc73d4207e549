package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// spawn starts convoke with what it shall say on its standard error output
// before it is ready.
func spawn(t *testing.T, mount, ready string, args ...string) (cmd *exec.Cmd, stderr *syncBuffer) {
	t.Helper()
	cmd = exec.Command(binaries(t).convoke, args...)
	cmd.Env = append(os.Environ(), "CONVOKE_MOUNT="+mount)
	stderr = &syncBuffer{}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	waitFor(t, ready, func() bool { return strings.Contains(stderr.String(), ready) })
	return cmd, stderr
}

// runClient runs convoke with an input and returns what it has left.
func runClient(t *testing.T, mount, input string, args ...string) result {
	t.Helper()
	cmd := exec.Command(binaries(t).convoke, args...)
	cmd.Env = append(os.Environ(), "CONVOKE_MOUNT="+mount)
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func TestMounted_ServeAnswersManyAndStopsGracefully(t *testing.T) {
	mount, _ := daemon(t)
	const clients, most = 200, 16
	dir := t.TempDir()
	server, stderr := spawn(t, mount, "serving", "serve", "-v", "--max", fmt.Sprint(most), "dev/tcp/local/sort", "--",
		"sh", "-c", `: >$0/$$; set -- $0/*; echo $# >>$0.most; sort; rm $0/$$`, dir)
	var wg sync.WaitGroup
	limit := make(chan struct{}, 50) // processes at once
	for i := range clients {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			got := runClient(t, mount, fmt.Sprintf("pear %d\napple %d\n", i, i), "connect", "dev/tcp/local/sort")
			if want := (result{0, fmt.Sprintf("apple %d\npear %d\n", i, i), ""}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(dir + ".most")
	if err != nil {
		t.Fatal(err)
	}
	counts := strings.Fields(string(text))
	if len(counts) != clients {
		t.Errorf("%d processes, want %d", len(counts), clients)
	}
	for _, n := range counts {
		if len(n) > 2 || len(n) == 2 && n > fmt.Sprint(most) {
			t.Errorf("%s processes at once, want at most %d", n, most)
		}
	}

	// A client that is being served when it stops is served to its end.
	conn := exec.Command(binaries(t).convoke, "--mount", mount, "connect", "dev/tcp/local/sort")
	input, err := conn.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	conn.Stdout = &out
	if err := conn.Start(); err != nil {
		t.Fatal(err)
	}
	started := strings.Count(stderr.String(), ": for ")
	waitFor(t, "the last client is served", func() bool { return strings.Count(stderr.String(), ": for ") > started-1 && started >= clients })
	waitFor(t, "its process runs", func() bool {
		entries, err := os.ReadDir(dir)
		return err == nil && len(entries) == 1
	})
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the name is gone", func() bool {
		entries, err := os.ReadDir(filepath.Join(mount, "dev/tcp/local"))
		return err == nil && len(entries) == 0
	})
	io.WriteString(input, "b\na\n")
	input.Close()
	if err := conn.Wait(); err != nil || out.String() != "a\nb\n" {
		t.Errorf("got %q, %v", &out, err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("serve: %v\n%s", err, stderr)
	}
}

func TestMounted_ServeSurvivesClientsThatAreKilled(t *testing.T) {
	mount, _ := daemon(t)
	_, stderr := spawn(t, mount, "serving", "serve", "-v", "--max", "1", "dev/tcp/local/cat", "--", "cat")
	for range 3 {
		conn := exec.Command(binaries(t).convoke, "--mount", mount, "connect", "dev/tcp/local/cat")
		input, err := conn.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		output, err := conn.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Start(); err != nil {
			t.Fatal(err)
		}
		io.WriteString(input, "hello\n")
		if _, err := io.ReadFull(output, make([]byte, 6)); err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
		conn.Process.Kill()
		conn.Wait()
	}
	if got := runClient(t, mount, "still\n", "connect", "dev/tcp/local/cat"); got != (result{0, "still\n", ""}) {
		t.Errorf("got %+v", got)
	}
}

func TestMounted_ServeTellsWhoTheClientIs(t *testing.T) {
	mount, _ := daemon(t)
	spawn(t, mount, "serving", "serve", "-v", "dev/fdp/local/who", "--", "sh", "-c",
		"echo $CONVOKE_PEER_HOST $CONVOKE_PEER_PID $CONVOKE_PEER_UID $CONVOKE_PEER_GID")
	cmd := exec.Command(binaries(t).convoke, "--mount", mount, "connect", "dev/fdp/local/who")
	var out bytes.Buffer
	cmd.Stdout = &out
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1001}}
		open(t, mount)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 1000, 1001
	}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("local %d %d %d\n", cmd.Process.Pid, uid, gid); out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}
}

// open lets other users walk to the mount and to the commands.
func open(t *testing.T, mount string) {
	t.Helper()
	for _, path := range []string{mount, binaries(t).convoke} {
		for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestMounted_StreamGoesOnWhenTheDaemonIsStoppedAndKilled(t *testing.T) {
	for _, path := range []string{"dev/tcp/local/cat", "dev/fdp/local/cat"} {
		mount, process := daemon(t)
		server, stderr := spawn(t, mount, "serving", "serve", "-v", path, "--", "cat")
		conn := exec.Command(binaries(t).convoke, "--mount", mount, "connect", path)
		input, err := conn.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		output, err := conn.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Start(); err != nil {
			t.Fatal(err)
		}
		for _, sig := range []syscall.Signal{0, syscall.SIGSTOP, syscall.SIGKILL} {
			if err := process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf("after %v\n", sig)
			io.WriteString(input, text)
			buf := make([]byte, len(text))
			if _, err := io.ReadFull(output, buf); err != nil || string(buf) != text {
				t.Errorf("%s: got %q, %v, want %q", path, buf, err, text)
			}
		}
		input.Close()
		if rest, err := io.ReadAll(output); err != nil || len(rest) != 0 {
			t.Errorf("%s: got %q, %v", path, rest, err)
		}
		if err := conn.Wait(); err != nil {
			t.Errorf("%s: connect: %v", path, err)
		}
		if err := server.Wait(); server.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "accept "+path+": the daemon") {
			t.Errorf("%s: serve: %v\n%s", path, err, stderr)
		}
	}
}

func TestMounted_UserAndGroupAdmitOnlyTheirs(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root: takes other users' ids")
		}
		t.Skip("needs root: takes other users' ids")
	}
	mount, _ := daemon(t)
	open(t, mount)
	as := func(uid, gid uint32, args ...string) (string, error) {
		cmd := exec.Command(binaries(t).convoke, args...)
		cmd.Env = append(os.Environ(), "CONVOKE_MOUNT="+mount)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, proto := range []string{"tcp", "fdp"} {
		for option, admitted := range map[string][2]uint32{"user=1000": {1000, 7}, "group=1001": {7, 1001}} {
			path := "dev/" + proto + "/local/mine," + option
			spawn(t, mount, "serving", "serve", "-v", path, "--", "sh", "-c", "echo $CONVOKE_PEER_UID $CONVOKE_PEER_GID")
			if out, err := as(admitted[0], admitted[1], "connect", path); err != nil || out != fmt.Sprintf("%d %d\n", admitted[0], admitted[1]) {
				t.Errorf("%s: got %q, %v", path, out, err)
			}
			if out, err := as(1002, 1002, "connect", path); err == nil || !strings.Contains(out, "permission denied") {
				t.Errorf("%s as another: got %q, %v", path, out, err)
			}
			if out, err := as(1002, 1002, "serve", path, "--", "cat"); err == nil || !strings.Contains(out, "permission denied") {
				t.Errorf("%s announced by another: got %q, %v", path, out, err)
			}
		}
	}
}

func TestMounted_AddressInUseIsToldWithAHint(t *testing.T) {
	mount, _ := daemon(t)
	spawn(t, mount, "serving", "serve", "-v", "dev/tcp/local/twice", "--", "cat")
	got := runClient(t, mount, "", "serve", "dev/tcp/local/twice", "--", "cat")
	if got.status != 1 || got.stdout != "" || !strings.Contains(got.stderr, "address already in use\nconvoke: it is announced here already") {
		t.Errorf("got %+v", got)
	}
}

func TestMounted_HungReceiverDoesNotKeepTheSender(t *testing.T) {
	mount, _ := daemon(t)
	receiver, _ := spawn(t, mount, "serving", "recv", "-v", "dev/fdp/local/hung", "--", "true")
	if err := receiver.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	sender := exec.Command(binaries(t).convoke, "--mount", mount, "send", "dev/fdp/local/hung", "0")
	if err := sender.Start(); err != nil {
		t.Fatal(err)
	}
	// It waits for the answer.
	waitFor(t, "the descriptor is passed", func() bool {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", sender.Process.Pid))
		for _, link := range links {
			if to, _ := os.Readlink(link); strings.HasPrefix(to, "socket:") {
				return true
			}
		}
		return false
	})
	begin := time.Now()
	sender.Process.Kill()
	sender.Wait()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v to kill the sender", took)
	}
	got := runClient(t, mount, "", "send", "--wait", "0.1", "dev/fdp/local/hung", "0")
	if got.status != 1 || !strings.Contains(got.stderr, "send to dev/fdp/local/hung: connection timed out") {
		t.Errorf("got %+v", got)
	}
}

// TestMounted_ExamplesOfThePageWork runs the examples of convoke-serve(1) as
// one session.
func TestMounted_ExamplesOfThePageWork(t *testing.T) {
	requireShell(t, "dash")
	requireShell(t, "python3")
	mount, _ := daemon(t)
	page, err := os.ReadFile("../../man/convoke-serve.1")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(page), "\n.Sh EXAMPLES\n")
	examples, _, _ = strings.Cut(examples, "\n.Sh ")
	dir := t.TempDir()
	for name, text := range map[string]string{"hostname": "web1\n", "shadow": "root:x\nme:x\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var script strings.Builder
	for _, m := range regexp.MustCompile(`(?s)\n\.Bd -literal[^\n]*\n(.*?)\.Ed`).FindAllStringSubmatch(examples, -1) {
		script.WriteString(strings.NewReplacer(`\e`, `\`, "/n/", mount+"/", "/etc/", dir+"/", "group=users", "group").Replace(m[1]))
	}
	script.WriteString("until ls " + mount + "/dev/fdp/local | grep -q whoami; do sleep 0.1; done\n" +
		"convoke connect dev/fdp/local/whoami,group | sed 's/pid .*/pid/'\n" +
		"trap '' TERM; kill 0; wait\n")
	cmd := exec.Command("dash", "-c", script.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CONVOKE_MOUNT="+mount, "PATH="+filepath.Dir(binaries(t).convoke)+":"+os.Getenv("PATH"),
		"PYTHONUNBUFFERED=") // else Python writes the end of a line by itself
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	// What recv has started prints when it likes.
	lines := slices.Sorted(strings.Lines(string(out)))
	want := fmt.Sprintf("12\n12\nHELLO\nTrue\nuid %d, pid\nweb1\n", os.Getuid())
	if err != nil || strings.Join(lines, "") != want {
		t.Errorf("got %q, %v, want %q\n%s", out, err, want, &script)
	}
}
