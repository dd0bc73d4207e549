package kernel

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// spliceMin is from how many bytes on, that lie in a socket, they are moved and not copied. Below, the two further
	// system calls cost more than the copy.
	spliceMin = 48 << 10

	// spliceRest is how many reads of a socket are copied after one whose data lay in too small pieces for a pipe.
	spliceRest = 64

	// pipeSize gives a pipe 256 places, each for a piece of up to 32 KiB; above it asks for CAP_SYS_RESOURCE.
	pipeSize = 1 << 20

	maxPipes = 4 // that are kept when nobody needs them
)

// A mover is a Stream whose data can go to the kernel without a copy through this process.
type mover interface {
	// move answers the READ unique of at most size bytes with what lies in the stream; buf has room for header and
	// size. false: nothing has happened.
	move(s *Server, unique uint64, size int, buf []byte) bool
}

var _ mover = (*Socket)(nil)

// move implements mover. The pages of the socket's data go into a pipe behind the reply's header, and from there to
// the caller, so that each byte is copied once, as by recv(2) of a socket of his own (splice(2); fuse_dev_splice_write in
// fs/fuse/dev.c of Linux).
func (k *Socket) move(s *Server, unique uint64, size int, buf []byte) bool {
	if k.datagram || s.pipes == nil || size < spliceMin {
		return false
	}
	if k.rest > 0 {
		k.rest--
		return false
	}
	var waiting int32
	_, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(k.fd), unix.SIOCINQ, uintptr(unsafe.Pointer(&waiting)))
	if errno != 0 || waiting < spliceMin {
		return false
	}
	p, ok := s.pipes.get()
	if !ok {
		return false
	}
	size = min(size, int(waiting))
	putOutHeader(buf, unique, 0, size)
	if n, _ := rawWrite(p.in, buf[:sizeOutHeader]); n != sizeOutHeader {
		p.close()
		return false
	}
	n := 0
	for n < size {
		part, errno := rawSplice(k.fd, p.in, size-n)
		if errno != 0 || part == 0 {
			if errno != errAgain {
				k.late = errno
			}
			break
		}
		n += part
	}
	switch {
	case n == size:
		if part, _ := rawSplice(p.out, s.fd, sizeOutHeader+n); part == sizeOutHeader+n {
			s.pipes.put(p)
		} else {
			p.close() // the request was given up, as in writeTo; what the pipe still holds is nobody's
		}
	case n > 0:
		// The header promises more than there is.
		k.rest = spliceRest
		got, _ := rawReadAll(p.out, buf[:sizeOutHeader+n])
		s.pipes.put(p)
		s.replyData(buf, unique, 0, got-sizeOutHeader)
	default:
		k.rest = spliceRest
		p.close()
		return false
	}
	k.In.Add(uint64(n))
	return true
}

// A pipeline is a pipe that is empty while nobody uses it.
type pipeline struct{ out, in int }

func (p pipeline) close() { unix.Close(p.out); unix.Close(p.in) }

// pipelines are the pipes of a server.
type pipelines struct {
	mu     sync.Mutex
	spare  []pipeline // guarded by mu
	broken bool       // guarded by mu: there can be none of that size
}

func (l *pipelines) get() (pipeline, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.spare); n > 0 {
		p := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return p, true
	}
	if l.broken {
		return pipeline{}, false
	}
	p, err := newPipeline(pipeSize)
	// pipe-max-size and the user's pages, of pipe(7), are there to stay.
	l.broken = err == unix.EPERM
	return p, err == nil
}

func newPipeline(size int) (pipeline, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return pipeline{}, err
	}
	p := pipeline{fds[0], fds[1]}
	if _, err := unix.FcntlInt(uintptr(p.in), unix.F_SETPIPE_SZ, size); err != nil {
		p.close()
		return pipeline{}, err
	}
	return p, nil
}

func (l *pipelines) put(p pipeline) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.spare) >= maxPipes {
		p.close()
		return
	}
	l.spare = append(l.spare, p)
}

func (l *pipelines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.spare {
		p.close()
	}
	l.spare, l.broken = nil, true
}

func rawSplice(from, to, n int) (int, syscall.Errno) {
	r, _, e := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	return max(int(r), 0), e
}

// rawReadAll fills b from a pipe that holds as much.
func rawReadAll(fd int, b []byte) (n int, e syscall.Errno) {
	for n < len(b) {
		r, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[n])), uintptr(len(b)-n))
		if e != 0 || r == 0 {
			return n, e
		}
		n += int(r)
	}
	return n, 0
}
