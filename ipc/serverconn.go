package ipc

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// handOver is how long the goroutine that reads a connection works at a request itself. Most requests are done by then:
// a dial on this host takes some 30 microseconds, and another goroutine for it would cost a fifth of that again. After
// that time another goroutine goes on reading.
const handOver = 250 * time.Microsecond

// maxOffers is how many announcements one connection may have; users have less by their limit.
const maxOffers = 4096

// serverConn is one client of the server. One goroutine at a time has the part of the reader; it begins with serve, and
// may be handed over by the timer. All goroutines of the connection are counted in running.
type serverConn struct {
	s       *Server
	file    *os.File // owns the socket, which is in Go's poller
	raw     syscall.RawConn
	release func()
	caller  rendezvous.Caller // until HELLO is answered, only the ids
	ctx     context.Context   // of the requests; it is the connection's own life, which no call's context spans
	cancel  context.CancelCauseFunc
	buf     []byte // the reader's; one byte more than a frame, to see what is too long

	mu       sync.Mutex
	ended    bool                // guarded by mu
	running  int                 // guarded by mu; goroutines of this connection
	requests map[uint32]*request // guarded by mu; those in progress, by tag
	working  int                 // guarded by mu; those among them that work does
	offers   map[uint32]*offer   // guarded by mu; announcements, by number
	number   uint32              // guarded by mu; the last number of an announcement
	busy     *request            // guarded by mu; what the reader itself works at
	began    time.Time           // guarded by mu; since when
	armed    bool                // guarded by mu; timer runs
	timer    *time.Timer         // calls relieve; it is armed about once in handOver, not for each request
}

// A request is in progress: it has not been answered.
type request struct {
	tag    uint32
	op     uint16
	cancel context.CancelCauseFunc // of those that work does
	offer  *offer                  // of ACCEPT
}

// newServerConn takes the socket over, also when it fails.
func newServerConn(s *Server, fd int, cred *unix.Ucred, release func()) (*serverConn, error) {
	// What cannot be set stays at the system's default.
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	c := &serverConn{
		s: s, release: release, file: os.NewFile(uintptr(fd), "client"), buf: make([]byte, maxFrame+1), running: 1,
		requests: map[uint32]*request{}, offers: map[uint32]*offer{},
		caller: rendezvous.Caller{PID: int(cred.Pid), UID: cred.Uid, GID: cred.Gid},
	}
	var err error
	if c.raw, err = c.file.SyscallConn(); err != nil {
		c.file.Close()
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.timer = time.AfterFunc(time.Hour, c.relieve)
	c.timer.Stop()
	return c, nil
}

// serve is the connection's first goroutine. welcome is false for a client that is to be told that its user has too many
// connections.
func (c *serverConn) serve(welcome bool) {
	if c.hello(welcome) {
		c.read()
		return
	}
	c.end()
	c.leave()
}

// end ends the connection. Its goroutines notice soon.
func (c *serverConn) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.file.Close()
	c.cancel(unix.ECANCELED)
}

// leave is the last call of each goroutine of the connection.
func (c *serverConn) leave() {
	c.mu.Lock()
	c.running--
	last := c.running == 0
	c.mu.Unlock()
	if last {
		c.timer.Stop()
		c.release()
		c.s.remove(c)
	}
}

// frame reads the next frame into c.buf. It is nil when the connection has ended or the client breaks the protocol.
func (c *serverConn) frame() []byte {
	var n int
	var failure error
	err := c.raw.Read(func(fd uintptr) bool {
		// read(2) has no room for control messages: descriptors that a client sends are closed by the kernel.
		n, failure = unix.Read(int(fd), c.buf)
		return failure != unix.EAGAIN && failure != unix.EINTR
	})
	if err != nil || failure != nil || n < headerSize || n > maxFrame {
		return nil
	}
	return c.buf[:n]
}

// hello finds out who the client is and makes acquaintance. It reports whether the client may make requests.
func (c *serverConn) hello(welcome bool) bool {
	var who rendezvous.Caller
	var err error
	if c.raw.Control(func(fd uintptr) { who, err = c.s.identify(int(fd)) }) != nil {
		return false // closed
	}
	if err != nil {
		c.s.tell(c.caller, "connect to the daemon", err)
	} else {
		c.caller = who
	}
	if c.file.SetReadDeadline(time.Now().Add(c.s.hello)) != nil {
		return false
	}
	frame := c.frame()
	if frame == nil || c.file.SetReadDeadline(time.Time{}) != nil {
		return false
	}
	d := decoder{b: frame}
	h := d.header()
	m, ok := decodeHelloRequest(d.b)
	if !ok || h.op != opHello {
		return false
	}
	answer := header{op: opHello | opAnswer, tag: h.tag}
	switch {
	case err != nil:
		answer.errno = uint32(unix.EACCES)
	case !welcome:
		answer.errno = uint32(unix.EMFILE)
	case m.lowest > version || m.highest < version:
		answer.errno = uint32(unix.EPROTONOSUPPORT)
	}
	body := helloAnswer{version: version, lowest: version, requests: maxRequests, accepts: maxAccepts}
	return c.send(body.append(appendHeader(nil, answer))) == nil && answer.errno == 0
}

// read has the part of the reader until the connection ends or the part goes to another goroutine.
func (c *serverConn) read() {
	defer c.leave()
	for {
		frame := c.frame()
		if frame == nil {
			c.end()
			return
		}
		d := decoder{b: frame}
		h := d.header()
		switch c.handle(h, d.b) {
		case handedOver:
			return
		case broken:
			c.end()
			return
		}
	}
}

// What becomes of the reader after a frame.
type verdict uint8

const (
	goOn       verdict = iota
	handedOver         // another goroutine reads now
	broken             // the client breaks the protocol, or does not read
)

// handle does what a frame asks for.
func (c *serverConn) handle(h header, body []byte) verdict {
	d := decoder{b: body}
	switch h.op {
	case opOpen, opAnnounce:
		path := d.string()
		if d.err != nil {
			return c.refuse(h, unix.EINVAL)
		}
		do := c.open
		if h.op == opAnnounce {
			do = c.announce
		}
		return c.work(h, path, do)
	case opJoin, opSender:
		return c.group(h, body)
	case opAccept:
		number := d.uint32()
		if d.err != nil {
			return c.refuse(h, unix.EINVAL)
		}
		return c.accept(h, number)
	case opWithdraw:
		number := d.uint32()
		if d.err != nil {
			return c.refuse(h, unix.EINVAL)
		}
		return c.withdraw(h, number)
	case opCancel:
		if tag := d.uint32(); d.err == nil {
			return c.cancelRequest(tag)
		}
		return goOn
	case opHello:
		return c.refuse(h, unix.EINVAL)
	}
	return c.refuse(h, unix.ENOSYS)
}

// refuse answers a request that was not begun.
func (c *serverConn) refuse(h header, errno unix.Errno) verdict {
	c.s.failures.Add(1)
	if c.answerError(h.op, h.tag, errno, "") != nil {
		return broken
	}
	return goOn
}

// A worker makes what a request about what asks for, and the answer to it. done is to be called when the answer has been
// sent or not; after an error there is none.
type worker func(ctx context.Context, h header, what string) (b []byte, fds []int, done func(sent bool), err error)

// work does an OPEN, ANNOUNCE, JOIN or SENDER. It may return long after another goroutine has gone on reading.
func (c *serverConn) work(h header, what string, do worker) verdict {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	r := &request{tag: h.tag, op: h.op, cancel: cancel}
	c.mu.Lock()
	if _, used := c.requests[h.tag]; used || c.ended {
		c.mu.Unlock()
		return broken
	}
	if c.working == maxRequests {
		c.mu.Unlock()
		return c.refuse(h, unix.EAGAIN)
	}
	c.requests[h.tag] = r
	c.working++
	c.busy, c.began = r, time.Now()
	if !c.armed {
		c.armed = true
		c.timer.Reset(handOver)
	}
	c.mu.Unlock()

	b, fds, done, err := do(ctx, h, what)
	if err != nil && context.Cause(ctx) != nil {
		err = unix.ECANCELED
	}

	// Before the answer is sent: then the client may use the tag again.
	c.mu.Lock()
	delete(c.requests, h.tag)
	c.working--
	reader := c.busy == r
	if reader {
		c.busy = nil
	}
	c.mu.Unlock()
	if err != nil {
		c.s.failures.Add(1)
		errno := errnoOf(err)
		if errno != unix.ECANCELED {
			c.s.tell(c.caller, opNames[h.op]+" "+what, err)
		}
		err = c.answerError(h.op, h.tag, errno, sentence(err, errno))
	} else {
		err = c.send(b, fds...)
		done(err == nil)
	}
	switch {
	case !reader:
		if err != nil {
			c.end()
		}
		return handedOver
	case err != nil:
		return broken
	}
	return goOn
}

var opNames = map[uint16]string{opOpen: "open", opAnnounce: "announce", opJoin: "join", opSender: "send to"}

// tell reports a refusal.
func (s *Server) tell(c rendezvous.Caller, what string, err error) {
	if s.opts.Refused != nil {
		s.opts.Refused(c, what, err)
	}
}

// relieve is called by the timer: if the reader has worked at one request for long, this goroutine becomes the reader.
func (c *serverConn) relieve() {
	c.mu.Lock()
	if c.busy == nil || c.ended {
		c.armed = false
		c.mu.Unlock()
		return
	}
	if rest := handOver - time.Since(c.began); rest > 0 {
		c.timer.Reset(rest)
		c.mu.Unlock()
		return
	}
	c.busy = nil
	c.armed = false
	c.running++
	c.mu.Unlock()
	c.read()
}

// open makes a connection and the answer that hands it over.
func (c *serverConn) open(ctx context.Context, h header, path string) (b []byte, fds []int, done func(bool), err error) {
	p, err := rendezvous.Parse(path)
	if err == nil && p.Options.Create {
		err = fmt.Errorf("to announce is another request: %w", unix.EINVAL)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	conn, err := c.s.host.Open(ctx, c.caller, p)
	if err != nil {
		return nil, nil, nil, err
	}
	b = appendHeader(make([]byte, 0, 256), header{op: h.op | opAnswer, tag: h.tag, count: 1})
	b = opened{conn.Local, conn.Remote, conn.Node}.append(b)
	return b, []int{conn.FD}, func(sent bool) {
		unix.Close(conn.FD)
		if sent {
			c.s.opens.Add(1)
		}
	}, nil
}

// cancelRequest does what CANCEL asks for.
func (c *serverConn) cancelRequest(tag uint32) verdict {
	c.mu.Lock()
	r := c.requests[tag]
	if r == nil || r.offer == nil {
		c.mu.Unlock()
		if r != nil {
			r.cancel(unix.ECANCELED)
		}
		return goOn
	}
	delete(c.requests, tag)
	r.offer.forget(r)
	c.mu.Unlock()
	return c.refuse(header{op: r.op, tag: tag}, unix.ECANCELED)
}

// answerError answers a request with an errno.
func (c *serverConn) answerError(op uint16, tag uint32, errno unix.Errno, text string) error {
	b := appendHeader(make([]byte, 0, 64), header{op: op | opAnswer, tag: tag, errno: uint32(errno)})
	return c.send(appendString(b, text))
}

// send sends one frame with descriptors, which stay the caller's. A client that does not read is waited for until its
// time is over, and that holds up nobody but what was asked by the same client.
func (c *serverConn) send(b []byte, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	var failure error
	stalled := false
	err := c.raw.Write(func(fd uintptr) bool {
		for {
			_, failure = unix.SendmsgN(int(fd), b, rights, nil, unix.MSG_NOSIGNAL)
			if failure != unix.EINTR {
				break
			}
		}
		if failure == unix.EAGAIN && !stalled {
			stalled = true
			c.file.SetWriteDeadline(time.Now().Add(c.s.stall))
		}
		return failure != unix.EAGAIN
	})
	if err == nil {
		err = failure
	}
	if err == nil && stalled {
		err = c.file.SetWriteDeadline(time.Time{})
	}
	return err
}
