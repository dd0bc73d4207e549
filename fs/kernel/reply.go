package kernel

import (
	"encoding/binary"
	"syscall"
)

// The replies of the requests that the loop answers itself. A reply whose request the kernel has given up is ENOENT
// from write(2); nobody waits for it, so nobody hears of it.

func (s *Server) replyError(unique uint64, errno syscall.Errno) {
	var b [sizeOut]byte
	putOutHeader(b[:], unique, errno, 0)
	s.writeTo(b[:])
}

// replyData answers a READ with the n bytes that lie in b behind room for the header.
func (s *Server) replyData(b []byte, unique uint64, errno syscall.Errno, n int) {
	if errno != 0 {
		n = 0
	}
	putOutHeader(b, unique, errno, n)
	s.writeTo(b[:sizeOutHeader+n])
}

func (s *Server) replyWrite(unique uint64, errno syscall.Errno, n int) {
	if errno != 0 {
		s.replyError(unique, errno)
		return
	}
	var b [sizeOut + 8]byte // struct fuse_write_out
	putOutHeader(b[:], unique, 0, 8)
	binary.NativeEndian.PutUint32(b[sizeOut:], uint32(n))
	s.writeTo(b[:])
}

func (s *Server) replyPoll(unique uint64, revents uint32) {
	var b [sizeOut + 8]byte // struct fuse_poll_out
	putOutHeader(b[:], unique, 0, 8)
	binary.NativeEndian.PutUint32(b[sizeOut:], revents)
	s.writeTo(b[:])
}

func (s *Server) replyOpen(unique, fh uint64, flags uint32) syscall.Errno {
	var b [sizeOut + 16]byte // struct fuse_open_out
	putOutHeader(b[:], unique, 0, 16)
	binary.NativeEndian.PutUint64(b[sizeOut:], fh)
	binary.NativeEndian.PutUint32(b[sizeOut+8:], flags)
	return s.writeTo(b[:])
}

// notifyPoll tells the kernel that whoever polls the file with handle kh should ask again.
func (s *Server) notifyPoll(kh uint64) {
	var b [sizeOut + 8]byte // struct fuse_notify_poll_wakeup_out
	putNotify(b[:], notifyPoll, 8)
	binary.NativeEndian.PutUint64(b[sizeOut:], kh)
	s.writeTo(b[:])
}

const sizeOut = 16 // sizeOutHeader, as a constant for array types

// putNotify writes the header of a message that answers no request: unique 0, and the code where the error would be.
func putNotify(b []byte, code int32, n int) {
	binary.NativeEndian.PutUint32(b[0:], uint32(sizeOut+n))
	binary.NativeEndian.PutUint32(b[4:], uint32(code))
	binary.NativeEndian.PutUint64(b[8:], 0)
}
