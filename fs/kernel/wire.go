package kernel

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// The opcodes that the loop handles itself: include/uapi/linux/fuse.h, enum fuse_opcode. go-fuse does not export them.
const (
	opLookup      = 1
	opSetAttr     = 4
	opMknod       = 8
	opMkdir       = 9
	opRmdir       = 11
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opRelease     = 18
	opFlush       = 25
	opReadDir     = 28
	opInterrupt   = 36
	opPoll        = 40
	opForget      = 2
	opBatchForget = 42
)

const (
	notifyPoll = 1 // FUSE_NOTIFY_POLL

	pollScheduleNotify = 1 // FUSE_POLL_SCHEDULE_NOTIFY
)

// pollIn is struct fuse_poll_in behind its header.
type pollIn struct {
	fuse.InHeader
	Fh     uint64
	Kh     uint64
	Flags  uint32
	Events uint32
}

const (
	sizeInHeader  = int(unsafe.Sizeof(fuse.InHeader{}))
	sizeOutHeader = int(unsafe.Sizeof(fuse.OutHeader{}))
	sizeOpenIn    = int(unsafe.Sizeof(fuse.OpenIn{}))
	sizeReadIn    = int(unsafe.Sizeof(fuse.ReadIn{}))
	sizeWriteIn   = int(unsafe.Sizeof(fuse.WriteIn{}))
	sizeReleaseIn = int(unsafe.Sizeof(fuse.ReleaseIn{}))
	sizeFlushIn   = int(unsafe.Sizeof(fuse.FlushIn{}))
	sizeSetAttrIn = int(unsafe.Sizeof(fuse.SetAttrIn{}))
	sizeMkdirIn   = int(unsafe.Sizeof(fuse.MkdirIn{}))
	sizeInterrupt = int(unsafe.Sizeof(fuse.InterruptIn{}))
	sizePollIn    = int(unsafe.Sizeof(pollIn{}))
)

// as reads the head of a request as the kernel's struct. b must hold it whole: request lengths are checked once, in
// Server.dispatch.
func as[T any](b []byte) *T { return (*T)(unsafe.Pointer(unsafe.SliceData(b))) }

// putOutHeader writes struct fuse_out_header to the front of b for a reply of n bytes behind it.
func putOutHeader(b []byte, unique uint64, errno syscall.Errno, n int) {
	binary.NativeEndian.PutUint32(b[0:], uint32(sizeOutHeader+n))
	binary.NativeEndian.PutUint32(b[4:], uint32(-int32(errno)))
	binary.NativeEndian.PutUint64(b[8:], unique)
}

// The system calls of the hot paths go around Go's scheduler (RawSyscall): none of them waits, and telling the
// scheduler about each costs as much as the call. unix.Write and unix.Recvfrom would also allocate.

func rawWrite(fd int, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), e
}

func rawRecv(fd int, b []byte, flags uintptr) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT|flags, 0, 0)
	return int(n), e
}

func rawSend(fd int, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	return int(n), e
}
