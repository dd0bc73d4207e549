package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/ipc"
)

func TestJoin_CountsWhoAnswered(t *testing.T) {
	tree := twoMembers(t)
	got := convoke(t, tree, "", "join", "10.0.0.1", "[::1]:7946")
	if got.status != 0 || got.stdout != "2 of 2 answered\n" || got.stderr != "" {
		t.Errorf("got %+v", got)
	}
	if ctl, _ := os.ReadFile(filepath.Join(tree, "cluster/ctl")); !strings.Contains(string(ctl), "join [::1]:7946\n") {
		t.Errorf("ctl got %q", ctl)
	}
}

func TestJoin_NobodyIsAFailureWithAHint(t *testing.T) {
	got := convoke(t, t.TempDir(), "", "join", "a", "b")
	want := "convoke: join a: no such file or directory\nconvoke: join b: no such file or directory\n" +
		"convoke: join: nobody has answered; convoke log may say more\n"
	if got.status != 1 || got.stdout != "" || got.stderr != want {
		t.Errorf("got %+v, want %q", got, want)
	}
}

func TestOwnFault_TellsTheHostsFromThisDaemons(t *testing.T) {
	for errno, want := range map[error]bool{
		syscall.EACCES: true, syscall.ENOKEY: true, syscall.ENOTCONN: true, syscall.EHOSTUNREACH: false, syscall.EEXIST: false,
	} {
		if got := ownFault(fmt.Errorf("join: %w", errno)); got != want {
			t.Errorf("%v: got %v, want %v", errno, got, want)
		}
	}
}

func TestLeave_IsALineOfCtl(t *testing.T) {
	tree := twoMembers(t)
	if got := convoke(t, tree, "", "leave"); got != (result{}) {
		t.Errorf("got %+v", got)
	}
	if ctl, _ := os.ReadFile(filepath.Join(tree, "cluster/ctl")); string(ctl) != "leave\n" {
		t.Errorf("ctl got %q", ctl)
	}
}

// checkKey tells whether text is a key file.
func checkKey(t *testing.T, text string) {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(text, "\n"))
	if err != nil || len(raw) != 32 || !strings.HasSuffix(text, "\n") {
		t.Errorf("%q is no key of 32 bytes on a line: %v", text, err)
	}
}

func TestKeygen_EachIsAnother(t *testing.T) {
	a, b := convoke(t, "", "", "keygen"), convoke(t, "", "", "keygen")
	checkKey(t, a.stdout)
	if a.stdout == b.stdout || a.stderr != "" {
		t.Errorf("got %+v and %+v", a, b)
	}
}

func TestKeygen_FileIsItsOwnersOnlyAndNeverReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if got := convoke(t, "", "", "keygen", path); got != (result{}) {
		t.Fatalf("got %+v", got)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	checkKey(t, string(text))
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	if got := convoke(t, "", "", "keygen", path); got.status != 1 || !strings.Contains(got.stderr, "file exists") {
		t.Errorf("again: got %+v", got)
	}
	if now, _ := os.ReadFile(path); string(now) != string(text) {
		t.Error("the key was replaced")
	}
}

func TestKeygen_WarnsOfAFileThatOthersCanRead(t *testing.T) {
	for mode, warns := range map[os.FileMode]bool{0o644: true, 0o600: false} {
		f, err := os.OpenFile(filepath.Join(t.TempDir(), "key"), os.O_CREATE|os.O_RDWR, mode)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var stderr strings.Builder
		if status := run(&call{stdout: f, stderr: &stderr}, []string{"keygen"}); status != 0 {
			t.Errorf("exit status %d", status)
		}
		if got := strings.Contains(stderr.String(), "chmod 600"); got != warns {
			t.Errorf("mode %v: warned %v, want %v", mode, got, warns)
		}
	}
}

// echo makes a tree in which dev/tcp/web2/echo gives back what is written, and
// conn/ID/ctl takes commands: a FIFO opened for both directions. It returns
// the path of the ctl file.
func echo(t *testing.T, tree string) (ctl string) {
	t.Helper()
	path := filepath.Join(tree, "dev/tcp/web2/echo")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	ctl = filepath.Join(tree, fmt.Sprintf("conn/%d/ctl", st.Ino))
	if err := os.MkdirAll(filepath.Dir(ctl), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ctl, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return ctl
}

func TestConnect_CloseEndsWithTheInput(t *testing.T) {
	tree := t.TempDir()
	ctl := echo(t, tree)
	// The end of the input is given only when the answer has been read.
	input, typed := io.Pipe()
	answer, shown := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		c := &call{stdin: input, stdout: shown, stderr: io.Discard,
			locate: func(string) (*ipc.Tree, error) { return &ipc.Tree{Dir: tree}, nil }}
		ended <- run(c, []string{"connect", "--close", "/dev/tcp/web2/echo"})
	}()
	if _, err := typed.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(answer, buf); err != nil || string(buf) != "hello\n" {
		t.Errorf("got %q, %v", buf, err)
	}
	typed.Close()
	if status := <-ended; status != 0 {
		t.Errorf("exit status %d", status)
	}
	if got, _ := os.ReadFile(ctl); len(got) != 0 {
		t.Errorf("ctl got %q, want nothing", got)
	}
}

func TestSend_EndOfInputShutsDownTheWrittenSide(t *testing.T) {
	tree := t.TempDir()
	ctl := echo(t, tree)
	s, err := (&ipc.Tree{Dir: tree}).Open("dev/tcp/web2/echo")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := send(s, strings.NewReader("hello"), false); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(ctl); string(got) != "shutdown\n" {
		t.Errorf("ctl got %q, want shutdown", got)
	}
	buf := make([]byte, 10)
	if n, err := s.Read(buf); err != nil || string(buf[:n]) != "hello" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

func TestConnect_SaysWhyNot(t *testing.T) {
	got := convoke(t, t.TempDir(), "", "connect", "dev/tcp/db/5432")
	if want := "convoke: connect dev/tcp/db/5432: no such host or service\n"; got.status != 1 || got.stderr != want {
		t.Errorf("got %+v, want %q", got, want)
	}
}
