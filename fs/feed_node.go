package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/fs/quota"
)

var (
	_ freshNode           = (*feedNode)(nil)
	_ owned               = (*feedNode)(nil)
	_ kernel.Stream       = (*feedStream)(nil)
	_ kernel.CloseWatcher = (*feedStream)(nil)
)

// maxPiece is the largest message that can be written: 255 pages. The kernel cuts a larger write(2) at 256 pages, of which
// the first may begin anywhere, so every piece of one that is cut is larger than this, but the last: and that is never sent,
// since the error of the first ends the write.
const maxPiece = 255 * 4096

// messageFlags are those of a stream whose every close must be seen.
const messageFlags = kernel.StreamFlags &^ fuse.FOPEN_NOFLUSH

// feedNode is cluster/groups/NAME/feed or packets: each open of it is a membership.
type feedNode struct {
	groupFile
	packets bool
}

func (n *feedNode) mayWait() bool { return true }

func (n *feedNode) open(ctx context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno) {
	s, err := n.enter(ctx, c, flags)
	if err != nil {
		n.t.log.refused(c, "open "+n.path(), err)
		return kernel.Opened{}, errno(err)
	}
	n.t.inodes.opened(ctx.Value(inodeKey{}).(*inode), s)
	return kernel.Opened{Endpoint: s.ep, Flags: messageFlags}, 0
}

// enter makes a membership for c. Nothing less than O_RDWR will do, so that who looks for a word in all files joins nothing.
func (n *feedNode) enter(ctx context.Context, c caller, flags uint32) (*feedStream, error) {
	if flags&syscall.O_ACCMODE != syscall.O_RDWR {
		return nil, fmt.Errorf("a member reads and writes: %w", syscall.EINVAL)
	}
	who, err := n.t.groupCaller(c)
	if err != nil {
		return nil, err
	}
	q := n.t.opts.Quota
	if !q.Take(c.uid, quota.Memberships, 1) {
		return nil, fmt.Errorf("too many memberships: %w", syscall.ENOSPC)
	}
	s := &feedStream{t: n.t, uid: c.uid, packets: n.packets}
	err = inOrder(ctx, func(ctx context.Context) error {
		s.m, err = n.t.opts.Groups.Join(ctx, n.name, who, group.JoinOpts{})
		return err
	})
	if err != nil {
		q.Give(c.uid, quota.Memberships, 1)
		return nil, err
	}
	s.ep = n.t.opts.Server.NewEndpoint(s)
	s.ep.Hold(true)
	s.m.Notify(s.ep.WakeSoon)
	return s, nil
}

// join is an open of /dev/fd/N or /proc/PID/fd/N: another file of the same membership, whatever it is opened for.
func (n *feedNode) join(c caller, stream any, flags uint32) (kernel.Opened, syscall.Errno) {
	s := stream.(*feedStream)
	switch {
	case c.uid != s.uid && c.uid != 0:
		return kernel.Opened{}, syscall.EACCES
	case !s.ep.Hold(writes(flags)):
		return kernel.Opened{}, syscall.ENOENT
	}
	return kernel.Opened{Endpoint: s.ep, Flags: messageFlags}, 0
}

// feedStream is an open feed or packets: a membership of the process that opened it.
type feedStream struct {
	t       *Tree
	m       *group.Member
	uid     uint32
	packets bool
	ep      *kernel.Endpoint
	closed  atomic.Bool // by the last close(2) so far, which was no process's end
	room    roomTimer

	mu    sync.Mutex
	text  []byte        // guarded by mu: of a record that has been taken, what was not read
	begun bool          // guarded by mu: a part of it was
	next  *group.Record // guarded by mu: taken, to see whether there is one
	over  bool          // guarded by mu: there will be no more
	buf   []byte        // guarded by mu: where text lies
}

// keepText is how much room for text is kept when there is none.
const keepText = 64 << 10

// Read fills p with whole records, or with what it can of one that p has no room for. Of packets it gives one record, so that
// where one ends need not be guessed.
func (s *feedStream) Read(p []byte) (n int, _ syscall.Errno) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if len(s.text) > 0 {
			if n > 0 && len(s.text) > len(p)-n {
				return n, 0
			}
			took := copy(p[n:], s.text)
			n += took
			s.text = s.text[took:]
			s.begun = len(s.text) > 0
			if s.begun || s.packets {
				return n, 0
			}
			continue
		}
		if cap(s.buf) > keepText {
			s.buf = nil
		}
		switch errno := s.take(); {
		case errno == 0 && s.over, errno != 0 && n > 0:
			return n, 0
		case errno != 0:
			return 0, errno
		}
		r := s.next
		s.next = nil
		if room := p[n:len(p):len(p)]; s.fits(r, len(room)) {
			out := s.append(room[:0], r)
			if len(out) <= len(room) {
				n += len(out)
				if s.packets {
					return n, 0
				}
				continue
			}
			s.text = out // there was less room than it needs, so it lies elsewhere
			continue
		}
		s.buf = s.append(s.buf[:0], r)
		s.text = s.buf
	}
}

// take sees to it that next is the next record, or that over is true; EAGAIN: there is none now. mu is held.
func (s *feedStream) take() syscall.Errno {
	if s.next != nil || s.over {
		return 0
	}
	r, err := s.m.Next()
	switch {
	case err == nil:
		s.next = r
	case errors.Is(err, io.EOF):
		s.over = true
	default:
		return errno(err)
	}
	return 0
}

func (s *feedStream) append(b []byte, r *group.Record) []byte {
	if s.packets {
		return r.AppendPacket(b)
	}
	return r.AppendText(b)
}

// fits tells whether a record has surely room in n bytes, so that it can be written there at once.
func (s *feedStream) fits(r *group.Record, n int) bool {
	const head, member = 128, 64 // of a line or a packet; of one who is named in it
	return head+4*len(r.Data)+member*(len(r.Members)+len(r.Joined)+len(r.Left)+len(r.Nodes)) <= n
}

// Write sends p as one message, or does nothing.
func (s *feedStream) Write(p []byte) (int, syscall.Errno) {
	data := p
	if !s.packets {
		data = bytes.TrimSuffix(p, newline)
	}
	return sendPiece(s.m, p, data)
}

var newline = []byte{'\n'}

// sendPiece sends data, which is what p means.
func sendPiece(to interface {
	Send(data []byte, own bool) error
}, p, data []byte) (int, syscall.Errno) {
	if len(p) > maxPiece {
		return 0, syscall.EMSGSIZE
	}
	if err := to.Send(data, false); err != nil {
		return 0, errno(err)
	}
	return len(p), 0
}

func (s *feedStream) Poll() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ready uint32
	if len(s.text) > 0 || s.take() == 0 && s.next != nil {
		ready = kernel.PollIn
	} else if s.over {
		return kernel.PollHangup
	}
	return ready | s.room.poll(s.m, s.ep)
}

// Arm does nothing: the membership tells of every change.
func (s *feedStream) Arm(*kernel.Endpoint) {}

// CloseWrite does nothing: a member hears what is said, whether he says something or not.
func (s *feedStream) CloseWrite() {}

// Closing implements kernel.CloseWatcher.
func (s *feedStream) Closing(pid uint32) { s.closed.Store(hasMemory(pid)) }

// Close ends the membership: as a leave where a close(2) has done it, else as a death.
func (s *feedStream) Close() {
	reason := group.ProcDown
	if s.closed.Load() {
		reason = group.Leave
	}
	s.m.Leave(reason)
	s.room.stop()
	s.t.opts.Quota.Give(s.uid, quota.Memberships, 1)
}

// hasMemory tells whether a thread's process is alive. One that ends lets go of its memory before its files (do_exit in
// kernel/exit.c of Linux), and so it is with the thread of the kernel that then closes them in its place. That it ends stands in
// /proc/PID/stat too, but to read that can wait for a process that is in execve(2), which may be the one that waits for us.
func hasMemory(pid uint32) bool {
	fd, err := unix.Open("/proc/"+strconv.FormatUint(uint64(pid), 10)+"/statm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var buf [128]byte
	n, err := unix.Read(fd, buf[:])
	return err == nil && len(bytes.Trim(buf[:n], "0 \n")) > 0
}
