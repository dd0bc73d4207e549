package fs

import (
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// dirs holds the listings of open folders: each is a snapshot taken at opendir(3).
type dirs struct {
	mu   sync.Mutex
	next uint64             // guarded by mu
	open map[uint64][]entry // guarded by mu
}

func newDirs() *dirs { return &dirs{next: 1, open: map[uint64][]entry{}} }

// OpenDir implements fuse.RawFileSystem.
func (t *Tree) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	ino := t.inodes.get(in.NodeId)
	if ino == nil {
		return fuse.Status(syscall.ESTALE)
	}
	f, ok := ino.node.(folder)
	if !ok {
		return fuse.ENOTDIR
	}
	es := append([]entry{{".", syscall.S_IFDIR}, {"..", syscall.S_IFDIR}}, f.list(in.Uid)...)
	d := t.dirs
	d.mu.Lock()
	defer d.mu.Unlock()
	out.Fh = d.next
	d.next++
	d.open[out.Fh] = es
	return fuse.OK
}

// ReadDir implements fuse.RawFileSystem.
func (t *Tree) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	d := t.dirs
	d.mu.Lock()
	es, ok := d.open[in.Fh]
	d.mu.Unlock()
	if !ok {
		return fuse.EBADF
	}
	for i := min(in.Offset, uint64(len(es))); i < uint64(len(es)); i++ {
		if !out.AddDirEntry(fuse.DirEntry{Name: es[i].name, Mode: es[i].mode, Off: i + 1}) {
			break
		}
	}
	return fuse.OK
}

// ReleaseDir implements fuse.RawFileSystem.
func (t *Tree) ReleaseDir(in *fuse.ReleaseIn) {
	d := t.dirs
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, in.Fh)
}
