package fs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A maker is a folder in which others can be made and removed.
type maker interface {
	folder
	path() string // for the log
	// makeDir makes a folder for c, removeDir removes one. Both may wait until ctx ends.
	makeDir(ctx context.Context, c caller, name string) (node, error)
	removeDir(ctx context.Context, c caller, name string) error
}

// owned is a node whose owner and mode can be changed, by its owner and by root.
type owned interface {
	node
	// chattr may wait, until ctx ends, if the node is ordered.
	chattr(ctx context.Context, c caller, in *fuse.SetAttrIn) syscall.Errno
}

// ordered is a node whose changes have a place in the cluster's order, for which they wait.
type ordered interface{ ordered() }

// ChangeMayWait implements kernel.Tree.
func (t *Tree) ChangeMayWait(id uint64) bool {
	ino := t.inodes.get(id)
	if ino == nil {
		return false
	}
	_, ok := ino.node.(ordered)
	return ok
}

// MakeDir implements kernel.Tree.
func (t *Tree) MakeDir(ctx context.Context, in *fuse.MkdirIn, name string, out *fuse.EntryOut) syscall.Errno {
	parent := t.inodes.get(in.NodeId)
	if parent == nil {
		return syscall.ESTALE
	}
	d, ok := parent.node.(maker)
	if !ok {
		return syscall.EPERM
	}
	c := callerOf(&in.InHeader)
	n, err := d.makeDir(ctx, c, name)
	if err != nil {
		t.log.refused(c, "mkdir "+d.path()+"/"+name, err)
		return errno(err)
	}
	t.entry(t.inodes.lookup(parent, name, n, c, false, isPassing(n)), out)
	return 0
}

// RemoveDir implements kernel.Tree.
func (t *Tree) RemoveDir(ctx context.Context, in *fuse.InHeader, name string) syscall.Errno {
	parent := t.inodes.get(in.NodeId)
	if parent == nil {
		return syscall.ESTALE
	}
	d, ok := parent.node.(maker)
	if !ok {
		return syscall.EPERM
	}
	c := callerOf(in)
	if err := d.removeDir(ctx, c, name); err != nil {
		t.log.refused(c, "rmdir "+d.path()+"/"+name, err)
		return errno(err)
	}
	t.inodes.unlink(parent, name)
	return 0
}

// Change implements kernel.Tree. Truncation means nothing, since `>` asks for it; owner and mode of a socket, of an announced
// service and of a group belong to its owner and to root; everything else stays as it is.
func (t *Tree) Change(ctx context.Context, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	ino := t.inodes.get(in.NodeId)
	if ino == nil {
		return syscall.ESTALE
	}
	const ids = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID
	const times = fuse.FATTR_ATIME | fuse.FATTR_MTIME | fuse.FATTR_ATIME_NOW | fuse.FATTR_MTIME_NOW | fuse.FATTR_CTIME
	if in.Valid&(ids|times) != 0 && in.Valid&fuse.FATTR_SIZE == 0 {
		n, ok := ino.node.(owned)
		if !ok {
			return syscall.EPERM
		}
		if e := n.chattr(ctx, callerOf(&in.InHeader), in); e != 0 {
			return e
		}
	}
	t.attrOut(ino, out)
	return 0
}
