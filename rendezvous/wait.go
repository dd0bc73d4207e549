package rendezvous

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// wait goes on where next has left something pending: it waits for answers, and begins further attempts in time. It
// closes all sockets but the one that it returns. errEnded says that ctx has ended.
func (d *dial) wait(ctx context.Context) (attempt, error) {
	defer func() {
		for _, a := range d.pending {
			unix.Close(a.fd)
		}
	}()
	p, err := newPoller()
	if err != nil {
		return attempt{}, err
	}
	defer p.close()
	defer context.AfterFunc(ctx, p.wake)()

	now := time.Now()
	end := now.Add(d.opts.Timeout)
	follow := now.Add(attemptDelay) // when the next attempt begins
	added := 0                      // how many of d.pending the poller knows
	for {
		for ; added < len(d.pending); added++ {
			if err := p.add(d.pending[added].fd); err != nil {
				return attempt{}, err
			}
		}
		until := end
		if len(d.rest) > 0 && follow.Before(end) {
			until = follow
		}
		ready, err := p.wait(ctx, until)
		if err != nil {
			return attempt{}, err
		}
		for _, fd := range ready {
			a := d.take(fd)
			added--
			if err := socketError(fd); err != nil {
				p.remove(fd)
				unix.Close(fd)
				d.failed(err)
				continue
			}
			return a, nil
		}
		now := time.Now()
		if !now.Before(end) {
			d.failed(unix.ETIMEDOUT)
			return attempt{}, d.err
		}
		if len(ready) > 0 || !now.Before(follow) {
			a, err := d.next()
			if !errors.Is(err, errPending) {
				return a, err
			}
			follow = now.Add(attemptDelay)
		}
	}
}

// take removes the attempt with that descriptor from those pending. They stay in order, so that the poller knows the
// first ones.
func (d *dial) take(fd int) attempt {
	for i, a := range d.pending {
		if a.fd == fd {
			d.pending = append(d.pending[:i], d.pending[i+1:]...)
			return a
		}
	}
	return attempt{fd: fd}
}

// A poller waits for several sockets at once, without a goroutine or a thread for each. It is an epoll of its own, and
// only the epoll is handed to Go's poller: a socket that was there once would stay in its books under a number that
// soon belongs to somebody else, and the winner leaves here as a bare descriptor.
type poller struct {
	fd   int
	file *os.File // owns fd
	conn syscall.RawConn
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	// Not for epoll itself: os.NewFile takes this flag as the sign that the descriptor can be waited for.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "epoll")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &poller{fd: fd, file: file, conn: conn}, nil
}

func (p *poller) close() { p.file.Close() }

func (p *poller) add(fd int) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)})
}

// remove must come before close(2): a child that another goroutine has forked and that has not yet called execve
// keeps the socket open, and with it its place in the epoll.
func (p *poller) remove(fd int) {
	unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil)
}

// wake ends a wait, for good.
func (p *poller) wake() { p.file.SetReadDeadline(time.Unix(1, 0)) }

// wait returns the descriptors that are ready, or none when the time has come; errEnded when ctx has ended.
func (p *poller) wait(ctx context.Context, until time.Time) ([]int, error) {
	if err := p.file.SetReadDeadline(until); err != nil {
		return nil, err
	}
	// After the deadline is set, for it could have undone that of wake.
	if ctx.Err() != nil {
		return nil, errEnded
	}
	var events [8]unix.EpollEvent
	var n int
	var failure error
	err := p.conn.Read(func(fd uintptr) bool {
		n, failure = unix.EpollWait(int(fd), events[:], 0)
		if failure == unix.EINTR {
			n, failure = 0, nil
		}
		return n > 0 || failure != nil
	})
	switch {
	case ctx.Err() != nil:
		return nil, errEnded
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, nil
	case err != nil:
		return nil, err
	case failure != nil:
		return nil, failure
	}
	ready := make([]int, n)
	for i := range ready {
		ready[i] = int(events[i].Fd)
	}
	return ready, nil
}
