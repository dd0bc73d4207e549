package ipc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/rendezvous"
)

// layOut makes a folder with the files of a tree: names below it, and what
// they hold. A name that ends in "@" becomes a link.
func layOut(t *testing.T, files map[string]string) *Tree {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		link, isLink := strings.CutSuffix(name, "@")
		path := filepath.Join(dir, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if isLink {
			err = os.Symlink(text, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return &Tree{Dir: dir}
}

// member adds the files of one member to files.
func member(files map[string]string, name, id, state, tags string) map[string]string {
	dir := "cluster/members/" + name + "/"
	for file, text := range map[string]string{
		"id": id + "\n", "addr": "127.0.0." + id + ":7946\n", "state": state + "\n",
		"role": "in\n", "boot": "3\n", "version": "0.1\n", "tags": tags,
	} {
		files[dir+file] = text
	}
	return files
}

func TestCtl_WritesOneLine(t *testing.T) {
	tree := layOut(t, map[string]string{"cluster/ctl": ""})
	if err := tree.Ctl("join 127.0.0.2:7946"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(tree.path("cluster/ctl"))
	if err != nil || string(got) != "join 127.0.0.2:7946\n" {
		t.Errorf("ctl got %q, %v", got, err)
	}
}

func TestCtl_LineThatWouldBeTwoIsRefused(t *testing.T) {
	tree := layOut(t, map[string]string{"cluster/ctl": ""})
	for _, line := range []string{"", "join a\nleave", "join a\x00"} {
		err := tree.Ctl(line)
		if !errors.Is(err, syscall.EINVAL) || rendezvous.KindOf(err) != rendezvous.Invalid {
			t.Errorf("Ctl(%q): got %v, want EINVAL", line, err)
		}
	}
	if got, _ := os.ReadFile(tree.path("cluster/ctl")); len(got) != 0 {
		t.Errorf("ctl got %q, want nothing", got)
	}
}

func TestCtl_ErrorNamesVerbAndArgument(t *testing.T) {
	tree := layOut(t, nil)
	err := tree.Ctl("join web2")
	if want := "join web2: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestSelf_IsTheLinksLastElement(t *testing.T) {
	tree := layOut(t, map[string]string{"cluster/self@": "members/web1"})
	if self, err := tree.Self(); err != nil || self != "web1" {
		t.Errorf("got %q, %v", self, err)
	}
}

func TestExplain_OnlyWhereTheErrnoSaysTooLittle(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("x"), ""},
		{failed("connect", "dev/tcp/a/1", syscall.ECONNREFUSED), ""},
		{failed("read", "conn", syscall.ENOTCONN), "the daemon of this mount is gone"},
		{failed("join", "a", syscall.ENOKEY), "--key-file"},
	} {
		got := Explain(tc.err)
		if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
			t.Errorf("Explain(%v): got %q, want %q in it", tc.err, got, tc.want)
		}
	}
}
