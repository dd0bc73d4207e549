package ipc

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
)

func TestNameless_OnlyWhatHidesAnErrno(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{io.EOF, false},
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
