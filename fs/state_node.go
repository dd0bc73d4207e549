package fs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/fs/kernel"
)

var _ opener = (*stateNode)(nil)

// stateNode is a file that shows what is, as text. Each open takes one snapshot. Its size is 0, as in /proc: with
// direct I/O readers go on until there is no more.
type stateNode struct {
	base
	text func() string
}

func newState(mode uint32, uid, gid uint32, text func() string) *stateNode {
	return &stateNode{base{syscall.S_IFREG | mode, uid, gid}, text}
}

func (n *stateNode) mayWait() bool { return false }

func (n *stateNode) open(_ context.Context, _ caller, flags uint32) (kernel.Opened, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return kernel.Opened{}, syscall.EACCES // root is let through by the kernel
	}
	return kernel.Opened{File: snapshot(n.text()), Flags: fuse.FOPEN_DIRECT_IO}, 0
}

// snapshot is the text of an open state file.
type snapshot string

var _ kernel.Reader = snapshot("")

func (s snapshot) ReadAt(p []byte, off int64) (int, syscall.Errno) {
	if off < 0 || off >= int64(len(s)) {
		return 0, 0
	}
	return copy(p, s[off:]), 0
}

func (s snapshot) Release() {}
