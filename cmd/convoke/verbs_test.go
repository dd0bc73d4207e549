package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
