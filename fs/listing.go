package fs

import (
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// maxListings is how many folders one user may be in the middle of reading.
const maxListings = 64

// dirs holds the listings of folders that are being read: each is a snapshot taken at the first readdir(3), and is gone
// with the last one.
type dirs struct {
	mu   sync.Mutex
	next uint64             // guarded by mu
	open map[uint64]listing // guarded by mu
	held map[uint32]int     // guarded by mu: by uid
}

type listing struct {
	uid     uint32
	entries []entry
}

func newDirs() *dirs {
	return &dirs{next: 1, open: map[uint64]listing{}, held: map[uint32]int{}}
}

// drop forgets a listing; mu is held.
func (d *dirs) drop(fh uint64) {
	l, ok := d.open[fh]
	if !ok {
		return
	}
	delete(d.open, fh)
	if d.held[l.uid]--; d.held[l.uid] == 0 {
		delete(d.held, l.uid)
	}
}

// OpenDir implements fuse.RawFileSystem.
func (t *Tree) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	ino := t.inodes.get(in.NodeId)
	if ino == nil {
		return fuse.Status(syscall.ESTALE)
	}
	if _, ok := ino.node.(folder); !ok {
		return fuse.ENOTDIR
	}
	d := t.dirs
	d.mu.Lock()
	defer d.mu.Unlock()
	out.Fh = d.next
	d.next++
	return fuse.OK
}

// ReadDir implements fuse.RawFileSystem.
func (t *Tree) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	d := t.dirs
	d.mu.Lock()
	l, ok := d.open[in.Fh]
	d.mu.Unlock()
	if !ok || in.Offset == 0 {
		if in.Offset > 0 {
			return fuse.OK // the listing has ended
		}
		ino := t.inodes.get(in.NodeId)
		if ino == nil {
			return fuse.Status(syscall.ESTALE)
		}
		f, ok := ino.node.(folder)
		if !ok {
			return fuse.ENOTDIR
		}
		l = listing{in.Uid, append([]entry{{".", syscall.S_IFDIR}, {"..", syscall.S_IFDIR}}, f.list(in.Uid)...)}
	}
	i := min(in.Offset, uint64(len(l.entries)))
	for ; i < uint64(len(l.entries)); i++ {
		e := l.entries[i]
		if !out.AddDirEntry(fuse.DirEntry{Name: e.name, Mode: e.mode, Off: i + 1}) {
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(in.Fh)
	if i < uint64(len(l.entries)) {
		if l.uid != 0 && d.held[l.uid] >= maxListings {
			return fuse.Status(syscall.EMFILE)
		}
		d.open[in.Fh] = l
		d.held[l.uid]++
	}
	return fuse.OK
}

// ReleaseDir implements fuse.RawFileSystem.
func (t *Tree) ReleaseDir(in *fuse.ReleaseIn) {
	d := t.dirs
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(in.Fh)
}
