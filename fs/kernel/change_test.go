package kernel

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// changes are the requests that change something, by what the tree is told of them.
var changes = []struct {
	told, answer string
	send         func(h *harness) uint64
}{
	{"mkdir g of 1000 in 5", "144 bytes", func(h *harness) uint64 {
		return send(h, opMkdir, fuse.MkdirIn{InHeader: fuse.InHeader{NodeId: 5}}, 'g', 0)
	}},
	{"rmdir g of 1000 in 5", "", func(h *harness) uint64 { return send(h, opRmdir, fuse.InHeader{NodeId: 5}, 'g', 0) }},
	{"change 1 of 5 by 1000", "120 bytes", func(h *harness) uint64 {
		in := fuse.SetAttrIn{}
		in.NodeId, in.Valid = 5, fuse.FATTR_MODE
		return send(h, opSetAttr, in)
	}},
}

func TestChange_IsToldToTheTreeAndAnswered(t *testing.T) {
	for _, wait := range []bool{false, true} {
		for _, c := range changes {
			h := newHarness(t)
			h.tree.wait = wait
			var told string
			result := syscall.Errno(0)
			h.tree.change = func(_ context.Context, what string) syscall.Errno { told = what; return result }
			a := c.send(h)
			want := fmt.Sprintf("%d 0", a)
			if c.answer != "" {
				var size int
				fmt.Sscanf(c.answer, "%d", &size)
				want = fmt.Sprintf("%d 0 %d bytes", a, size-sizeOutHeader)
			}
			h.want(want)
			if told != c.told {
				t.Errorf("the tree was told %q, want %q", told, c.told)
			}
			result = syscall.EBUSY
			b := c.send(h)
			h.want(fmt.Sprintf("%d 16", b))
		}
	}
}

// While one waits for what others decide, others are served, and a signal ends it.
func TestChange_ASignalEndsOneThatWaits(t *testing.T) {
	for _, c := range changes {
		h := newHarness(t)
		h.tree.wait = true
		started := make(chan bool)
		h.tree.change = func(ctx context.Context, _ string) syscall.Errno {
			close(started)
			<-ctx.Done()
			return context.Cause(ctx).(syscall.Errno)
		}
		other := &reader{s: h.s}
		other.takeBuffers()
		first := h.r
		done := make(chan bool)
		go func() { c.send(h); close(done) }()
		<-started
		a := h.next
		h.r = other
		h.want()
		h.interrupt(a)
		<-done
		h.want(fmt.Sprintf("%d 4", a))
		if !first.aside || first.in != nil || first.out != nil {
			t.Errorf("%s: the reader has kept its buffers while it waited", c.told)
		}
	}
}

func TestChange_AFolderOfWhichTheCallerNeverHeardIsForgotten(t *testing.T) {
	h := newHarness(t)
	forgotten := &forgetTree{fakeTree: h.tree}
	h.s.tree = forgotten
	h.tree.change = func(context.Context, string) syscall.Errno { return 0 }
	changes[0].send(h)
	if len(forgotten.ids) != 0 {
		t.Errorf("forgotten: %v", forgotten.ids)
	}
	h.s.writeTo = func([]byte) syscall.Errno { return syscall.ENOENT }
	changes[0].send(h)
	if fmt.Sprint(forgotten.ids) != "[77 1]" {
		t.Errorf("forgotten: %v, want node 77, once", forgotten.ids)
	}
}

type forgetTree struct {
	*fakeTree
	ids []uint64
}

func (f *forgetTree) Forget(id, n uint64) { f.ids = append(f.ids, id, n) }

func TestChange_ARequestWithoutANameIsNone(t *testing.T) {
	h := newHarness(t)
	for _, name := range [][]byte{nil, {0}, {'g'}} {
		a := send(h, opMkdir, fuse.MkdirIn{}, name...)
		b := send(h, opRmdir, fuse.InHeader{}, name...)
		h.want(fmt.Sprintf("%d 5", a), fmt.Sprintf("%d 5", b))
	}
}

// watched is a pipe that notes who closes its descriptors.
type watched struct {
	*pipe
	by []uint32
}

func (w *watched) Closing(pid uint32) { w.by = append(w.by, pid) }

func TestFlush_AStreamHearsWhoCloses(t *testing.T) {
	h := newHarness(t)
	w := &watched{pipe: &pipe{t: t}}
	e := h.s.NewEndpoint(w)
	fh := h.open(e, syscall.O_RDWR)
	in := fuse.FlushIn{Fh: fh}
	in.Pid = 4242
	a := send(h, opFlush, in)
	in.Pid = 4243
	b := send(h, opFlush, in)
	h.want(fmt.Sprintf("%d 0", a), fmt.Sprintf("%d 0", b))
	if w.closed != 0 {
		t.Error("a flush has closed the stream")
	}
	h.s.files.closeAll() // with the mount
	if fmt.Sprint(w.by) != "[4242 4243 0]" || w.closed != 1 {
		t.Errorf("closed by %v, %d times; want 4242, 4243, nobody, once", w.by, w.closed)
	}
}
