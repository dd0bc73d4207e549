package kernel

import (
	"sync"
	"sync/atomic"
)

// file is one open file: what the kernel knows by a number, fh.
type file struct {
	Opened
	writer bool          // opened for writing
	kh     atomic.Uint64 // the kernel's handle, if it has ever been polled
}

// files is the table of open files. Numbers are never used twice, so a late request finds nothing rather than
// something else.
type files struct {
	mu   sync.RWMutex
	next uint64           // guarded by mu
	open map[uint64]*file // guarded by mu
}

func newFiles() *files { return &files{next: 1, open: map[uint64]*file{}} }

func (t *files) add(o Opened, writer bool) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	fh := t.next
	t.next++
	t.open[fh] = &file{Opened: o, writer: writer}
	return fh
}

func (t *files) get(fh uint64) *file {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.open[fh]
}

func (t *files) release(fh uint64) {
	t.mu.Lock()
	f := t.open[fh]
	delete(t.open, fh)
	t.mu.Unlock()
	f.close()
}

// closing tells the stream of a close(2) by the thread pid.
func (f *file) closing(pid uint32) {
	if f.Endpoint != nil {
		if w, ok := f.Endpoint.stream.(CloseWatcher); ok {
			w.Closing(pid)
		}
	}
}

func (f *file) close() {
	if f == nil {
		return
	}
	if f.Endpoint != nil {
		f.Endpoint.forget(f.kh.Load())
		f.Endpoint.Drop(f.writer)
	}
	if f.File != nil {
		f.File.Release()
	}
	if f.Done != nil {
		f.Done()
	}
}

func (t *files) count() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.open)
}

// closeAll ends all open files; the mount they belong to is gone.
func (t *files) closeAll() {
	t.mu.Lock()
	open := t.open
	t.open = map[uint64]*file{}
	t.mu.Unlock()
	for _, f := range open {
		f.closing(0)
		f.close()
	}
}
