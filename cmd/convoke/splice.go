package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// spliceSize is what one splice(2) may move; a pipe's size bounds it first.
const spliceSize = 1 << 20

// receive copies what comes from the socket to w until it ends.
func receive(w io.Writer, s *socket) error {
	// When nobody reads the pipe any more, pump finds out once more: os.Stdout
	// ends the process by SIGPIPE then, as cat(1) ends.
	if out, ok := pipeOf(w); !ok || s.path.Proto == rendezvous.UDP {
	} else if err := splice(out, s.fd); err != unix.EINVAL && err != unix.EPIPE {
		return s.failed("read", err)
	}
	return pump(w, s)
}

// transmit copies r to the socket until it ends.
func transmit(s *socket, r io.Reader) error {
	if s.path.Proto == rendezvous.UDP {
		_, err := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{r}, make([]byte, maxDatagram))
		return err
	}
	if in, ok := pipeOf(r); ok {
		if err := splice(s.fd, in); err != unix.EINVAL {
			return s.failed("write", err)
		}
	}
	return pump(s, r)
}

// pipeOf returns the descriptor of a file that is a pipe. It stays the file's.
func pipeOf(file any) (fd int, ok bool) {
	f, ok := file.(*os.File)
	if !ok {
		return -1, false
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, false
	}
	var st unix.Stat_t
	err = raw.Control(func(n uintptr) {
		fd = int(n)
		ok = unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
	})
	return fd, ok && err == nil
}

// splice moves what comes from src to dst, of which one is a pipe, until src
// ends. EINVAL: these two cannot be spliced, and nothing has been moved.
//
// It waits in poll(2) and never in splice(2), which would hold the lock of the
// pipe meanwhile: whoever reads the other end of the pipe could not even be
// killed until something comes (fs/splice.c, splice_file_to_pipe).
func splice(dst, src int) error {
	for {
		n, err := unix.Splice(src, nil, dst, nil, spliceSize, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch {
		case err == unix.EAGAIN:
			if err := wait(src, unix.POLLIN); err != nil {
				return err
			}
			if err := wait(dst, unix.POLLOUT); err != nil {
				return err
			}
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return nil
		}
	}
}
