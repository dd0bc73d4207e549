package fs

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/rendezvous"
)

func TestReason_WhatIsShortIsNoFaultOfTheCaller(t *testing.T) {
	for cause, want := range map[syscall.Errno]syscall.Errno{
		syscall.EMFILE: syscall.EMFILE, syscall.ENFILE: syscall.ENFILE, syscall.ENOMEM: syscall.ENOMEM,
		syscall.EACCES: syscall.EACCES, syscall.ESRCH: syscall.EACCES, syscall.EPERM: syscall.EACCES,
	} {
		looked := &rendezvous.Error{Op: "look up", Path: "pid=1", Kind: rendezvous.KindOf(cause), Err: fmt.Errorf("status: %w", cause)}
		err := &rendezvous.Error{Op: "open", Kind: rendezvous.Permission, Err: &reason{"the caller cannot be identified", looked}}
		if got := errno(err); got != want {
			t.Errorf("%v: got %v, want %v", cause, got, want)
		}
	}
}
