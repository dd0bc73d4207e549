package ipc

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// groupGather is how much is gathered at most, and groupDelay how long at most.
	groupGather = 64 << 10
	groupDelay  = time.Millisecond
	// groupDirect is the size from which on a message is written from where the caller has it.
	groupDirect = 32 << 10
)

// groupOut is what a client sends by its membership. Whoever has something to write takes the role of the writer and
// writes without waiting. Where the socket is full a goroutine takes the role over until all is written; it ends with the
// stream at the latest.
type groupOut struct {
	file *os.File
	raw  syscall.RawConn

	mu      sync.Mutex
	buf     []byte        // guarded by mu; records to be written, the first perhaps cut
	spare   []byte        // guarded by mu; memory for buf
	gained  int           // guarded by mu; messages in buf
	flying  int           // guarded by mu; own messages that were written, or begun, and have not come back
	writing bool          // guarded by mu; somebody has the role of the writer
	due     bool          // guarded by mu; buf is to be written as soon as the writer is done
	left    bool          // guarded by mu; nothing may follow what is in buf
	ended   error         // guarded by mu; why nothing can be sent any more
	changed chan struct{} // guarded by mu; closed when the writer is done, if somebody waits for that
	timer   *time.Timer   // guarded by mu; of the oldest message in buf, or an older one
	armed   bool          // guarded by mu; the timer runs

	// Of the writer.
	vec     [][]byte
	vecs    [3][]byte
	failure error
	write0  func(fd uintptr)      // is writeOnce
	write1  func(fd uintptr) bool // is writeOnce
}

func (o *groupOut) init(f *os.File, raw syscall.RawConn) {
	o.file, o.raw = f, raw
	o.write0, o.write1 = func(fd uintptr) { o.writeOnce(fd) }, o.writeOnce
}

// end makes err the end of all sending, if it has not ended.
func (o *groupOut) end(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended == nil {
		o.ended = err
	}
	o.buf, o.gained = nil, 0
	if o.timer != nil {
		o.timer.Stop()
	}
	o.tell()
}

// tell wakes those who wait for the writer. It is called with mu held.
func (o *groupOut) tell() {
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}

// await waits for the writer, or the end of ctx. It is called with mu held, and releases it meanwhile.
func (o *groupOut) await(ctx context.Context) error {
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	changed := o.changed
	o.mu.Unlock()
	defer o.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return errContext
	}
}

// why says why nothing can be sent, if so. It is called with mu held.
func (o *groupOut) why() error {
	if o.ended == nil && o.left {
		return worded{"this process has left the group", unix.EPIPE}
	}
	return o.ended
}

// send sends one message.
func (o *groupOut) send(ctx context.Context, data []byte) error {
	if len(data) > MaxMessage {
		return unix.EMSGSIZE
	}
	if len(data) >= groupDirect {
		return o.sendLarge(ctx, data)
	}
	size := padded(feedHeader + len(data))
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if err := o.why(); err != nil {
			return err
		}
		if len(o.buf)+size <= groupGather {
			break
		}
		if !o.writing {
			o.write()
			continue
		}
		o.due = true
		if err := o.await(ctx); err != nil {
			return err
		}
	}
	o.buf = appendMessage(o.buf, data)
	o.gained++
	switch {
	case o.writing:
		if o.flying == 0 {
			o.due = true
		}
		o.arm()
	case o.flying == 0:
		o.write()
		return o.ended
	default:
		o.arm()
	}
	return nil
}

// arm has what is gathered written in time. It is called with mu held.
func (o *groupOut) arm() {
	if o.armed {
		return
	}
	o.armed = true
	if o.timer == nil {
		o.timer = time.AfterFunc(groupDelay, o.late)
	} else {
		o.timer.Reset(groupDelay)
	}
}

// late is called by the timer.
func (o *groupOut) late() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.armed = false
	o.push()
}

// push has what is gathered written. It is called with mu held.
func (o *groupOut) push() {
	switch {
	case len(o.buf) == 0:
	case o.writing:
		o.due = true
	default:
		o.write()
	}
}

// back is called when an own message has come back.
func (o *groupOut) back() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.flying--; o.flying == 0 {
		o.push()
	}
}

func (o *groupOut) pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gained + o.flying
}

// flush writes all that is gathered, and waits for that.
func (o *groupOut) flush(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if o.ended != nil {
			return o.ended
		}
		o.push()
		if !o.writing && len(o.buf) == 0 {
			return nil
		}
		if err := o.await(ctx); err != nil {
			return err
		}
	}
}

// leave sends the LEAVE behind all else, and waits until it is written.
func (o *groupOut) leave(ctx context.Context) error {
	o.mu.Lock()
	if o.ended == nil && !o.left {
		o.left = true
		o.buf = pad(appendFeedHeader(o.buf, feedHeader, feedLeave), feedHeader)
	}
	o.mu.Unlock()
	return o.flush(ctx)
}

// write takes the role of the writer and writes what is gathered without waiting. It is called with mu held and nobody in
// the role, and releases mu meanwhile.
func (o *groupOut) write() {
	o.writing = true
	for {
		o.due = false
		b := o.buf
		o.buf, o.spare = o.spare[:0], nil
		o.flying += o.gained
		o.gained = 0
		o.mu.Unlock()
		o.vec = append(o.vecs[:0], b)
		if o.raw.Control(o.write0) != nil {
			o.failure = net.ErrClosed
		}
		o.mu.Lock()
		if o.failure == unix.EAGAIN && o.ended == nil {
			go o.drain(b) // it has the role now
			return
		}
		if !o.more(b) {
			break
		}
	}
	o.writing = false
	o.tell()
}

// more is called, with mu held, when the writer has written b or failed to. It tells whether there is more to be written
// at once.
func (o *groupOut) more(b []byte) bool {
	if cap(b) <= 2*groupGather {
		o.spare = b[:0]
	}
	if o.failure != nil && o.ended == nil {
		o.ended = o.failed(o.failure)
	}
	if o.ended != nil {
		o.buf, o.gained = nil, 0
	}
	return len(o.buf) > 0 && (o.due || o.flying == 0)
}

// failed makes an error of why the stream cannot be written.
func (o *groupOut) failed(err error) error {
	switch {
	case errors.Is(err, net.ErrClosed):
		return err
	case err == unix.EPIPE, err == unix.ECONNRESET:
		// The end of the records says which.
		return worded{"the membership has ended", unix.EPIPE}
	}
	return err
}

// drain is the goroutine that writes the rest of b, and what is gathered meanwhile.
func (o *groupOut) drain(b []byte) {
	if o.raw.Write(o.write1) != nil {
		o.failure = net.ErrClosed
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.release(b)
}

// release ends the role of the writer, who has written b or failed to, unless there is more to be written at once. It is
// called with mu held.
func (o *groupOut) release(b []byte) {
	if o.more(b) {
		o.write()
		return
	}
	o.writing = false
	o.tell()
}

// sendLarge sends a message with what is gathered before it. It waits for the role of the writer and has it until all is
// written.
func (o *groupOut) sendLarge(ctx context.Context, data []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if err := o.why(); err != nil {
			return err
		}
		if !o.writing {
			break
		}
		if err := o.await(ctx); err != nil {
			return err
		}
	}
	o.writing, o.due = true, false
	size := feedHeader + len(data)
	b := appendFeedHeader(o.buf, size, feedMessage)
	o.buf, o.spare = o.spare[:0], nil
	o.flying += o.gained + 1
	o.gained = 0
	o.mu.Unlock()
	o.vec = append(o.vecs[:0], b, data, feedPadding[:padded(size)-size])
	err := o.raw.Control(o.write0)
	if err == nil && o.failure == unix.EAGAIN {
		err = o.writable(ctx)
	}
	cut := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case cut:
		// A part of it is written, and so it is sent, but the caller waits no longer.
		b = bytes.Join(o.vec, nil)
		o.vec = append(o.vecs[:0], b)
	case err != nil:
		o.failure = net.ErrClosed
	}
	o.mu.Lock()
	if cut {
		go o.drain(b)
		return nil
	}
	o.release(b)
	return o.ended
}

// writable writes the rest of vec, until ctx ends: then it is os.ErrDeadlineExceeded.
func (o *groupOut) writable(ctx context.Context) error {
	if ctx.Done() == nil {
		return o.raw.Write(o.write1)
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		o.file.SetWriteDeadline(time.Unix(1, 0))
		close(done)
	})
	err := o.raw.Write(o.write1)
	if !stop() {
		<-done
		o.file.SetWriteDeadline(time.Time{})
	}
	return err
}

// writeOnce writes what fits. It reports whether there is nothing to wait for.
func (o *groupOut) writeOnce(fd uintptr) bool {
	for len(o.vec) > 0 {
		var n int
		if len(o.vec) == 1 {
			n, o.failure = unix.Write(int(fd), o.vec[0])
		} else {
			n, o.failure = unix.Writev(int(fd), o.vec)
		}
		if o.failure == unix.EINTR {
			continue
		}
		if o.failure != nil {
			return o.failure != unix.EAGAIN
		}
		o.vec = advance(o.vec, n)
	}
	o.failure = nil
	return true
}
