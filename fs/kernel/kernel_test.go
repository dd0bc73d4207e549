package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/fs/quota"
)

// pipe is a Stream in memory: a bounded buffer each way.
type pipe struct {
	mu     sync.Mutex
	in     []byte // guarded by mu: what a read gives
	eof    bool   // guarded by mu
	out    []byte // guarded by mu: what was written
	room   int    // guarded by mu: how much may still be written
	closed int    // guarded by mu: how often Close was called
	half   bool   // guarded by mu: CloseWrite was called
	busy   [2]bool
	t      testing.TB

	written func() // optional: called by Write
}

// once fails the test when the loop breaks its promise never to call one direction twice at a time.
func (p *pipe) once(way int) func() {
	if p.busy[way] || p.closed > 0 {
		p.t.Errorf("direction %d: called while busy %v, closed %d times", way, p.busy[way], p.closed)
	}
	p.busy[way] = true
	return func() { p.busy[way] = false }
}

func (p *pipe) Read(b []byte) (int, syscall.Errno) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.once(0)()
	if len(p.in) == 0 {
		if p.eof {
			return 0, 0
		}
		return 0, syscall.EAGAIN
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, 0
}

func (p *pipe) Write(b []byte) (int, syscall.Errno) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.once(1)()
	n := min(len(b), p.room)
	if n == 0 {
		return 0, syscall.EAGAIN
	}
	p.room -= n
	p.out = append(p.out, b[:n]...)
	if p.written != nil {
		p.written()
	}
	return n, 0
}

func (p *pipe) Poll() (ev uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.in) > 0 || p.eof {
		ev |= PollIn
	}
	if p.room > 0 {
		ev |= PollOut
	}
	return ev
}

func (p *pipe) Arm(*Endpoint) {}

func (p *pipe) CloseWrite() { p.mu.Lock(); p.half = true; p.mu.Unlock() }

func (p *pipe) Close() { p.mu.Lock(); p.closed++; p.mu.Unlock() }

func (p *pipe) set(f func()) { p.mu.Lock(); f(); p.mu.Unlock() }

// fakeTree opens one stream, again and again, under node 2, and nothing else.
type fakeTree struct {
	fuse.RawFileSystem
	open func(ctx context.Context, in *fuse.OpenIn) (Opened, syscall.Errno)
	wait bool

	change func(ctx context.Context, what string) syscall.Errno
}

func (f *fakeTree) MayWait(uint64) bool       { return f.wait }
func (f *fakeTree) ChangeMayWait(uint64) bool { return f.wait }

func (f *fakeTree) MakeDir(ctx context.Context, in *fuse.MkdirIn, name string, out *fuse.EntryOut) syscall.Errno {
	out.NodeId = 77
	return f.change(ctx, fmt.Sprintf("mkdir %s of %d in %d", name, in.Uid, in.NodeId))
}

func (f *fakeTree) RemoveDir(ctx context.Context, in *fuse.InHeader, name string) syscall.Errno {
	return f.change(ctx, fmt.Sprintf("rmdir %s of %d in %d", name, in.Uid, in.NodeId))
}

func (f *fakeTree) Change(ctx context.Context, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return f.change(ctx, fmt.Sprintf("change %x of %d by %d", in.Valid, in.NodeId, in.InHeader.Uid))
}

func (f *fakeTree) OpenFile(ctx context.Context, in *fuse.OpenIn) (Opened, syscall.Errno) {
	return f.open(ctx, in)
}

// harness is a server without a kernel: requests go in by hand, replies are noted.
type harness struct {
	t       testing.TB
	s       *Server
	r       *reader
	tree    *fakeTree
	mu      sync.Mutex
	replies []string // guarded by mu
	next    uint64
}

func newHarness(t testing.TB) *harness {
	s, err := NewServer(-1, Options{Log: slog.New(slog.DiscardHandler), Quota: quota.New(1 << 20)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.sockets.closeSet)
	h := &harness{t: t, s: s, tree: &fakeTree{RawFileSystem: fuse.NewDefaultRawFileSystem()}, next: 100}
	h.tree.open = func(context.Context, *fuse.OpenIn) (Opened, syscall.Errno) { return Opened{}, syscall.ENOENT }
	h.tree.change = func(context.Context, string) syscall.Errno { return syscall.EPERM }
	s.SetTree(h.tree)
	s.writeTo = h.reply
	h.r = &reader{s: s}
	h.r.takeBuffers()
	return h
}

// reply notes a reply as "UNIQUE ERRNO PAYLOAD", a notification as "notify CODE PAYLOAD".
func (h *harness) reply(b []byte) syscall.Errno {
	if int(binary.NativeEndian.Uint32(b)) != len(b) {
		h.t.Errorf("a reply says that it has %d bytes and has %d", binary.NativeEndian.Uint32(b), len(b))
	}
	code, unique := int32(binary.NativeEndian.Uint32(b[4:])), binary.NativeEndian.Uint64(b[8:])
	payload := string(b[16:])
	if len(payload) == 8 {
		payload = fmt.Sprint("#", binary.NativeEndian.Uint64(b[16:]))
	} else if len(payload) > 100 {
		payload = fmt.Sprintf("%d bytes", len(payload))
	}
	text := strings.TrimSpace(fmt.Sprintf("%d %d %s", unique, -code, payload))
	if unique == 0 {
		text = fmt.Sprintf("notify %d %s", code, payload)
	}
	h.mu.Lock()
	h.replies = append(h.replies, text)
	h.mu.Unlock()
	return 0
}

// got returns the replies since the last call.
func (h *harness) got() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.replies
	h.replies = nil
	return r
}

func (h *harness) want(want ...string) {
	h.t.Helper()
	if got := h.got(); !slices.Equal(got, want) {
		h.t.Errorf("replies: got %q, want %q", got, want)
	}
}

// send hands a request to the server as the kernel would and returns its number.
func send[T any](h *harness, op uint32, in T, payload ...byte) uint64 {
	h.next++
	b := append(slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&in)), unsafe.Sizeof(in))), payload...)
	head := as[fuse.InHeader](b)
	head.Opcode, head.Length, head.Unique = op, uint32(len(b)), h.next
	if head.Uid == 0 {
		head.Uid = 1000
	}
	h.give(b)
	return h.next
}

// give lets the server dispatch b from its reader's buffer.
func (h *harness) give(b []byte) {
	if h.r.in == nil || h.r.out == nil {
		h.r.takeBuffers()
	}
	h.s.wakes.begin()
	r := h.r
	h.s.dispatch((*r.in)[:copy(*r.in, b)], r)
	if !r.aside {
		h.s.wakes.help(r.out)
	}
}

// open opens st as a file with flags and returns its fh.
func (h *harness) open(e *Endpoint, flags uint32) uint64 {
	h.tree.open = func(context.Context, *fuse.OpenIn) (Opened, syscall.Errno) {
		if !e.Hold(flags&syscall.O_ACCMODE != syscall.O_RDONLY) {
			h.t.Error("the endpoint is gone")
		}
		return Opened{Endpoint: e}, 0
	}
	send(h, opOpen, fuse.OpenIn{Flags: flags})
	h.got()
	return h.s.files.next - 1
}

func (h *harness) read(fh uint64, size, flags uint32) uint64 {
	return send(h, opRead, fuse.ReadIn{Fh: fh, Size: size, Flags: flags})
}

func (h *harness) write(fh uint64, data string, flags uint32) uint64 {
	return send(h, opWrite, fuse.WriteIn{Fh: fh, Size: uint32(len(data)), Flags: flags}, []byte(data)...)
}

func (h *harness) poll(fh, kh uint64, flags uint32) uint64 {
	return send(h, opPoll, pollIn{Fh: fh, Kh: kh, Flags: flags})
}

func (h *harness) interrupt(unique uint64) uint64 {
	return send(h, opInterrupt, fuse.InterruptIn{Unique: unique})
}

func (h *harness) pipe(room int) (*pipe, *Endpoint) {
	p := &pipe{t: h.t, room: room}
	return p, h.s.NewEndpoint(p)
}

func TestRead_ParkedReadsAreServedInOrder(t *testing.T) {
	h := newHarness(t)
	p, e := h.pipe(0)
	fh := h.open(e, syscall.O_RDWR)
	a, b := h.read(fh, 3, 0), h.read(fh, 100, 0)
	h.want()
	c := h.read(fh, 100, syscall.O_NONBLOCK)
	h.want(fmt.Sprintf("%d 11", c)) // others were first
	p.set(func() { p.in = []byte("onetwo") })
	e.Wake()
	h.want(fmt.Sprintf("%d 0 one", a), fmt.Sprintf("%d 0 two", b))
	if n := h.s.Stats().Parked; n != 0 {
		t.Errorf("%d requests are parked, want none", n)
	}
}

func TestRead_AReplyNeverFillsALargeRequest(t *testing.T) {
	h := newHarness(t)
	p, e := h.pipe(0)
	fh := h.open(e, syscall.O_RDWR)
	p.set(func() { p.in = make([]byte, 3<<20) })
	a := h.read(fh, MaxWrite, 0)
	h.want(fmt.Sprintf("%d 0 %d bytes", a, maxReply))
	if smallest := 255*4096 + 1; maxReply >= smallest {
		t.Errorf("a reply of %d bytes could fill a piece of %d that the kernel has cut a larger read(2) into", maxReply, smallest)
	}
}

func TestWrite_BlocksUntilAllIsWritten(t *testing.T) {
	h := newHarness(t)
	p, e := h.pipe(4)
	fh := h.open(e, syscall.O_RDWR)
	a := h.write(fh, "abcdefgh", 0)
	b := h.write(fh, "IJ", 0)
	c := h.write(fh, "KL", syscall.O_NONBLOCK)
	h.want(fmt.Sprintf("%d 11", c))
	p.set(func() { p.room = 3 })
	e.Wake()
	h.want()
	p.set(func() { p.room = 100 })
	e.Wake()
	h.want(fmt.Sprintf("%d 0 #8", a), fmt.Sprintf("%d 0 #2", b))
	if string(p.out) != "abcdefghIJ" {
		t.Errorf("written: %q", p.out)
	}
}

func TestWrite_ABlockedLargeWriteKeepsItsBuffer(t *testing.T) {
	h := newHarness(t)
	p, e := h.pipe(10)
	fh := h.open(e, syscall.O_RDWR)
	big := strings.Repeat("0123456789", keepBuffer/9)
	a := h.write(fh, big, 0)
	b := h.write(fh, "small", 0)
	h.read(fh, 10, 0) // uses the reader's next buffer
	p.set(func() { p.room = 1 << 30 })
	e.Wake()
	h.want(fmt.Sprintf("%d 0 #%d", a, len(big)), fmt.Sprintf("%d 0 #5", b))
	if string(p.out) != big+"small" {
		t.Error("what was written is not what was sent")
	}
}

func TestInterrupt_EndsJustThatRequest(t *testing.T) {
	h := newHarness(t)
	p, e := h.pipe(4)
	fh := h.open(e, syscall.O_RDWR)
	a, b, c := h.read(fh, 1, 0), h.read(fh, 1, 0), h.read(fh, 1, 0)
	w1, w2 := h.write(fh, "abcdefgh", 0), h.write(fh, "x", 0)
	h.interrupt(b)
	h.want(fmt.Sprintf("%d 4", b))
	h.interrupt(w1)
	h.want(fmt.Sprintf("%d 0 #4", w1)) // what was written counts
	h.interrupt(w2)
	h.want(fmt.Sprintf("%d 4", w2))
	p.set(func() { p.in = []byte("123") })
	e.Wake()
	h.want(fmt.Sprintf("%d 0 1", a), fmt.Sprintf("%d 0 2", c))
	again := h.interrupt(b)
	h.want(fmt.Sprintf("%d 11", again)) // unknown: the kernel asks again, or knows that b is answered
}

func TestInterrupt_CancelsAnOpenThatWaits(t *testing.T) {
	h := newHarness(t)
	h.tree.wait = true
	started := make(chan bool)
	h.tree.open = func(ctx context.Context, _ *fuse.OpenIn) (Opened, syscall.Errno) {
		close(started)
		<-ctx.Done()
		return Opened{}, context.Cause(ctx).(syscall.Errno)
	}
	other := &reader{s: h.s}
	other.takeBuffers()
	first := h.r
	done := make(chan bool)
	go func() { send(h, opOpen, fuse.OpenIn{}); close(done) }()
	<-started
	a := h.next
	h.r = other
	h.want()
	h.interrupt(a)
	<-done
	h.want(fmt.Sprintf("%d 4", a))
	if !first.aside || first.in != nil || first.out != nil {
		t.Error("the reader has kept its buffers while it waited")
	}
}

func TestPoll_EveryEdgeIsToldOnceToWhoAsked(t *testing.T) {
	h := newHarness(t)
	p, e := h.pipe(0)
	fh := h.open(e, syscall.O_RDWR)
	a := h.poll(fh, 77, 0)
	h.want(fmt.Sprintf("%d 0 #0", a))
	e.Wake()
	h.want() // nobody wants to be told
	a = h.poll(fh, 77, pollScheduleNotify)
	b := h.poll(fh, 77, pollScheduleNotify)
	h.want(fmt.Sprintf("%d 0 #0", a), fmt.Sprintf("%d 0 #0", b))
	p.set(func() { p.in = []byte("x") })
	e.Wake()
	h.want("notify 1 #77")
	e.Wake()
	h.want()
	c := h.poll(fh, 77, pollScheduleNotify) // ready, and still to be told of the next edge
	h.want(fmt.Sprintf("%d 0 #%d", c, PollIn))
	e.Wake()
	h.want("notify 1 #77")
}

func TestPoll_AClosedFileIsNotTold(t *testing.T) {
	h := newHarness(t)
	p, e := h.pipe(0)
	a, b := h.open(e, syscall.O_RDWR), h.open(e, syscall.O_RDWR)
	h.poll(a, 77, pollScheduleNotify)
	h.poll(b, 78, pollScheduleNotify)
	send(h, opRelease, fuse.ReleaseIn{Fh: a})
	h.got()
	p.set(func() { p.in = []byte("x") })
	e.Wake()
	h.want("notify 1 #78")
}

func TestHangup_FreesAllThatWait(t *testing.T) {
	h := newHarness(t)
	p, e := h.pipe(0)
	fh := h.open(e, syscall.O_RDWR)
	r, w := h.read(fh, 1, 0), h.write(fh, "x", 0)
	h.poll(fh, 5, pollScheduleNotify)
	h.got()
	e.Hangup()
	h.want(fmt.Sprintf("%d 0", r), fmt.Sprintf("%d 32", w), "notify 1 #5")
	r, w = h.read(fh, 1, 0), h.write(fh, "x", 0)
	q := h.poll(fh, 5, pollScheduleNotify)
	h.want(fmt.Sprintf("%d 0", r), fmt.Sprintf("%d 32", w), fmt.Sprintf("%d 0 #%d", q, PollHangup))
	send(h, opRelease, fuse.ReleaseIn{Fh: fh})
	if p.closed != 1 {
		t.Errorf("the stream was closed %d times, want once", p.closed)
	}
}

func TestRelease_LastWriterHalfClosesLastFileCloses(t *testing.T) {
	h := newHarness(t)
	p, e := h.pipe(10)
	r, w1, w2 := h.open(e, syscall.O_RDONLY), h.open(e, syscall.O_WRONLY), h.open(e, syscall.O_RDWR)
	for _, step := range []struct {
		fh     uint64
		half   bool
		closed int
	}{{w1, false, 0}, {w2, true, 0}, {r, true, 1}} {
		send(h, opRelease, fuse.ReleaseIn{Fh: step.fh})
		if p.half != step.half || p.closed != step.closed {
			t.Errorf("after the release of file %d: half closed %v, closed %d; want %v, %d", step.fh, p.half, p.closed, step.half, step.closed)
		}
	}
	if e.Hold(false) {
		t.Error("an endpoint could be opened after its end")
	}
	h.got()
	h.read(r, 1, 0)
	h.want(fmt.Sprintf("%d 9", h.next))
}

func TestLimits_OneUserAtHisLimitGetsEAGAINOthersWait(t *testing.T) {
	h := newHarness(t)
	for _, l := range []string{"parked 1000 2", "parked-bytes 1001 10"} {
		if err := h.s.opts.Quota.Set(l); err != nil {
			t.Fatal(err)
		}
	}
	_, e := h.pipe(0)
	fh := h.open(e, syscall.O_RDWR)
	h.read(fh, 1, 0)
	h.read(fh, 1, 0)
	h.want()
	third := h.read(fh, 1, 0)
	h.want(fmt.Sprintf("%d 11", third))
	in := fuse.ReadIn{Fh: fh, Size: 1}
	in.Uid = 1001
	send(h, opRead, in)
	h.want()
	big := fuse.WriteIn{Fh: fh, Size: 11}
	big.Uid = 1001
	w := send(h, opWrite, big, make([]byte, 11)...)
	h.want(fmt.Sprintf("%d 11", w))
	e.Hangup()
	h.got()
	for _, r := range []quota.Resource{quota.Parked, quota.ParkedBytes} {
		if n := h.s.opts.Quota.Held(r); n != 0 {
			t.Errorf("%s: %d held after all was answered", r, n)
		}
	}
}
