package ipc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/rendezvous"
)

// fifo makes a FIFO in the tree. One that is opened for both directions gives
// back what is written, as an echo service does, and is in Go's poller.
func fifo(t *testing.T, tree *Tree, name string) uint64 {
	t.Helper()
	path := filepath.Join(tree.Dir, name)
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
	return st.Ino
}

func TestStream_BothFormsOfAPathAreTheSame(t *testing.T) {
	tree := layOut(t, nil)
	ino := fifo(t, tree, "dev/tcp/web2/echo,test")
	for _, path := range []string{"dev/tcp/web2/echo,test", "/dev/tcp/web2/echo/test"} {
		s, err := tree.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if s.ID != ino || s.Path.String() != "dev/tcp/web2/echo,test" {
			t.Errorf("%s: got ID %d path %s, want %d", path, s.ID, s.Path, ino)
		}
		if _, err := s.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		if n, err := s.Read(buf); err != nil || string(buf[:n]) != "hello" {
			t.Errorf("got %q, %v", buf[:n], err)
		}
		s.Close()
	}
}

func TestStream_CloseWriteGoesToItsOwnCtl(t *testing.T) {
	tree := layOut(t, nil)
	ino := fifo(t, tree, "dev/tcp/web2/echo")
	ctl := filepath.Join(tree.Dir, fmt.Sprintf("conn/%d/ctl", ino))
	if err := os.MkdirAll(filepath.Dir(ctl), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ctl, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := tree.Open("dev/tcp/web2/echo")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(ctl); err != nil || string(got) != "shutdown\n" {
		t.Errorf("ctl got %q, %v", got, err)
	}
}

func TestStream_CloseEndsAReadThatWaits(t *testing.T) {
	tree := layOut(t, nil)
	fifo(t, tree, "dev/tcp/web2/echo")
	s, err := tree.Open("dev/tcp/web2/echo")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		ended <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want %v", err, os.ErrClosed)
	}
}

func TestStream_ErrorsOfOpen(t *testing.T) {
	tree := layOut(t, map[string]string{"dev/tcp/web2/80/": ""})
	for _, tc := range []struct {
		path string
		kind rendezvous.Kind
		text string
	}{
		{"dev/tcp/web3/80", rendezvous.NotExist, "connect dev/tcp/web3/80: no such host or service"},
		{"dev/tcp/web3", rendezvous.Invalid, ""},
		{"../etc/passwd", rendezvous.NotExist, ""},
		{"dev/tcp/../../etc/passwd", rendezvous.Invalid, ""},
	} {
		_, err := tree.Open(tc.path)
		if err == nil || rendezvous.KindOf(err) != tc.kind || tc.text != "" && err.Error() != tc.text {
			t.Errorf("%s: got %v (%v), want %q (%v)", tc.path, err, rendezvous.KindOf(err), tc.text, tc.kind)
		}
	}
}
