package ipc

import (
	"errors"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// feedScratch is the size of the buffer in which records are put together. That is all that a feed holds of what
	// waits for its client, beside one message: the rest stays in the group's queue.
	feedScratch = 64 << 10
	// feedCopied is the size up to which a payload is copied into that buffer; larger ones are written from where they
	// are.
	feedCopied = 2 << 10
	// feedVectors and feedBurst bound one writev(2).
	feedVectors = 64
	feedBurst   = 192 << 10
	// feedTurns is how often who has brought news writes at most: while he does so more may come, without an end, and he
	// has other things to do.
	feedTurns = 8
)

// Who writes: nobody, somebody, or somebody who is to look once more when he is done.
const (
	feedIdle int32 = iota
	feedBusy
	feedAgain
)

// feedOut is what a feed writes to its client. Whoever has news for the client takes the role of the writer, if nobody
// has it, and writes without waiting: so a record is in the client's socket when the call that made it returns, with no
// other goroutine to be woken in between. When the socket is full, or too much comes at once, a goroutine has the role
// until all is written.
type feedOut struct {
	f     *feed
	role  atomic.Int32
	held  atomic.Bool // it is among those who wait for the end of a batch
	stuck atomic.Bool // a goroutine waits until the client reads

	left  atomic.Bool   // the client has asked for the end
	errno atomic.Uint32 // for the END, if the client has not

	// Of whoever has the role.
	scratch *[]byte  // what vec's small parts lie in; nil when all is written
	used    int      // so much of scratch is in use
	begun   int      // from here on it is not in vec yet
	vec     [][]byte // what is to be written; the first parts are cut as they are
	size    int      // of all that
	record  Record   // the last one
	drained bool     // the membership had no more
	over    bool     // its END is in vec, or was written
	ending  bool     // the membership has ended while the client did not read
	raised  bool     // the socket's buffer has been made larger for the END
	deaf    bool     // the client reads no more
	failure error
	write0  func(fd uintptr)      // is writeOnce
	write1  func(fd uintptr) bool // is writeOnce
	vecs    [feedVectors + 3][]byte
}

var feedScratches = sync.Pool{New: func() any {
	b := make([]byte, feedScratch)
	return &b
}}

func (o *feedOut) init(f *feed) {
	o.f = f
	o.write0, o.write1 = func(fd uintptr) { o.writeOnce(fd) }, o.writeOnce
}

// flush writes what there is, or has whoever writes do so.
func (f *feed) flush() {
	o := &f.out
	for {
		switch o.role.Load() {
		case feedIdle:
			if o.role.CompareAndSwap(feedIdle, feedBusy) {
				o.run(feedTurns)
				return
			}
		case feedBusy:
			if o.role.CompareAndSwap(feedBusy, feedAgain) {
				o.wake()
				return
			}
		default:
			o.wake()
			return
		}
	}
}

// run has the role of the writer until there is nothing left to write. When the socket is full, or after turns writes, it
// gives the role to a goroutine.
func (o *feedOut) run(turns int) {
	for {
		if o.pump(&turns) {
			o.pass()
			return
		}
		if o.role.CompareAndSwap(feedBusy, feedIdle) {
			return
		}
		o.role.Store(feedBusy)
	}
}

// pump writes until there is nothing left. It reports whether it has stopped before: the socket is full, or there are no
// turns left.
func (o *feedOut) pump(turns *int) (stopped bool) {
	for {
		if o.size > 0 {
			if *turns--; *turns < 0 {
				return true
			}
			if o.f.raw.Control(o.write0) != nil {
				o.failure = os.ErrClosed
			}
			if o.failure == unix.EAGAIN {
				return true
			}
			if o.failure != nil {
				o.deaf = true
			}
			o.clear()
		}
		if o.over {
			o.f.end()
			return false
		}
		if o.drained {
			o.drained = false
			return false
		}
		o.gather()
	}
}

// clear forgets what was written, or need not be written.
func (o *feedOut) clear() {
	clear(o.vecs[:])
	o.vec, o.size, o.used, o.begun = o.vecs[:0], 0, 0, 0
	if o.scratch != nil {
		feedScratches.Put(o.scratch)
		o.scratch = nil
	}
}

// gather takes records of the membership, as many as are written at once.
func (o *feedOut) gather() {
	o.vec = o.vecs[:0]
	for len(o.vec) < feedVectors && o.size < feedBurst && feedScratch-o.used >= feedMsgHead+feedCopied+feedAlign {
		err := o.f.m.Next(&o.record)
		if errors.Is(err, unix.EAGAIN) {
			o.drained = true
			break
		}
		if err != nil {
			o.over = true
			o.end(err)
			break
		}
		if o.deaf {
			continue
		}
		o.add()
	}
	o.record = Record{}
	if o.deaf {
		o.clear()
		return
	}
	o.cut()
}

// add adds the record.
func (o *feedOut) add() {
	r := &o.record
	if r.Kind == MessageRecord {
		b := appendMsgHead(o.tail(), r)
		if len(r.Data) <= feedCopied {
			b = append(b, r.Data...)
			o.grow(pad(b, msgSize(r)))
			return
		}
		o.grow(b)
		o.refer(r.Data)
		o.grow(pad(o.tail(), msgSize(r)))
		return
	}
	// These are rare, and can be large.
	o.refer(appendRecord(nil, r))
}

// tail returns the free part of scratch.
func (o *feedOut) tail() []byte {
	if o.scratch == nil {
		o.scratch = feedScratches.Get().(*[]byte)
	}
	return (*o.scratch)[o.used:o.used]
}

// grow takes in what was appended to tail.
func (o *feedOut) grow(b []byte) {
	o.used += len(b)
	o.size += len(b)
}

// cut makes a part of vec of what was added to scratch since the last one.
func (o *feedOut) cut() {
	if o.used > o.begun {
		o.vec = append(o.vec, (*o.scratch)[o.begun:o.used])
		o.begun = o.used
	}
}

// refer adds what is not copied.
func (o *feedOut) refer(b []byte) {
	o.cut()
	o.vec = append(o.vec, b)
	o.size += len(b)
}

// end adds the END: the membership's Next said err.
func (o *feedOut) end(err error) {
	errno := unix.Errno(o.errno.Load())
	switch {
	case o.left.Load():
		errno = 0
	case errno != 0:
	case errors.Is(err, io.EOF):
		errno = unix.EPIPE
	default:
		errno = errnoOf(err)
	}
	if !o.deaf {
		o.grow(appendEnd(o.tail(), errno))
	}
}

// writeOnce writes what fits. It reports whether there is nothing to wait for.
func (o *feedOut) writeOnce(fd uintptr) bool {
	for o.size > 0 {
		var n int
		if len(o.vec) == 1 {
			n, o.failure = unix.Write(int(fd), o.vec[0])
		} else {
			n, o.failure = unix.Writev(int(fd), o.vec)
		}
		switch {
		case o.failure == unix.EINTR:
			continue
		case o.failure == unix.EAGAIN && (o.over || o.ending) && !o.raised:
			// The END shall not wait for a client that does not read.
			o.raised = true
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
			continue
		case o.failure != nil:
			return o.failure != unix.EAGAIN
		}
		o.size -= n
		o.vec = advance(o.vec, n)
	}
	o.failure = nil
	return true
}

// advance takes n bytes, which were written, from vec.
func advance(vec [][]byte, n int) [][]byte {
	for len(vec) > 0 && n >= len(vec[0]) {
		n -= len(vec[0])
		vec[0] = nil
		vec = vec[1:]
	}
	if n > 0 {
		vec[0] = vec[0][n:]
	}
	return vec
}

// pass gives the role to a goroutine.
func (o *feedOut) pass() {
	s := o.f.s
	s.mu.Lock()
	_, there := s.feeds[o.f]
	if there {
		s.running.Add(1)
	}
	s.mu.Unlock()
	if there { // else it has ended, and nobody writes any more
		go o.wait()
	}
}

// wait is that goroutine. It waits until the client reads.
func (o *feedOut) wait() {
	defer o.f.s.running.Done()
	o.stuck.Store(true)
	var until time.Time // since the membership has ended
	for {
		o.f.file.SetWriteDeadline(until)
		if until.IsZero() && o.f.m.Ended() { // behind the line above, which may have undone what wake did
			// What there still is fits in mostly; else the client gets a moment.
			o.ending = true
			until = time.Now().Add(o.f.s.stall)
			continue
		}
		err := o.f.raw.Write(o.write1)
		if errors.Is(err, os.ErrDeadlineExceeded) && (until.IsZero() || time.Now().Before(until)) {
			continue // wake has done that
		}
		if err != nil {
			o.f.end()
			return
		}
		break
	}
	o.stuck.Store(false)
	if o.failure != nil {
		o.deaf = true
	}
	o.clear()
	o.run(math.MaxInt)
}

// wake has a goroutine that waits for the client look at the end of the membership, if there is one.
func (o *feedOut) wake() {
	if o.stuck.Load() && o.f.m.Ended() {
		o.f.file.SetWriteDeadline(time.Unix(1, 0))
	}
}
