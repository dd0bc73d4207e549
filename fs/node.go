package fs

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/fs/kernel"
)

// A node is what a name leads to. It also implements one of folder, opener, link or socket.
type node interface {
	// stat states type, mode, owner, size and time. It answers from memory.
	stat() stat
}

// stat is what a node says of itself.
type stat struct {
	mode     uint32 // type and permissions
	uid, gid uint32
	size     uint64
	changed  time.Time // zero: the start of the tree

	// For how long the kernel may remember that the name is here, and what this struct says. 0 where either can
	// change.
	nameTTL, statTTL time.Duration
}

// fixed is how long the kernel may remember what never changes.
const fixed = time.Minute

// A folder has names in it.
type folder interface {
	node
	// child returns the node of a name, or false. It must not wait, nor change anything.
	child(name string) (node, bool)
	// list returns the names that uid sees.
	list(uid uint32) []entry
}

// entry is one line of a listing.
type entry struct {
	name string
	mode uint32 // the type bits count
}

// An opener can be opened as a file.
type opener interface {
	node
	// open opens the file for c. mayWait tells beforehand whether that can take longer than a look into memory.
	open(ctx context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno)
	mayWait() bool
}

// A link points elsewhere.
type link interface {
	node
	target() string
}

// base gives a node its mode and owner, fixed for good.
type base struct {
	mode     uint32
	uid, gid uint32
}

func (b base) stat() stat {
	return stat{mode: b.mode, uid: b.uid, gid: b.gid, nameTTL: fixed, statTTL: fixed}
}

// fill writes what st says, and the inode number, into the kernel's struct.
func (st stat) fill(a *fuse.Attr, ino uint64, start time.Time) {
	t := st.changed
	if t.IsZero() {
		t = start
	}
	*a = fuse.Attr{Ino: ino, Size: st.size, Mode: st.mode, Nlink: 1, Owner: fuse.Owner{Uid: st.uid, Gid: st.gid}, Blksize: 4096}
	a.SetTimes(&t, &t, &t)
	if st.mode&syscall.S_IFMT == syscall.S_IFDIR {
		a.Nlink = 2
	}
}
