package fs

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/fs/kernel"
)

const (
	// firstLook and maxLook bound how often it is looked whether a socket whose binder is dead is served by others still.
	// The time doubles from one to the other.
	firstLook = time.Second
	maxLook   = time.Minute
)

// binders are the processes that have bound sockets in dev/fdp/local. When one ends, so do the names of its sockets,
// unless another process has got the socket from it and serves it still.
//
// One goroutine waits for all of them, by one epoll(7) set of their pidfds. Whoever looks a name up need not wait for it.
type binders struct {
	d     *socketDir
	byPID map[int]*binder // guarded by d.mu
	set   *os.File        // guarded by d.mu: the epoll set; nil before the first bind
	ended bool            // guarded by d.mu
	done  chan struct{}   // closed when the goroutine has ended; made with set
	dev   uint32          // guarded by d.mu: the mount's device number; 0: not known yet
}

// binder is a process.
type binder struct {
	pid, fd int
	foreign bool // it is in another network namespace, where its sockets cannot be seen
	dead    bool // guarded by socketDir.mu
	sockets int  // guarded by socketDir.mu: how many of its sockets are in the folder
}

func newBinders(d *socketDir) *binders { return &binders{d: d, byPID: map[int]*binder{}} }

// find returns the binder of a process that waits for an answer, for one socket more; d.mu is held.
func (b *binders) find(pid int, foreign bool) (*binder, error) {
	if p := b.byPID[pid]; p != nil && !p.isDead() {
		return p, nil
	}
	if b.set == nil {
		if err := b.start(); err != nil {
			return nil, err
		}
	}
	fd, err := unix.PidfdOpen(pid, 0) // which is close-on-exec
	if err != nil {
		return nil, err
	}
	// Once: a pidfd is readable from its process's end on.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}
	if err := b.control(func(set int) error { return unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &ev) }); err != nil {
		unix.Close(fd)
		return nil, err
	}
	p := &binder{pid: pid, fd: fd, foreign: foreign}
	b.byPID[pid] = p
	return p, nil
}

// release counts one socket of p less; d.mu is held.
func (b *binders) release(p *binder) {
	if p.sockets--; p.sockets > 0 {
		return
	}
	if b.byPID[p.pid] == p {
		delete(b.byPID, p.pid)
	}
	unix.Close(p.fd) // which takes it out of the set
}

// isDead asks the kernel; d.mu is held.
func (p *binder) isDead() bool {
	if !p.dead {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		p.dead = err == nil && n > 0
	}
	return p.dead
}

// start makes the set and the goroutine; d.mu is held.
func (b *binders) start() error {
	if b.ended {
		return unix.ESHUTDOWN
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	_ = unix.SetNonblock(fd, true) // so that Go's poller takes it, and no thread waits
	b.set = os.NewFile(uintptr(fd), "binders")
	b.done = make(chan struct{})
	go b.run(b.set)
	return nil
}

// control calls f with the set's descriptor.
func (b *binders) control(f func(set int) error) error {
	raw, err := b.set.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}

// run waits for the end of binders.
func (b *binders) run(set *os.File) {
	defer close(b.done)
	raw, err := set.SyscallConn()
	look := firstLook
	for err == nil {
		events := make([]unix.EpollEvent, 16)
		err = raw.Read(func(fd uintptr) bool {
			n, err := unix.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
		switch {
		case err == nil:
			look = firstLook
		case errors.Is(err, os.ErrDeadlineExceeded):
			look = min(2*look, maxLook)
			err = nil
		default:
			return // closed
		}
		var next time.Time
		if b.d.sweep() {
			next = time.Now().Add(look)
		}
		err = set.SetReadDeadline(next)
	}
}

// close ends the goroutine and forgets all binders.
func (b *binders) close() {
	b.d.mu.Lock()
	b.ended = true
	set := b.set
	b.d.mu.Unlock()
	if set == nil {
		return
	}
	set.Close()
	<-b.done
	b.d.mu.Lock()
	defer b.d.mu.Unlock()
	for _, s := range b.d.sockets {
		if s.binder != nil {
			b.d.drop(s)
		}
	}
}

// sweep takes away the sockets that nobody serves any more. It tells whether there are some whose binder is dead and
// that others serve.
func (d *socketDir) sweep() (orphans bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.sockets {
		if !d.alive(s) {
			d.drop(s)
		} else if s.orphan {
			orphans = true
		}
	}
	return orphans
}

// alive tells whether anybody serves a socket; mu is held. That is its binder; after his end, whoever has the socket from
// him, as the kernel shows it. Of another network namespace it shows nothing, so there the end of the binder is the
// end.
func (d *socketDir) alive(s *socketNode) bool {
	if s.binder == nil || !s.binder.isDead() {
		return true
	}
	if s.binder.foreign {
		return false
	}
	var err error
	if !s.orphan {
		s.orphan = true
		s.holders, err = d.bound(s)
	} else {
		s.holders = slices.DeleteFunc(s.holders, func(number uint32) bool { return !socketExists(number) })
	}
	return err == nil && len(s.holders) > 0
}

// bound finds the sockets that are bound to s; mu is held.
func (d *socketDir) bound(s *socketNode) ([]uint32, error) {
	if d.binders.dev == 0 {
		dev, err := kernel.Device(d.t.opts.Dir)
		if err != nil {
			return nil, err
		}
		d.binders.dev = dev
	}
	return boundSockets(d.binders.dev, uint32(s.ino))
}
