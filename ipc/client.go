package ipc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// Client is a connection to the daemon. What it opens is a socket of its own, with no daemon in between, and stays when
// the Client is closed; what it has announced ends with it.
//
// The methods may be called from many goroutines, and their requests run at the same time. The daemon takes the identity
// of this process when the Client is made, and keeps it for this Client when the process changes it. A Client belongs to
// its process: a child that was forked must not use it.
type Client struct {
	tree *Tree
	sock *socket

	slots chan struct{} // holds a place for each OPEN, ANNOUNCE, JOIN and SENDER in progress
	done  chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	tag     uint32           // guarded by mu; the last one
	calls   map[uint32]*call // guarded by mu; requests without an answer
	reading bool             // guarded by mu; somebody has the part of the reader, or is about to
	ended   error            // guarded by mu; why the connection has ended
	forms   map[string]bool  // guarded by mu; services of fdp whose socket was found: true: at NAME,sock
}

// call is one request. There is no goroutine that reads the socket: of those who wait for an answer one has the part of
// the reader, blocks in the system call, and gives the others theirs. So the kernel wakes the very thread that waits,
// which halves the time of a request against a wake-up by way of Go's poller and a channel.
type call struct {
	answer chan answer   // has room for the answer
	lead   chan struct{} // has room for one: the part of the reader. It is given with the Client's mu held
	waits  bool          // guarded by the Client's mu; the request has been sent, and its caller can be given the part
	late   func(answer)  // guarded by the Client's mu; takes the answer when the caller has gone
}

// Dial connects to the daemon of the tree, which then knows this process. It takes at most [AnswerTime].
//
// Errors are *rendezvous.Error: Unavailable where no daemon answers or the user has too many connections to it (EMFILE),
// Permission (EACCES) where the daemon cannot tell who this process is, as in a pid namespace that it does not see.
func (t *Tree) Dial(ctx context.Context) (*Client, error) {
	c, err := t.dial(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, contextEnded(ctx, "connect to the daemon of", t.Dir)
	}
	if err != nil {
		kind := rendezvous.Unavailable
		if errors.Is(err, unix.EACCES) {
			kind = rendezvous.Permission
		}
		return nil, &rendezvous.Error{Op: "connect to the daemon of", Path: t.Dir, Kind: kind, Err: err}
	}
	return c, nil
}

func (t *Tree) dial(ctx context.Context) (*Client, error) {
	fd, err := connectUnix(ctx, t.path("dev/fdp/local"), "convoke", unix.SOCK_SEQPACKET, AnswerTime)
	if err != nil {
		return nil, err
	}
	return newClient(ctx, t, fd)
}

// newClient makes acquaintance with the daemon at the other end of fd, which it takes over.
func newClient(ctx context.Context, t *Tree, fd int) (*Client, error) {
	sock, err := newSocket(fd)
	if err != nil {
		return nil, err
	}
	if err := hello(ctx, sock); err != nil {
		sock.close()
		return nil, err
	}
	return &Client{
		tree: t, sock: sock, slots: make(chan struct{}, maxRequests), done: make(chan struct{}), calls: map[uint32]*call{},
	}, nil
}

// hello agrees on the version.
func hello(ctx context.Context, sock *socket) error {
	ctx, cancel := context.WithTimeout(ctx, AnswerTime)
	defer cancel()
	defer context.AfterFunc(ctx, sock.wake)()
	err := sock.write(helloRequest{lowest: version, highest: version}.append(appendHeader(nil, header{op: opHello})))
	if err != nil {
		return err
	}
	a, err := sock.receive(true)
	for err == errWoken && ctx.Err() == nil {
		a, err = sock.receive(true)
	}
	if err == errWoken {
		return unix.ETIMEDOUT
	}
	if err != nil {
		return err
	}
	a.close() // there are none
	if a.op != opHello|opAnswer {
		return errNoDaemon
	}
	if a.errno != 0 {
		return answerError(a.errno, "", map[unix.Errno]string{
			unix.EMFILE:          "this user has too many connections to the daemon",
			unix.EACCES:          "the daemon cannot tell who this process is",
			unix.EPROTONOSUPPORT: "the daemon speaks another version of the protocol",
		})
	}
	if m, ok := decodeHelloAnswer(a.body); !ok || m.version != version {
		return errNoDaemon
	}
	return nil
}

var errNoDaemon = fmt.Errorf("it is no socket of convoked: %w", unix.EPROTO)

// Close ends the connection, all requests that are in progress, and what the Client has announced.
func (c *Client) Close() error {
	c.end(net.ErrClosed)
	return nil
}

// end ends the connection; requests get the error why.
func (c *Client) end(why error) {
	c.mu.Lock()
	if c.ended == nil {
		c.ended = why
		close(c.done)
	}
	c.mu.Unlock()
	c.sock.close()
}

// lost is the error of a connection that the daemon has ended.
type lost struct{ errno unix.Errno }

func lostBy(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		errno = unix.ECONNRESET
	}
	return lost{errno}
}

func (l lost) Error() string { return "the daemon has ended the connection: " + l.errno.Error() }

func (l lost) Unwrap() error { return l.errno }

// alive tells whether the connection stands. While nobody waits for an answer nobody hears of its end otherwise.
func (c *Client) alive() bool {
	if c.sock.hungUp() {
		c.end(lost{unix.ECONNRESET})
	}
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// why returns the error with which the connection has ended.
func (c *Client) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// read has the part of the reader until own is answered, ctx or stop ends, or the connection does.
func (c *Client) read(ctx context.Context, stop <-chan struct{}, own *call) {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, c.sock.wake)()
	}
	for {
		a, err := c.sock.receive(ctx.Done() != nil || stop != nil)
		switch err {
		case nil:
			if c.deliver(a) == own {
				return
			}
		case errWoken:
		default:
			c.end(lostBy(err))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-stop:
			return
		default:
		}
	}
}

// readLate has the part of the reader for one answer. It is a goroutine.
func (c *Client) readLate() {
	a, err := c.sock.receive(false)
	if err != nil {
		c.end(lostBy(err))
	} else {
		c.deliver(a)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passOn()
}

// passOn gives the part of the reader to somebody else who waits, or back. It is called with mu held by who has it.
func (c *Client) passOn() {
	c.reading = false
	if c.ended != nil {
		return
	}
	late := false
	for _, w := range c.calls {
		if w.late != nil {
			late = true
		} else if w.waits {
			c.reading = true
			w.lead <- struct{}{}
			return
		}
	}
	if late {
		// Nobody waits, but there are answers to come. They may bring descriptors, which must not stay open until the
		// next request.
		c.reading = true
		go c.readLate()
	}
}

// deliver gives an answer to its request, and returns that. A request that there is not, or that nobody waits for, leaves
// no descriptors.
func (c *Client) deliver(a answer) *call {
	c.mu.Lock()
	w := c.calls[a.tag]
	if w == nil || a.op&opAnswer == 0 {
		c.mu.Unlock()
		a.close()
		return nil
	}
	delete(c.calls, a.tag)
	late := w.late
	if late == nil {
		w.answer <- a
	}
	c.mu.Unlock()
	if late != nil {
		late(a)
	}
	return w
}

// send sends one frame, and waits while the socket's buffer is full: the daemon does not read, since it is stopped or
// has a great deal to do.
func (c *Client) send(ctx context.Context, b []byte) error {
	for delay := time.Millisecond; ; delay = min(2*delay, 50*time.Millisecond) {
		err := c.sock.write(b)
		if err != unix.EAGAIN {
			return err
		}
		// There is no waiting for room that ends with ctx too, short of a goroutine.
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return err
		case <-c.done:
			return net.ErrClosed
		}
	}
}

// request sends a request and waits for its answer, which is not an error. frame is made with the tag that it is given.
// release, if it is not nil, is called when the daemon has nothing to do with the request any more; late gets an answer
// that comes when ctx has ended. The end of stop is that of ctx.
//
// Errors have an errno or ctx's cause, but no operation and path.
func (c *Client) request(ctx context.Context, stop <-chan struct{}, frame func(tag uint32) []byte, release func(), late func(answer)) (answer, error) {
	if release == nil {
		release = func() {}
	}
	w := &call{answer: make(chan answer, 1), lead: make(chan struct{}, 1)}
	c.mu.Lock()
	if c.ended != nil {
		err := c.ended
		c.mu.Unlock()
		release()
		return answer{}, &unsent{err}
	}
	for c.tag++; c.calls[c.tag] != nil; c.tag++ {
	}
	tag := c.tag
	c.calls[tag] = w
	c.mu.Unlock()

	if err := c.send(ctx, frame(tag)); err != nil {
		release()
		c.mu.Lock()
		delete(c.calls, tag)
		c.mu.Unlock()
		if ctx.Err() != nil {
			return answer{}, errContext
		}
		c.end(lostBy(err))
		return answer{}, &unsent{c.why()}
	}

	c.mu.Lock()
	w.waits = true
	leads := !c.reading && len(w.answer) == 0 // else whoever had the part has brought the answer already
	if leads {
		c.reading = true
	}
	c.mu.Unlock()
	if !leads {
		select {
		case a := <-w.answer:
			w.answer <- a
		case <-w.lead:
			leads = true
		case <-ctx.Done():
		case <-stop:
		case <-c.done:
		}
	}
	if leads {
		c.read(ctx, stop, w)
	}

	c.mu.Lock()
	if len(w.lead) > 0 {
		leads = true // given in the moment of another end
	}
	if len(w.answer) == 0 && c.ended == nil {
		w.late = func(a answer) {
			release()
			if late != nil && a.errno == 0 {
				late(a)
				return
			}
			a.close()
		}
	}
	if leads {
		c.passOn()
	}
	gone, ended := w.late != nil, c.ended
	c.mu.Unlock()
	if gone {
		c.cancel(tag)
		return answer{}, errContext
	}
	release()
	select {
	case a := <-w.answer:
		return a, a.failure()
	default:
		return answer{}, ended
	}
}

// cancel tells the daemon that nobody waits for a request any more.
func (c *Client) cancel(tag uint32) {
	b := appendHeader(make([]byte, 0, headerSize+4), header{op: opCancel})
	b = append(b, byte(tag), byte(tag>>8), byte(tag>>16), byte(tag>>24))
	if c.sock.write(b) == unix.EAGAIN {
		// The caller does not wait for the daemon any more. This ends with the connection at the latest.
		go c.send(context.Background(), b)
	}
}

// errContext stands for the end of the caller's ctx.
var errContext = errors.New("context ended")

// unsent is an error of a request that the daemon has not seen.
type unsent struct{ error }

func (u *unsent) Unwrap() error { return u.error }

// failure returns the error that an answer tells of.
func (a answer) failure() error {
	if a.errno == 0 {
		return nil
	}
	a.close()
	d := decoder{b: a.body}
	return answerError(a.errno, d.string(), nil)
}

// answerError makes an error of the daemon's errno and sentence; without a sentence there may be one here.
func answerError(n uint32, text string, known map[unix.Errno]string) error {
	errno := unix.Errno(n)
	if text == "" {
		text = known[errno]
	}
	if text == "" {
		return errno
	}
	return worded{escape(text), errno}
}

// escape makes what the daemon says fit for a terminal.
func escape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			b = fmt.Appendf(b, `\x%02x`, s[i])
		} else {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// fail makes the house's error of one of request.
func (c *Client) fail(ctx context.Context, op, path string, err error) error {
	if errors.Is(err, errContext) {
		return contextEnded(ctx, op, path)
	}
	kind := rendezvous.KindOf(err)
	if errors.As(err, new(lost)) {
		kind = rendezvous.Unavailable
	}
	return &rendezvous.Error{Op: op, Path: path, Kind: kind, Err: err}
}

// contextEnded is the error of an operation whose ctx has ended: ETIMEDOUT when its time is over, else EINTR, or the
// errno that the cause has.
func contextEnded(ctx context.Context, op, path string) error {
	cause := context.Cause(ctx)
	var errno unix.Errno
	switch {
	case errors.As(cause, &errno):
		return &rendezvous.Error{Op: op, Path: path, Kind: rendezvous.KindOf(errno), Err: cause}
	case errors.Is(cause, context.DeadlineExceeded):
		return &rendezvous.Error{Op: op, Path: path, Kind: rendezvous.Timeout, Err: fmt.Errorf("%w: %w", unix.ETIMEDOUT, cause)}
	}
	return &rendezvous.Error{Op: op, Path: path, Kind: rendezvous.Other, Err: fmt.Errorf("%w: %w", unix.EINTR, cause)}
}
