package ipc

import (
	"errors"
	"os"
	"syscall"

	"github.com/convoke-fs/convoke/rendezvous"
)

// failed returns err as the house's error: op and path say what was tried, and
// the errno stays within reach of errors.Is. It returns nil for nil.
func failed(op, path string, err error) error {
	if err == nil {
		return nil
	}
	err = bare(err)
	return &rendezvous.Error{Op: op, Path: path, Kind: rendezvous.KindOf(err), Err: err}
}

// bare takes off what package os puts around an errno, its own operation and
// the whole path: the house's error says both.
func bare(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// worded is an error whose own text says too little.
type worded struct {
	text string
	err  error
}

func (w worded) Error() string { return w.text }

func (w worded) Unwrap() error { return w.err }

// Explain returns a sentence about what err means for somebody who uses the
// tree and what to do, or "" when err's text says it all.
func Explain(err error) string {
	var errno syscall.Errno
	var told worded
	if !errors.As(err, &errno) || errors.As(err, &told) {
		return ""
	}
	switch errno {
	case syscall.ENOTCONN, syscall.ECONNABORTED:
		return "the daemon of this mount is gone; start convoked again, or unmount it (umount, fusermount3 -u)"
	case syscall.ENOKEY:
		return "convoked has no key, so it listens on no port; give it --key-file"
	case syscall.ESTALE:
		return "the file went away while it was opened; try again"
	}
	return ""
}
