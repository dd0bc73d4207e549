package kernel

import (
	"bytes"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A Stream is the body of an endpoint: a socket, or a queue of records. None of its methods may wait, and each must
// return soon, for a reader of /dev/fuse or a poller calls it. The loop never calls Read twice at a time, nor Write;
// the two, and Poll, may come together. After Close none is called.
type Stream interface {
	// Read fills p with what is there. 0 and no error is the end of the stream. EAGAIN: nothing is there now; the
	// loop calls again after the next Wake.
	Read(p []byte) (int, syscall.Errno)
	// Write takes what it can of p, at least one byte, or returns EAGAIN.
	Write(p []byte) (int, syscall.Errno)
	// Poll returns what is ready now, in poll(2)'s bits, without regard to what was asked for.
	Poll() uint32
	// Arm asks for a Wake when the stream, which has just answered EAGAIN or was polled, becomes ready.
	Arm(e *Endpoint)
	// CloseWrite tells the peer that nothing more will be written.
	CloseWrite()
	// Close ends the stream.
	Close()
}

// An Endpoint is one stream with the requests that wait for it. All open files of the stream share it.
type Endpoint struct {
	s      *Server
	stream Stream

	rmu   sync.Mutex
	reads queue // guarded by rmu, which also serialises Stream.Read

	wmu    sync.Mutex
	writes queue // guarded by wmu, which also serialises Stream.Write

	pmu     sync.Mutex
	pollers map[uint64]struct{} // guarded by pmu: kernel handles that want a NOTIFY_POLL
	closed  bool                // written with rmu, wmu and pmu held, read with any of them
	waking  bool                // guarded by the server's wake list: is on it

	hmu      sync.Mutex
	handles  int  // guarded by hmu: open files
	writers  int  // guarded by hmu: those of them that may write
	released bool // guarded by hmu: the last handle is gone
}

// NewEndpoint returns an endpoint for st. It has no open file yet: [Server] counts one for each [Opened] that names
// it. An endpoint that is never opened must be ended by Hangup.
func (s *Server) NewEndpoint(st Stream) *Endpoint {
	return &Endpoint{s: s, stream: st}
}

// Hold counts one more open file, a writer or not. It reports false when the last one is gone already.
func (e *Endpoint) Hold(writer bool) bool {
	e.hmu.Lock()
	defer e.hmu.Unlock()
	if e.released {
		return false
	}
	e.handles++
	if writer {
		e.writers++
	}
	return true
}

// Drop takes back what Hold counted. The last writer's end closes the sending side, the last file's end the stream.
func (e *Endpoint) Drop(writer bool) {
	e.hmu.Lock()
	e.handles--
	if writer {
		e.writers--
	}
	end := e.handles == 0
	half := !end && writer && e.writers == 0
	e.released = e.released || end
	e.hmu.Unlock()
	if end {
		e.Hangup()
	} else if half {
		e.CloseWrite()
	}
}

// CloseWrite closes the sending side; parked writers get what the stream then says.
func (e *Endpoint) CloseWrite() {
	e.wmu.Lock()
	if !e.closed {
		e.stream.CloseWrite()
	}
	e.wmu.Unlock()
	e.Wake()
}

// Hangup closes the stream, whoever has it open. Reads give the end of file from then on, writes EPIPE.
func (e *Endpoint) Hangup() {
	e.rmu.Lock()
	e.wmu.Lock()
	e.pmu.Lock()
	if !e.closed {
		e.closed = true
		e.stream.Close()
	}
	e.pmu.Unlock()
	e.wmu.Unlock()
	e.rmu.Unlock()
	e.Wake()
}

func (e *Endpoint) streamRead(p []byte) (int, syscall.Errno) {
	if e.closed {
		return 0, 0
	}
	return e.stream.Read(p)
}

// move answers a READ without copying, if the stream and what is in it are so; rmu is held.
func (e *Endpoint) move(unique uint64, size int, buf []byte) bool {
	m, ok := e.stream.(mover)
	return ok && !e.closed && m.move(e.s, unique, size, buf)
}

func (e *Endpoint) streamWrite(p []byte) (int, syscall.Errno) {
	if e.closed {
		return 0, syscall.EPIPE
	}
	return e.stream.Write(p)
}

// read answers one READ: at once if the stream has something, else it parks it.
func (e *Endpoint) read(in *fuse.ReadIn, r *reader) {
	size := min(int(in.Size), maxReply)
	e.rmu.Lock()
	defer e.rmu.Unlock()
	nonblock := in.Flags&syscall.O_NONBLOCK != 0
	errno := syscall.Errno(errAgain)
	var n int
	if e.reads.head == nil {
		if e.move(in.Unique, size, r.out) {
			return
		}
		n, errno = e.streamRead(r.out[sizeOutHeader : sizeOutHeader+size])
	}
	if errno == errAgain && !nonblock && e.s.take(in.Uid, 0) {
		p := &parked{unique: in.Unique, uid: in.Uid, e: e, size: size}
		e.reads.push(p)
		e.s.waits.park(p)
		e.stream.Arm(e)
		return
	}
	e.s.replyData(r.out, in.Unique, errno, n)
}

// write answers one WRITE of data, which lies in the reader's buffer.
func (e *Endpoint) write(in *fuse.WriteIn, data []byte, r *reader) {
	e.wmu.Lock()
	defer e.wmu.Unlock()
	nonblock := in.Flags&syscall.O_NONBLOCK != 0
	errno := syscall.Errno(errAgain)
	var done int
	if e.writes.head == nil {
		for errno = 0; errno == 0 && done < len(data); {
			var n int
			n, errno = e.streamWrite(data[done:])
			done += n
		}
	}
	rest := data[done:]
	if errno == errAgain && !nonblock && e.s.take(in.Uid, len(rest)) {
		p := &parked{unique: in.Unique, uid: in.Uid, e: e, write: true, done: done, held: len(rest)}
		if len(rest) >= keepBuffer {
			p.data = rest
			p.buf = r.giveAway()
		} else {
			p.data = bytes.Clone(rest)
		}
		e.writes.push(p)
		e.s.waits.park(p)
		e.stream.Arm(e)
		return
	}
	if done > 0 {
		errno = 0 // what was taken counts; the next write gets the error
	}
	e.s.replyWrite(in.Unique, errno, done)
}

// poll answers one POLL. The kernel's handle is noted before the stream is asked, so that a change in between is
// told; it is noted even if the stream is ready, because an edge-triggered epoll waits for the *next* change.
func (e *Endpoint) poll(in *pollIn) {
	e.pmu.Lock()
	defer e.pmu.Unlock()
	revents := uint32(PollHangup)
	if !e.closed {
		if in.Flags&pollScheduleNotify != 0 {
			if e.pollers == nil {
				e.pollers = map[uint64]struct{}{}
			}
			e.pollers[in.Kh] = struct{}{}
			e.stream.Arm(e)
		}
		revents = e.stream.Poll()
	}
	e.s.replyPoll(in.Unique, revents)
}

// forget ends what the kernel's handle of a closed file has asked for.
func (e *Endpoint) forget(kh uint64) {
	e.pmu.Lock()
	defer e.pmu.Unlock()
	delete(e.pollers, kh)
}

// Wake serves what is parked and tells the pollers. Any goroutine may call it that holds no lock a Stream's methods
// take.
func (e *Endpoint) Wake() {
	buf := e.s.getReply()
	defer e.s.putReply(buf)
	e.serve(buf, true, true)
}

// serve is Wake with the caller's reply buffer, for the directions that may be ready.
func (e *Endpoint) serve(buf []byte, in, out bool) {
	if in {
		e.serveReads(buf)
	}
	if out {
		e.serveWrites()
	}
	e.notify()
}

func (e *Endpoint) serveReads(buf []byte) {
	e.rmu.Lock()
	defer e.rmu.Unlock()
	for p := e.reads.head; p != nil; p = e.reads.head {
		if e.move(p.unique, p.size, buf) {
			e.reads.remove(p)
			e.s.settle(p)
			continue
		}
		n, errno := e.streamRead(buf[sizeOutHeader : sizeOutHeader+p.size])
		if errno == errAgain {
			e.stream.Arm(e)
			return
		}
		e.reads.remove(p)
		e.s.settle(p)
		e.s.replyData(buf, p.unique, errno, n)
	}
}

func (e *Endpoint) serveWrites() {
	e.wmu.Lock()
	defer e.wmu.Unlock()
	for p := e.writes.head; p != nil; p = e.writes.head {
		var errno syscall.Errno
		for errno == 0 && len(p.data) > 0 {
			var n int
			n, errno = e.streamWrite(p.data)
			p.data = p.data[n:]
			p.done += n
		}
		if errno == errAgain {
			e.stream.Arm(e)
			return
		}
		e.finishWrite(p, errno)
	}
}

// finishWrite answers a parked WRITE; wmu is held.
func (e *Endpoint) finishWrite(p *parked, errno syscall.Errno) {
	e.writes.remove(p)
	e.s.settle(p)
	if p.done > 0 {
		errno = 0
	}
	e.s.replyWrite(p.unique, errno, p.done)
}

func (e *Endpoint) notify() {
	e.pmu.Lock()
	pollers := e.pollers
	e.pollers = nil
	e.pmu.Unlock()
	for kh := range pollers {
		e.s.notifyPoll(kh)
	}
}

// interrupt ends a parked request with EINTR; one that has written something ends with that.
func (e *Endpoint) interrupt(p *parked) {
	if p.write {
		e.wmu.Lock()
		defer e.wmu.Unlock()
		if p.queued {
			e.finishWrite(p, syscall.EINTR)
		}
		return
	}
	e.rmu.Lock()
	defer e.rmu.Unlock()
	if p.queued {
		e.reads.remove(p)
		e.s.settle(p)
		e.s.replyError(p.unique, syscall.EINTR)
	}
}
