package ipc

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestPolled_ErrorAloneStillHasAnErrno(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	// A full FIFO whose last reader goes away tells EPOLLERR and nothing
	// else, as a file of the tree does whose daemon is gone.
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		f := polled{w}
		buf := make([]byte, 64<<10)
		if _, err := f.Write(buf); err != nil {
			t.Errorf("filling: %v", err)
		}
		close(started)
		_, err := f.Write(buf)
		ended <- err
	}()
	<-started
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v, want %v", err, syscall.EPIPE)
	}
}

func TestNameless_OnlyWhatHidesAnErrno(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{&os.PathError{Op: "read", Err: syscall.ENOTCONN}, false},
		{&os.PathError{Op: "read", Err: os.ErrClosed}, false},
		{&os.PathError{Op: "read", Err: os.ErrDeadlineExceeded}, false},
		{&os.PathError{Op: "read", Err: errors.New("not pollable")}, true},
	} {
		if got := nameless(tc.err); got != tc.want {
			t.Errorf("%v: got %v, want %v", tc.err, got, tc.want)
		}
	}
}
