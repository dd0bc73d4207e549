package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"log"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/fs/quota"
)

const (
	// MaxWrite is the largest READ and WRITE that the kernel sends: its limit of 256 pages.
	MaxWrite = 1 << 20

	// maxReply bounds the reply to a READ: two pages less than the largest READ. The kernel cuts a larger read(2) at 256
	// pages, of which the first may begin anywhere, so the smallest piece has one byte more than 255 pages, and none is
	// ever answered in full. Smaller replies would cost more: the kernel pins all pages that a READ could fill.
	maxReply = MaxWrite - 2*4096

	// keepBuffer is the size from which a blocked WRITE keeps the buffer it came in instead of copying it: it is charged
	// for what it has still to write, and that must be most of what it holds.
	keepBuffer = MaxWrite / 2

	// interruptGrace is how long a request goes on after a signal to its caller. What is done in a moment is done, as
	// connect(2) on this host is, which no signal interrupts: a shell gets a SIGCHLD for each of its jobs, and not every
	// shell tries an open again.
	interruptGrace = 20 * time.Millisecond

	maxSpare = 4 // pairs of buffers that are kept when nobody needs them

	inSize  = MaxWrite + 4096
	outSize = maxReply + 4096
)

// Stream flags of an open file: direct, or the page cache would answer; a stream, or a blocked read would hold f_pos
// against a write on the same descriptor; not seekable, or bash would read ahead and seek back; no FLUSH, it means
// nothing here. Parallel writes, since no offset is at stake.
const StreamFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_STREAM | fuse.FOPEN_NONSEEKABLE | fuse.FOPEN_NOFLUSH | fuse.FOPEN_PARALLEL_DIRECT_WRITES

// A Tree is what the loop serves. The methods of RawFileSystem answer from memory, without waiting; their Open,
// Read, Write, Release, Flush, Mkdir, Rmdir and SetAttr are never called.
type Tree interface {
	fuse.RawFileSystem
	// MayWait tells whether OpenFile of that node may wait; only then is it called with a context that ends.
	MayWait(node uint64) bool
	// OpenFile opens a node for the caller in in. ctx ends, with the cause [ErrInterrupted], when the caller is
	// interrupted or killed.
	OpenFile(ctx context.Context, in *fuse.OpenIn) (Opened, syscall.Errno)

	// ChangeMayWait tells whether MakeDir and RemoveDir in that node, and Change of it, may wait; only then are they called
	// with a context that ends, as that of OpenFile does. While one of them waits the kernel holds a lock of the node, and
	// whoever else wants it cannot be interrupted: so it must not wait for long.
	ChangeMayWait(node uint64) bool
	// MakeDir is mkdir(2) in the node of the header, which is told of as by a look-up.
	MakeDir(ctx context.Context, in *fuse.MkdirIn, name string, out *fuse.EntryOut) syscall.Errno
	// RemoveDir is rmdir(2) in the node of the header.
	RemoveDir(ctx context.Context, in *fuse.InHeader, name string) syscall.Errno
	// Change is chmod(2), chown(2), truncate(2) and utimensat(2).
	Change(ctx context.Context, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno
}

// Opened is the result of an open: a stream's endpoint, or a file of another kind.
type Opened struct {
	Endpoint *Endpoint // which OpenFile holds (Endpoint.Hold); the loop drops it at RELEASE
	File     File
	Flags    uint32 // FOPEN_ flags
	Done     func() // optional: called once, when no descriptor has the file open any more
}

// A File is an open file that is no stream. It is also a Reader, a Writer or a Flusher, or several of them.
type File interface {
	// Release is called once, when no descriptor has the file open any more.
	Release()
}

// A Reader answers READ from memory.
type Reader interface {
	ReadAt(p []byte, off int64) (int, syscall.Errno)
}

// A Writer takes each WRITE whole or not at all. It may wait until ctx ends.
type Writer interface {
	Write(ctx context.Context, p []byte, off int64) syscall.Errno
}

// A Flusher hears of each close(2); its result is what close returns.
type Flusher interface {
	Flush(ctx context.Context, in *fuse.FlushIn) syscall.Errno
}

// A CloseWatcher is a Stream that hears of each close(2) of a descriptor of it, which is not the end of the file where the
// descriptor has copies. Its [Opened] must not have FOPEN_NOFLUSH.
type CloseWatcher interface {
	// Closing is called before close(2) returns, with the number of the closing thread; at a process's end also that of a
	// thread of the kernel's own, or 0 where nobody can be named. The last one before the stream's end says who has ended it.
	// It may come twice at a time, and must not wait.
	Closing(pid uint32)
}

// ErrInterrupted is the cause with which the context of a waiting request ends when its caller got a signal.
var ErrInterrupted error = syscall.EINTR

// Options of a Server.
type Options struct {
	Log   *slog.Logger // required
	Quota *quota.Table // required
}

// A Server answers the requests of one mount.
type Server struct {
	fd    int
	conn  *connection // fd, which others can cut off
	tree  Tree
	opts  Options
	proto *fuse.ProtocolServer
	waits *waits
	files *files

	sockets *sockets
	wakes   wakes
	pipes   *pipelines // nil: data is copied

	replies sync.Pool // of reply buffers for wake-ups that have none of their own
	inputs  sync.Pool // of input buffers that parked WRITEs gave back

	writeTo func(b []byte) syscall.Errno // the way to the kernel; a fuzz target puts its own here
	reqs    atomic.Uint64

	readers  sync.WaitGroup
	standing int32        // readers that stay when nothing waits; set once, by Serve
	ready    atomic.Int32 // readers that do not wait: in read(2), or soon again
	another  func()       // starts one more reader
	smu      sync.Mutex
	spare    []buffers // guarded by smu: those that nobody uses now
}

// NewServer returns a server for the kernel's connection fd, as [Mount] made it. The server owns fd. tree may be set
// later by SetTree, but before Serve.
func NewServer(fd int, opts Options) (*Server, error) {
	s := &Server{fd: fd, conn: takeOver(fd), opts: opts, waits: newWaits(), files: newFiles(), pipes: &pipelines{}, another: func() {}}
	s.writeTo = func(b []byte) syscall.Errno { _, e := rawWrite(s.fd, b); return e }
	s.replies.New = func() any { b := make([]byte, outSize); return &b }
	s.inputs.New = func() any { b := make([]byte, inSize); return &b }
	s.wakes.init()
	var err error
	s.sockets, err = newSockets()
	return s, err
}

// SetTree names the tree to serve.
func (s *Server) SetTree(t Tree) {
	s.tree = t
	s.proto = fuse.NewProtocolServer(t, &fuse.MountOptions{
		MaxWrite:             MaxWrite,
		MaxBackground:        64,
		ExtraCapabilities:    fuse.CAP_ATOMIC_O_TRUNC,
		DisabledCapabilities: fuse.CAP_READDIRPLUS | fuse.CAP_NO_OPEN_SUPPORT | fuse.CAP_ALLOW_IDMAP | fuse.CAP_PASSTHROUGH,
		Logger:               log.New(logWriter{s.opts.Log}, "", 0),
	})
}

type logWriter struct{ l *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.l.Debug("go-fuse: " + string(p))
	return len(p), nil
}

// Serve answers requests until the file system is unmounted, and returns once all its goroutines have ended. Requests
// that still wait then are interrupted.
func (s *Server) Serve() error {
	// Two readers, so that one reads on while the other answers an open; one poller for two processors, since two would
	// take turns, and each turn is a cold cache.
	s.standing = int32(max(2, min(4, runtime.NumCPU())))
	var side sync.WaitGroup
	for range max(1, min(4, runtime.NumCPU()/2)) {
		side.Go(func() { s.sockets.poll(s.getReply()) })
	}
	side.Go(func() { s.wakes.serve(s.getReply()) })
	var once sync.Once
	var failed error
	s.another = func() {
		s.ready.Add(1)
		s.readers.Go(func() {
			unmounted, err := s.read()
			if unmounted {
				s.waits.end() // or a reader that waits for something else would never come back to see it
			}
			if err != nil {
				once.Do(func() { failed = err })
			}
		})
	}
	// The first request is INIT, at which go-fuse notes what the kernel can do: before there are others that look at it.
	unmounted, err := (&reader{s: s}).next()
	if err != nil {
		failed = err
	} else if !unmounted {
		for range s.standing {
			s.another()
		}
	}
	s.readers.Wait()
	s.files.closeAll()
	s.sockets.stop()
	s.wakes.stop()
	side.Wait()
	s.sockets.closeSet()
	s.pipes.close()
	return errors.Join(failed, s.conn.close())
}

// reader is what one goroutine that reads /dev/fuse owns.
type reader struct {
	s *Server
	buffers
	aside bool // it has waited, so another may read in its place by now
}

// buffers are a reader's, two megabytes together. It has none while it waits.
type buffers struct {
	in  *[]byte // a request
	out []byte  // a reply
}

// giveAway hands the input buffer to a WRITE that is parked.
func (r *reader) giveAway() *[]byte {
	b := r.in
	r.in = nil
	return b
}

// takeBuffers gives r what it needs to go on.
func (r *reader) takeBuffers() {
	s := r.s
	s.smu.Lock()
	if n := len(s.spare); n > 0 && r.out == nil {
		r.buffers = s.spare[n-1]
		s.spare = s.spare[:n-1]
	}
	s.smu.Unlock()
	if r.in == nil {
		r.in = s.inputs.Get().(*[]byte)
	}
	if r.out == nil {
		r.out = make([]byte, outSize)
	}
}

// leaveBuffers keeps the buffers of a reader that waits or ends for the next one, and a few at the most. A sync.Pool
// would let go of them at each garbage collection, and then all of their two megabytes would be cleared, and so be real,
// again and again.
func (r *reader) leaveBuffers() {
	s := r.s
	s.smu.Lock()
	if len(s.spare) < maxSpare {
		s.spare = append(s.spare, r.buffers)
	}
	s.smu.Unlock()
	r.buffers = buffers{}
}

// read answers requests until the file system is unmounted, or until there are readers enough without this one.
func (s *Server) read() (unmounted bool, err error) {
	r := &reader{s: s}
	for {
		if unmounted, err := r.next(); unmounted || err != nil {
			return true, err
		}
		if r.aside {
			r.aside = false
			if s.ready.Add(1) > s.standing {
				s.ready.Add(-1)
				return false, nil
			}
		}
	}
}

// next answers one request.
func (r *reader) next() (unmounted bool, err error) {
	s := r.s
	if r.in == nil || r.out == nil {
		r.takeBuffers()
	}
	n, err := syscall.Read(s.fd, *r.in)
	switch err {
	case nil:
		if n == 0 {
			return true, nil // cut off
		}
		s.wakes.begin()
		s.dispatch((*r.in)[:n], r)
		if !r.aside {
			s.wakes.help(r.out)
		}
	case syscall.ENOENT, syscall.EINTR, syscall.EAGAIN:
		// ENOENT: the request was taken back while it was handed over.
	case syscall.ENODEV, syscall.ECONNABORTED: // unmounted, or first cut off since something still had it open
		return true, nil
	case syscall.ENOMEM:
		time.Sleep(10 * time.Millisecond) // the request waits in the kernel
	default:
		return true, err
	}
	return false, nil
}

// dispatch answers one request, or sees to it that it will be answered.
func (s *Server) dispatch(b []byte, r *reader) {
	if len(b) < sizeInHeader {
		return // not even a number to answer to
	}
	h := as[fuse.InHeader](b)
	if int(h.Length) != len(b) {
		s.replyError(h.Unique, syscall.EIO)
		return
	}
	s.reqs.Add(1)
	need := sizeInHeader
	switch h.Opcode {
	case opRead:
		need = sizeReadIn
	case opWrite:
		need = sizeWriteIn
	case opPoll:
		need = sizePollIn
	case opInterrupt:
		need = sizeInterrupt
	case opOpen:
		need = sizeOpenIn
	case opRelease:
		need = sizeReleaseIn
	case opFlush:
		need = sizeFlushIn
	case opSetAttr:
		need = sizeSetAttrIn
	case opMkdir:
		need = sizeMkdirIn
	}
	if len(b) < need {
		s.replyError(h.Unique, syscall.EIO)
		return
	}
	switch h.Opcode {
	case opRead:
		s.doRead(as[fuse.ReadIn](b), r)
	case opWrite:
		s.doWrite(as[fuse.WriteIn](b), b[sizeWriteIn:], r)
	case opPoll:
		s.doPoll(as[pollIn](b))
	case opInterrupt:
		if !s.waits.interrupt(as[fuse.InterruptIn](b).Unique) {
			// Another reader may hold the request and be about to wait with it: the kernel asks again until the
			// request is answered (Documentation/filesystems/fuse/fuse.rst, Interrupting filesystem operations).
			s.replyError(h.Unique, syscall.EAGAIN)
		}
	case opOpen:
		s.doOpen(as[fuse.OpenIn](b), r)
	case opRelease:
		in := as[fuse.ReleaseIn](b)
		s.files.release(in.Fh)
		s.replyError(h.Unique, 0)
	case opFlush:
		s.doFlush(as[fuse.FlushIn](b), r)
	case opSetAttr:
		s.doSetAttr(as[fuse.SetAttrIn](b), r)
	case opMkdir:
		s.doMkdir(as[fuse.MkdirIn](b), b[sizeMkdirIn:], r)
	case opRmdir:
		s.doRmdir(h, b[sizeInHeader:], r)
	default:
		s.doOther(b, h, r)
	}
}

// doOther leaves a request to go-fuse, which asks the tree.
func (s *Server) doOther(b []byte, h *fuse.InHeader, r *reader) {
	if h.Opcode == opReadDir && len(b) >= sizeReadIn {
		in := as[fuse.ReadIn](b)
		in.Size = min(in.Size, maxReply) // getdents(2) with a larger buffer asks for as much
	}
	n, status := s.proto.HandleRequest([][]byte{b}, [][]byte{r.out})
	switch {
	case h.Opcode == opForget || h.Opcode == opBatchForget:
	case status != fuse.OK:
		s.replyError(h.Unique, syscall.Errno(status))
	case n > 0:
		if s.writeTo(r.out[:n]) != 0 && n >= sizeOutHeader+8 && (h.Opcode == opLookup || h.Opcode == opMknod) {
			// The caller was killed and the kernel has not counted this entry, so neither may the tree.
			s.tree.Forget(binary.NativeEndian.Uint64(r.out[sizeOutHeader:]), 1)
		}
	}
}

// aside runs f, which may wait, with a context that INTERRUPT cancels. It does so on the reader's own goroutine, since
// handing over to another costs a switch of threads for each open; before, it sees to it that somebody goes on reading.
// f must not use the reader's buffers.
func (s *Server) aside(r *reader, unique uint64, f func(ctx context.Context)) {
	r.aside = true
	s.wakes.leave()
	r.leaveBuffers()
	if s.ready.Add(-1) == 0 {
		s.another()
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	s.waits.add(unique, func() { time.AfterFunc(interruptGrace, func() { cancel(ErrInterrupted) }) })
	f(ctx)
	s.waits.remove(unique)
	cancel(nil)
}

func (s *Server) doOpen(in *fuse.OpenIn, r *reader) {
	req := *in
	if !s.tree.MayWait(req.NodeId) {
		s.finishOpen(context.Background(), &req)
		return
	}
	s.aside(r, req.Unique, func(ctx context.Context) { s.finishOpen(ctx, &req) })
}

func (s *Server) finishOpen(ctx context.Context, in *fuse.OpenIn) {
	o, errno := s.tree.OpenFile(ctx, in)
	if errno != 0 {
		s.replyError(in.Unique, errno)
		return
	}
	fh := s.files.add(o, in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY)
	if s.replyOpen(in.Unique, fh, o.Flags) != 0 {
		s.files.release(fh) // nobody got the file
	}
}

func (s *Server) doRead(in *fuse.ReadIn, r *reader) {
	f := s.files.get(in.Fh)
	switch {
	case f == nil:
		s.replyError(in.Unique, syscall.EBADF)
	case f.Endpoint != nil:
		f.Endpoint.read(in, r)
	default:
		rd, ok := f.File.(Reader)
		if !ok {
			s.replyError(in.Unique, syscall.EINVAL)
			return
		}
		size := min(int(in.Size), maxReply)
		n, errno := rd.ReadAt(r.out[sizeOutHeader:sizeOutHeader+size], int64(in.Offset))
		s.replyData(r.out, in.Unique, errno, n)
	}
}

func (s *Server) doWrite(in *fuse.WriteIn, data []byte, r *reader) {
	if uint64(in.Size) != uint64(len(data)) {
		s.replyError(in.Unique, syscall.EIO)
		return
	}
	f := s.files.get(in.Fh)
	switch {
	case f == nil:
		s.replyError(in.Unique, syscall.EBADF)
	case f.Endpoint != nil:
		f.Endpoint.write(in, data, r)
	default:
		w, ok := f.File.(Writer)
		if !ok {
			s.replyError(in.Unique, syscall.EINVAL)
			return
		}
		unique, off := in.Unique, int64(in.Offset)
		text := append([]byte(nil), data...)
		s.aside(r, unique, func(ctx context.Context) {
			s.replyWrite(unique, w.Write(ctx, text, off), len(text))
		})
	}
}

func (s *Server) doPoll(in *pollIn) {
	f := s.files.get(in.Fh)
	switch {
	case f == nil:
		s.replyError(in.Unique, syscall.EBADF)
	case f.Endpoint != nil:
		f.kh.Store(in.Kh)
		f.Endpoint.poll(in)
	default:
		s.replyPoll(in.Unique, PollIn|PollOut) // never waits, as a regular file
	}
}

func (s *Server) doFlush(in *fuse.FlushIn, r *reader) {
	f := s.files.get(in.Fh)
	if f != nil {
		f.closing(in.Pid)
		if fl, ok := f.File.(Flusher); ok {
			req := *in
			s.aside(r, req.Unique, func(ctx context.Context) {
				s.replyError(req.Unique, fl.Flush(ctx, &req))
			})
			return
		}
	}
	s.replyError(in.Unique, 0)
}

// Stats are counts for the metrics file.
type Stats struct {
	Requests uint64 // since the start
	Parked   int    // now
	Files    int    // open now
}

// Stats returns the present counts.
func (s *Server) Stats() Stats {
	return Stats{s.reqs.Load(), s.waits.count(), s.files.count()}
}

func (s *Server) getReply() []byte  { return *s.replies.Get().(*[]byte) }
func (s *Server) putReply(b []byte) { s.replies.Put(&b) }
