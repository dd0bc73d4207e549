package ipc

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// orderTime is how long a join waits for the cluster's order.
const orderTime = 30 * time.Second

var errNoOrder = fmt.Errorf("the cluster has not agreed within %v: %w", orderTime, unix.ETIMEDOUT)

// Groups are the process groups that a Server's clients may join. Both methods are called from many goroutines. Their
// errors are as those of files: with a syscall.Errno within.
type Groups interface {
	// Join makes c a member of the group of this name, any bytes, and returns when the join is ordered. It may wait, and
	// returns soon when ctx ends. With create it makes a missing group; else that is ENOENT.
	Join(ctx context.Context, name string, c rendezvous.Caller, create bool) (Membership, error)
	// Sender gives what sends to the group for c, who is no member. It does not wait.
	Sender(name string, c rendezvous.Caller) (Sending, error)
}

// Membership is a process's membership in a group. The Server calls Send and Leave from one goroutine at a time, Next
// from another; none may wait.
type Membership interface {
	// ID tells which member it is.
	ID() Process
	// Send multicasts data. With own the group may keep data as it is, up to its capacity; without, it copies what it
	// keeps. EAGAIN: there is no room now; nothing was sent. Every other error is final.
	Send(data []byte, own bool) error
	// Next makes r the next record; the slices in it are the group's, and stay as they are. EAGAIN: there is none now;
	// io.EOF: there will be none any more.
	Next(r *Record) error
	// Ended tells whether the membership has ended, also where Next still has records. The Server asks that of a member
	// that does not read.
	Ended() bool
	// Notify has f called when Send or Next may do better than before. f does not wait for anybody. It may be called
	// from any goroutine that holds no lock, also within Send and Leave.
	Notify(f func())
	// Leave ends the membership: with the reason LEAVE, or with PROCDOWN. Next goes on until io.EOF. It may be called
	// more than once; only the first counts.
	Leave(r Reason)
}

// Sending sends to a group without being its member; the methods are as those of Membership.
type Sending interface {
	Send(data []byte, own bool) error
	Notify(f func())
	Close()
}

// sender makes a Membership of a Sending: one in which nothing happens until it ends.
type sender struct {
	Sending
	left atomic.Bool
}

func (s *sender) ID() Process { return Process{} }

func (s *sender) Next(*Record) error {
	if s.left.Load() {
		return io.EOF
	}
	return unix.EAGAIN
}

func (s *sender) Ended() bool { return s.left.Load() }

func (s *sender) Leave(Reason) {
	if !s.left.Swap(true) {
		s.Close()
	}
}

// group does a JOIN or SENDER.
func (c *serverConn) group(h header, body []byte) verdict {
	m, err := decodeJoinRequest(body)
	switch {
	case c.s.opts.Groups == nil:
		return c.refuse(h, unix.ENOSYS)
	case err != nil, h.op == opJoin && m.flags&^joinCreate != 0, h.op == opSender && m.flags != 0:
		return c.refuse(h, unix.EINVAL)
	case h.op == opSender:
		return c.work(h, m.name, c.sender)
	}
	return c.work(h, m.name, func(ctx context.Context, h header, name string) ([]byte, []int, func(bool), error) {
		ctx, cancel := context.WithTimeoutCause(ctx, c.s.order, errNoOrder)
		defer cancel()
		member, err := c.s.opts.Groups.Join(ctx, name, c.caller, m.flags&joinCreate != 0)
		if err != nil && context.Cause(ctx) == errNoOrder {
			err = errNoOrder
		}
		if err != nil {
			return nil, nil, nil, err
		}
		return c.handFeed(h, member, joined(member.ID()).append)
	})
}

// sender makes what sends to a group without joining.
func (c *serverConn) sender(_ context.Context, h header, name string) ([]byte, []int, func(bool), error) {
	s, err := c.s.opts.Groups.Sender(name, c.caller)
	if err != nil {
		return nil, nil, nil, err
	}
	return c.handFeed(h, &sender{Sending: s}, func(b []byte) []byte { return b })
}

// handFeed makes the stream of a membership and the answer that hands it over.
func (c *serverConn) handFeed(h header, m Membership, body func([]byte) []byte) ([]byte, []int, func(bool), error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		m.Leave(ProcDown)
		return nil, nil, nil, err
	}
	f, err := newFeed(c.s, pair[0], c.caller.UID, m)
	if err != nil {
		unix.Close(pair[1])
		return nil, nil, nil, err
	}
	b := body(appendHeader(make([]byte, 0, 64), header{op: h.op | opAnswer, tag: h.tag, count: 1}))
	return b, []int{pair[1]}, func(sent bool) {
		// Where it was not sent, this was the last descriptor of the client's end, and the feed sees that.
		unix.Close(pair[1])
		if sent {
			c.s.joins.Add(1)
		}
		f.start()
	}, nil
}
