package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// JoinOpts are how to join a group. The zero value joins one that there is.
type JoinOpts struct {
	Create bool // make the group when it is missing; else that is ENOENT
}

// Group is this process's membership in a closed process group: all members get the same records in the same order,
// beginning with the one of their own join.
//
// A membership ends with Leave, which all members see as LEAVE; with Close or the end of the process, which is PROCDOWN;
// and from outside, when this process does not receive for too long, or the daemon ends. It does not end with the Client
// by which it was made.
//
// The methods may be called from many goroutines. A Group belongs to its process: a child that was forked must not use
// it.
type Group struct {
	id Process
	groupStream
}

// Join makes this process a member of the group, over the connection that [Open] uses. See [Client.Join].
func Join(ctx context.Context, group string, o JoinOpts) (*Group, error) {
	return onShared(ctx, func(c *Client) (*Group, error) { return c.Join(ctx, group, o) })
}

// Join makes this process a member of the group, whose name is 0 to 128 bytes of any kind, and returns when the join is
// ordered. A process may have several memberships in one group.
//
// Errors are *rendezvous.Error with the errno of the daemon: ENOENT, EACCES, EINVAL, ENOSPC; ENOSYS for a daemon that
// has no groups; as those of [Client.OpenFD] when ctx ends or the daemon has gone.
func (c *Client) Join(ctx context.Context, group string, o JoinOpts) (*Group, error) {
	m := joinRequest{name: group}
	if o.Create {
		m.flags |= joinCreate
	}
	a, err := c.ask(ctx, opJoin, "join", m)
	if err != nil {
		return nil, err
	}
	id, err := decodeJoined(a.body)
	if err != nil || len(a.fds) != 1 {
		a.close()
		return nil, c.fail(ctx, "join", EscapeGroup(group), errMalformed)
	}
	g := &Group{id: Process(id)}
	if err := g.open(a.fds[0], group); err != nil {
		return nil, failed("join", EscapeGroup(group), err)
	}
	g.in.own = g.id
	return g, nil
}

// ask sends a JOIN or SENDER.
func (c *Client) ask(ctx context.Context, op uint16, name string, m joinRequest) (answer, error) {
	a, err := c.workWith(ctx, op, len(m.name)+8, m.append)
	if err != nil {
		return a, c.fail(ctx, name, EscapeGroup(m.name), err)
	}
	return a, nil
}

// ID tells which member this is.
func (g *Group) ID() Process { return g.id }

// Name returns the name of the group.
func (g *Group) Name() string { return g.name }

// Send sends data to all members, this one included. It does not keep data. At most [MaxMessage] bytes: else EMSGSIZE,
// and nothing is sent.
//
// A message is given to the daemon at once when no earlier one of this membership is on its way, that is, when all have
// been received here. Else it waits for that, or until 64 KiB have come together, or for 1 ms: so many small messages
// cost one system call, and a lone one no time. When the group takes no more, Send waits for room until ctx ends.
//
// Send does not wait until anybody has received. The daemon keeps what this process has not received, its own messages
// too, and puts it out when that is too much (64 MiB): whoever sends faster than he receives looks at Pending.
//
// A nil error says that the message will be sent, in the order of the calls, unless the membership ends before. An error
// says that it was not sent: ETIMEDOUT or EINTR when ctx has ended, EPIPE when the membership has.
func (g *Group) Send(ctx context.Context, data []byte) error {
	return g.out.fail(ctx, "send to", g.name, g.out.send(ctx, data))
}

// Pending tells how many messages of this membership have been sent and not been received here.
func (g *Group) Pending() int { return g.out.pending() }

// Flush gives the daemon what Send has gathered, and returns when it has.
func (g *Group) Flush(ctx context.Context) error {
	return g.out.fail(ctx, "send to", g.name, g.out.flush(ctx))
}

// Receive returns the next record, and waits for it until ctx ends. What the slices of the record hold is valid until
// the next call of Receive or ReceiveInto. Only one call at a time receives; others wait for that.
//
// io.EOF says that this process has left, and that all records before that were received. Other errors are final too,
// but for ETIMEDOUT and EINTR, when ctx has ended: EPIPE when the member was put out, since it did not receive for too
// long or since root did so; ESHUTDOWN when the daemon has ended, ECONNRESET when it has died.
func (g *Group) Receive(ctx context.Context) (Record, error) {
	if err := g.in.acquire(ctx); err != nil {
		return Record{}, g.receiveError(ctx, err)
	}
	defer g.in.release()
	if err := g.in.next(ctx, &g.in.record); err != nil {
		return Record{}, g.receiveError(ctx, err)
	}
	return g.in.record, nil
}

// ReceiveInto is Receive into a record of the caller's, whose slices it uses again. They stay valid.
func (g *Group) ReceiveInto(ctx context.Context, r *Record) error {
	if err := g.in.acquire(ctx); err != nil {
		return g.receiveError(ctx, err)
	}
	defer g.in.release()
	data := r.Data
	if err := g.in.next(ctx, r); err != nil {
		return g.receiveError(ctx, err)
	}
	r.Data = append(data[:0], r.Data...)
	return nil
}

func (g *Group) receiveError(ctx context.Context, err error) error {
	if err == io.EOF {
		return err
	}
	return g.out.fail(ctx, "receive from", g.name, err)
}

// Buffered tells whether the next Receive has a record without waiting and without a system call: who prints records
// may put off the printing. It is false while another call receives.
func (g *Group) Buffered() bool {
	select {
	case g.in.lock <- struct{}{}:
		defer g.in.release()
		return g.in.buffered()
	default:
		return false
	}
}

// Leave leaves the group, behind all messages that were sent, and returns when the daemon has been told. Receive goes on
// until io.EOF. Sends are EPIPE from now on. Close must follow.
func (g *Group) Leave(ctx context.Context) error {
	return g.out.fail(ctx, "leave", g.name, g.out.leave(ctx))
}

// Close ends the membership, if it was not left, and frees what belongs to it. What was gathered is lost.
func (g *Group) Close() error { return g.close() }

// Sender sends to a group in which this process is no member. It gets nothing of what members get, and a message whose
// sender has lost the right to send is dropped where it would be delivered.
//
// The methods may be called from many goroutines.
type Sender struct{ groupStream }

// OpenSender opens a Sender over the connection that [Open] uses. See [Client.Sender].
func OpenSender(ctx context.Context, group string) (*Sender, error) {
	return onShared(ctx, func(c *Client) (*Sender, error) { return c.Sender(ctx, group) })
}

// Sender returns what sends to the group without joining. Errors are those of [Client.Join]: EACCES where this user may
// not write to the group's file send.
func (c *Client) Sender(ctx context.Context, group string) (*Sender, error) {
	a, err := c.ask(ctx, opSender, "send to", joinRequest{name: group})
	if err != nil {
		return nil, err
	}
	if len(a.fds) != 1 {
		a.close()
		return nil, c.fail(ctx, "send to", EscapeGroup(group), errMalformed)
	}
	s := &Sender{}
	if err := s.open(a.fds[0], group); err != nil {
		return nil, failed("send to", EscapeGroup(group), err)
	}
	return s, nil
}

// Send sends data to all members. It does not keep data. At most [MaxMessage] bytes: else EMSGSIZE, and nothing is sent.
// When the group takes no more, Send waits for room until ctx ends.
func (s *Sender) Send(ctx context.Context, data []byte) error {
	return s.out.fail(ctx, "send to", s.name, s.out.send(ctx, data))
}

// Finish ends the sending: nil says that all messages were taken into the group's order, or will be as soon as there is
// one. Close must follow.
func (s *Sender) Finish(ctx context.Context) error {
	err := s.out.leave(ctx)
	if err == nil {
		err = s.in.acquire(ctx)
	}
	if err != nil {
		return s.out.fail(ctx, "send to", s.name, err)
	}
	defer s.in.release()
	for err == nil {
		err = s.in.next(ctx, &s.in.record)
	}
	if err == io.EOF {
		return nil
	}
	return s.out.fail(ctx, "send to", s.name, err)
}

// Close frees what belongs to the Sender. Messages may be lost that were not finished.
func (s *Sender) Close() error { return s.close() }

// groupStream is the client's end of the stream of a membership.
type groupStream struct {
	name string
	file *os.File
	in   groupIn
	out  groupOut
}

// open takes the socket over, also when it fails.
func (s *groupStream) open(fd int, name string) error {
	s.name = name
	s.file = os.NewFile(uintptr(fd), "group") // it is O_NONBLOCK, and so in Go's poller
	raw, err := s.file.SyscallConn()
	if err != nil {
		s.file.Close()
		return err
	}
	s.in.init(s.file, raw, &s.out)
	s.out.init(s.file, raw)
	return nil
}

func (s *groupStream) close() error {
	s.out.end(net.ErrClosed)
	if err := s.file.Close(); err != nil {
		return fmt.Errorf("close %s: %w", EscapeGroup(s.name), net.ErrClosed)
	}
	return nil
}

// ended is why a membership has ended.
func endedBy(errno unix.Errno) error {
	switch errno {
	case unix.EPIPE:
		return worded{"the member was put out of the group", errno}
	case unix.ESHUTDOWN:
		return worded{"the daemon has ended", errno}
	}
	return errno
}

// fail makes the house's error.
func (o *groupOut) fail(ctx context.Context, op, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errContext):
		return contextEnded(ctx, op, EscapeGroup(name))
	}
	kind := rendezvous.KindOf(err)
	if errors.As(err, new(lost)) || errors.Is(err, unix.ESHUTDOWN) {
		kind = rendezvous.Unavailable
	}
	return &rendezvous.Error{Op: op, Path: EscapeGroup(name), Kind: kind, Err: err}
}
