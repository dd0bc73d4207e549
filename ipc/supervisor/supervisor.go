package supervisor

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// idleReceivers is how many goroutines wait for notifications at the least when none is there. The kernel wakes them by
// turns, so the fewer they are, the warmer they are.
const idleReceivers = 2

// maxWalking is how many paths are walked at a time. A file system that does not answer keeps a thread of this process
// for each path that leads there, and a program can make many of them. Beyond it the kernel does what is asked, by itself.
const maxWalking = 1024

// supervisor answers the notifications of one filter.
type supervisor struct {
	listener listener
	mounts   *mounts
	own      identity
	attempts *attempts
	ctx      context.Context
	idle     atomic.Int32 // goroutines that wait for a notification, or are about to do so
	// chroot(2) has been called. pivot_root(2), the other call that gives threads another root, gives it to all that had
	// the old one, to this process too. setns(2) gives one of another mount namespace, which identity tells.
	moved atomic.Bool
	// setgroups(2) has been called.
	regrouped atomic.Bool
	// landlock_restrict_self(2) has been called. Whose opens it has restricted nobody can tell: the kernel shows no
	// thread's domain, and children keep it when their parents have gone. So nobody gets a socket any more.
	restricted atomic.Bool
	walking    atomic.Int32
}

// newSupervisor looks at what there is: the tree at dir, a path without symbolic links, and who this process is.
func newSupervisor(ctx context.Context, l listener, dir string, dial func(context.Context) (Client, error)) (*supervisor, error) {
	s := &supervisor{listener: l, ctx: ctx}
	var err error
	if s.mounts, err = watchMounts(dir); err != nil {
		return nil, err
	}
	if s.mounts.tree == (device{}) {
		s.mounts.close()
		return nil, fmt.Errorf("%s: nothing is mounted there", dir)
	}
	var scratch []byte
	if err := s.own.who(uint32(unix.Getpid()), true, &scratch); err != nil {
		s.mounts.close()
		return nil, fmt.Errorf("own identity: %w", err)
	}
	c := &clients{dial: dial}
	first, err := c.get(ctx)
	if err != nil {
		s.mounts.close()
		return nil, err
	}
	c.put(first, false)
	s.attempts = newAttempts(s, c.open)
	return s, nil
}

// run answers until no thread has the filter any more.
func (s *supervisor) run() {
	s.listener.hurry()
	s.idle.Store(idleReceivers)
	for range idleReceivers {
		go s.receive()
	}
	s.listener.ended()
}

// receive takes notifications and answers them. Whatever an answer waits for (a connection, a file system that does not
// answer) holds up the thread that asked and nobody else: when the last receiver has become busy, there is a new one.
func (s *supervisor) receive() {
	w := &walker{mounts: s.mounts, moved: &s.moved}
	var n notification
	var its identity
	for {
		switch s.listener.receive(&n) {
		case 0:
		case unix.EINTR, unix.ENOENT:
			continue
		default: // nobody has the filter any more
			return
		}
		if s.idle.Add(-1) == 0 {
			s.idle.Add(1)
			go s.receive()
		}
		s.handle(w, &n, &its)
		if s.idle.Add(1) > idleReceivers {
			s.idle.Add(-1)
			return
		}
	}
}

// handle answers one notification.
func (s *supervisor) handle(w *walker, n *notification, its *identity) {
	switch n.changes() {
	case newRoot:
		s.moved.Store(true)
		s.listener.pass(n.ID)
		return
	case newGroups:
		s.regrouped.Store(true)
		s.listener.pass(n.ID)
		return
	case newDomain:
		s.restricted.Store(true)
		s.listener.pass(n.ID)
		return
	}
	want, ok := wanted{}, false
	if s.walking.Add(1) <= maxWalking {
		want, ok = w.want(n)
	}
	s.walking.Add(-1)
	switch {
	case want.probe:
		s.listener.fail(n.ID, unix.EALREADY)
	case ok && !s.restricted.Load() && s.isOwn(w, n, its):
		s.attempts.serve(s.ctx, request{n.ID, n.TID, want})
	default:
		s.listener.pass(n.ID)
	}
}

// isOwn tells whether the thread is who this process is. What has been read of it was its only if it still waits.
func (s *supervisor) isOwn(w *walker, n *notification, its *identity) bool {
	groups := s.regrouped.Load()
	return its.who(n.TID, groups, &w.scratch) == nil && s.own.same(its, groups) && s.listener.valid(n.ID)
}

func (s *supervisor) valid(id uint64) bool { return s.listener.valid(id) }

// answer implements responder.
func (s *supervisor) answer(r request, with result) unix.Errno {
	switch {
	case with.errno != 0:
		return s.listener.fail(r.id, with.errno)
	case with.fd == noFD:
		s.listener.pass(r.id)
		return 0
	}
	flags := 0
	if r.nonblock {
		flags = unix.O_NONBLOCK
	}
	if _, err := unix.FcntlInt(uintptr(with.fd), unix.F_SETFL, flags); err != nil {
		return s.listener.fail(r.id, unix.EIO)
	}
	// It takes no longer than the thread needs to take the descriptor, but that thread may open the next file first.
	s.idle.Add(1)
	errno := s.listener.give(r.id, with.fd, r.cloexec)
	s.idle.Add(-1)
	if errno != 0 && errno != unix.ENOENT {
		errno = s.listener.fail(r.id, errno)
	}
	return errno
}
