package fs

import (
	"bytes"
	"context"
	"fmt"
	"syscall"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/fs/quota"
)

var (
	_ freshNode     = (*sendNode)(nil)
	_ owned         = (*sendNode)(nil)
	_ kernel.Stream = (*sendStream)(nil)
)

// sendNode is cluster/groups/NAME/send: who writes to it sends to the group without being a member. Each open has a number
// of its own, so that one who waits for room holds up nobody else.
type sendNode struct{ groupFile }

func (n *sendNode) mayWait() bool { return true } // for his turn

func (n *sendNode) open(ctx context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno) {
	s, err := n.sender(c, flags)
	if err != nil {
		n.t.log.refused(c, "open "+n.path(), err)
		return kernel.Opened{}, errno(err)
	}
	n.t.inodes.opened(ctx.Value(inodeKey{}).(*inode), s)
	return kernel.Opened{Endpoint: s.ep, Flags: kernel.StreamFlags}, 0
}

func (n *sendNode) sender(c caller, flags uint32) (*sendStream, error) {
	if flags&syscall.O_ACCMODE != syscall.O_WRONLY {
		return nil, fmt.Errorf("there is nothing to be read: %w", syscall.EINVAL)
	}
	who, err := n.t.groupCaller(c)
	if err != nil {
		return nil, err
	}
	q := n.t.opts.Quota
	if !q.Take(c.uid, quota.Streams, 1) {
		return nil, fmt.Errorf("too many streams are open: %w", syscall.EMFILE)
	}
	s := &sendStream{t: n.t, uid: c.uid}
	if s.s, err = n.t.opts.Groups.Sender(n.name, who); err != nil {
		q.Give(c.uid, quota.Streams, 1)
		return nil, err
	}
	s.ep = n.t.opts.Server.NewEndpoint(s)
	s.ep.Hold(true)
	s.s.Notify(s.ep.WakeSoon)
	return s, nil
}

// join is an open of /dev/fd/N or /proc/PID/fd/N.
func (n *sendNode) join(c caller, stream any, flags uint32) (kernel.Opened, syscall.Errno) {
	s := stream.(*sendStream)
	switch {
	case c.uid != s.uid && c.uid != 0:
		return kernel.Opened{}, syscall.EACCES
	case flags&syscall.O_ACCMODE != syscall.O_WRONLY:
		return kernel.Opened{}, syscall.EINVAL
	case !s.ep.Hold(true):
		return kernel.Opened{}, syscall.ENOENT
	}
	return kernel.Opened{Endpoint: s.ep, Flags: kernel.StreamFlags}, 0
}

// sendStream is an open send.
type sendStream struct {
	t   *Tree
	uid uint32
	s   *group.Sender
	ep  *kernel.Endpoint

	room roomTimer
}

func (s *sendStream) Read([]byte) (int, syscall.Errno) { return 0, syscall.EBADF }

// Write sends p as one message, or does nothing.
func (s *sendStream) Write(p []byte) (int, syscall.Errno) {
	return sendPiece(s.s, p, bytes.TrimSuffix(p, newline))
}

func (s *sendStream) Poll() uint32 {
	return s.room.poll(s.s, s.ep)
}

// Arm does nothing: the sender tells when there is room.
func (s *sendStream) Arm(*kernel.Endpoint) {}

func (s *sendStream) CloseWrite() {}

func (s *sendStream) Close() {
	s.s.Close()
	s.room.stop()
	s.t.opts.Quota.Give(s.uid, quota.Streams, 1)
}
