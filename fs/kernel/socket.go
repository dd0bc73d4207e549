package kernel

import (
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bits of poll(2) that x/sys/unix leaves out, and sets of them.
const (
	pollRdNorm = 0x40
	pollWrNorm = 0x100

	// PollIn and PollOut are what a stream answers to poll(2) that can be read, or written, without waiting.
	PollIn  = unix.POLLIN | pollRdNorm
	PollOut = unix.POLLOUT | pollWrNorm
	// PollHangup is what a stream that is over answers, as a closed one does.
	PollHangup = PollIn | PollOut | unix.POLLHUP
)

// A Socket is a Stream over a connected socket. It owns the descriptor.
type Socket struct {
	fd       int
	set      *sockets
	datagram bool
	armed    atomic.Bool // is in the epoll set

	// Guarded by the endpoint's rmu:
	off  int           // how much of the first datagram was read already
	rest int           // how many reads are still to be copied, not moved
	late syscall.Errno // an error that came behind data: the next read's

	// In and Out count bytes from and to the peer.
	In, Out atomic.Uint64
	shut    atomic.Bool
}

// NewSocket returns the stream of a connected, non-blocking socket.
func (s *Server) NewSocket(fd int, datagram bool) *Socket {
	return &Socket{fd: fd, set: s.sockets, datagram: datagram}
}

// Read implements [Stream]. Of a datagram socket each read gives one datagram, or its rest, never two.
func (k *Socket) Read(p []byte) (int, syscall.Errno) {
	if k.datagram {
		return k.readDatagram(p)
	}
	if k.late != 0 {
		errno := k.late
		k.late = 0
		return 0, errno
	}
	n, errno := rawRecv(k.fd, p, 0)
	if errno != 0 {
		return 0, errno
	}
	k.In.Add(uint64(n))
	return n, 0
}

// readDatagram leaves a datagram of which only a part was asked for in the socket until the last part is read: so it
// costs the kernel's memory, which is the caller's socket's and bounded, and poll(2) is right.
func (k *Socket) readDatagram(p []byte) (int, syscall.Errno) {
	size, err := unix.IoctlGetInt(k.fd, unix.SIOCINQ) // of the first datagram: udp(7)
	if err != nil || k.off == 0 && size <= len(p) {
		n, errno := rawRecv(k.fd, p, 0)
		if errno != 0 {
			return 0, errno
		}
		k.In.Add(uint64(n))
		return n, 0
	}
	buf := make([]byte, k.off+len(p))
	n, errno := rawRecv(k.fd, buf, syscall.MSG_PEEK)
	if errno != 0 {
		return 0, errno
	}
	part := buf[min(k.off, n):n]
	copy(p, part)
	k.off += len(part)
	if k.off >= size {
		k.off = 0
		if _, errno := rawRecv(k.fd, buf[:1], 0); errno == 0 { // what does not fit is dropped
			k.In.Add(uint64(size))
		}
	}
	return len(part), 0
}

// Write implements [Stream].
func (k *Socket) Write(p []byte) (int, syscall.Errno) {
	n, errno := rawSend(k.fd, p)
	if errno != 0 {
		return 0, errno
	}
	k.Out.Add(uint64(n))
	return n, 0
}

// Poll implements [Stream]: what poll(2) says of the socket. Asking also makes TCP tell of write space later.
func (k *Socket) Poll() uint32 {
	p := unix.PollFd{Fd: int32(k.fd), Events: PollIn | PollOut | unix.POLLPRI | unix.POLLRDHUP}
	var zero unix.Timespec
	syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&zero)), 0, 0, 0)
	return uint32(uint16(p.Revents))
}

// Arm implements [Stream].
func (k *Socket) Arm(e *Endpoint) { k.set.arm(k, e) }

// CloseWrite implements [Stream].
func (k *Socket) CloseWrite() {
	k.shut.Store(true)
	_ = unix.Shutdown(k.fd, unix.SHUT_WR) // ENOTCONN: the peer was faster
}

// Traffic returns how many bytes came from the peer and went to it.
func (k *Socket) Traffic() (in, out uint64) { return k.In.Load(), k.Out.Load() }

// Shut tells whether the sending side was closed.
func (k *Socket) Shut() bool { return k.shut.Load() }

// Close implements [Stream].
func (k *Socket) Close() { k.set.close(k) }

// sockets is the one epoll set of a server.
type sockets struct {
	epfd int
	wake int // an eventfd that ends the pollers

	mu   sync.Mutex
	byFD map[int32]*Endpoint // guarded by mu
}

func newSockets() (*sockets, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		unix.Close(epfd)
		return nil, err
	}
	return &sockets{epfd: epfd, wake: wake, byFD: map[int32]*Endpoint{}}, nil
}

// arm puts a socket into the epoll set when it waits for the first time; one that never waits is never there.
// Edge-triggered, it stays armed for good: each change wakes the endpoint once. If the socket is ready by now, the
// kernel tells at once.
func (t *sockets) arm(k *Socket, e *Endpoint) {
	if k.armed.Load() || !k.armed.CompareAndSwap(false, true) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byFD[int32(k.fd)] = e
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET, Fd: int32(k.fd)}
	if err := unix.EpollCtl(t.epfd, unix.EPOLL_CTL_ADD, k.fd, &ev); err != nil {
		// Memory, or the limit of max_user_watches: without a wake-up the caller would wait for ever, so the
		// stream ends for him instead.
		_ = unix.Shutdown(k.fd, unix.SHUT_RDWR)
		e.WakeSoon()
	}
}

// close closes a socket. An event of it that a poller already holds may find the next socket with its number, whose
// endpoint is then woken for nothing.
func (t *sockets) close(k *Socket) {
	t.mu.Lock()
	if k.armed.Load() {
		delete(t.byFD, int32(k.fd))
	}
	t.mu.Unlock()
	unix.Close(k.fd)
}

func (t *sockets) poll(buf []byte) {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(t.epfd, events, -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			if ev.Fd == int32(t.wake) {
				return
			}
			t.mu.Lock()
			e := t.byFD[ev.Fd]
			t.mu.Unlock()
			if e != nil {
				const both = unix.EPOLLERR | unix.EPOLLHUP
				e.serve(buf, ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|both) != 0, ev.Events&(unix.EPOLLOUT|both) != 0)
			}
		}
	}
}

// stop ends the pollers; level-triggered, the eventfd wakes each of them.
func (t *sockets) stop() {
	_, _ = unix.Write(t.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// closeSet frees the set once no poller uses it.
func (t *sockets) closeSet() {
	unix.Close(t.epfd)
	unix.Close(t.wake)
}
