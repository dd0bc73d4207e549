package supervisor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif with the struct seccomp_data in it (linux/seccomp.h).
type notification struct {
	ID    uint64
	TID   uint32 // the thread that waits, as this process's pid namespace numbers it; 0: it does not
	Flags uint32
	Nr    int32
	Arch  uint32
	IP    uint64
	Args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	ID    uint64
	Val   int64
	Error int32
	Flags uint32
}

// addition is struct seccomp_notif_addfd.
type addition struct {
	ID         uint64
	Flags      uint32
	FD         uint32
	NewFD      uint32
	NewFDFlags uint32
}

// listener is the descriptor of a filter's notifications. Each of its methods but receive answers at once; all may be
// called from many goroutines.
type listener struct{ fd int }

func (l listener) ioctl(request uintptr, arg unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), request, uintptr(arg))
	return errno
}

// receive waits for the next notification. The errors that are not the end are EINTR, and ENOENT where the thread has
// been interrupted meanwhile.
func (l listener) receive(n *notification) unix.Errno {
	*n = notification{} // else EINVAL
	return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n))
}

// valid tells whether the thread still waits for the answer. While it does, it is the thread that the notification
// names, and it cannot have changed its identity.
func (l listener) valid(id uint64) bool {
	return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == 0
}

// pass has the kernel do the call itself.
func (l listener) pass(id uint64) {
	r := response{ID: id, Flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	_ = l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) // ENOENT: nobody waits for it any more
}

// fail has the call fail. ENOENT: nobody waits for it any more.
func (l listener) fail(id uint64, errno unix.Errno) unix.Errno {
	r := response{ID: id, Error: -int32(errno)}
	return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
}

// give puts a copy of fd into the thread's descriptors and has the call return its number, both or neither. ENOENT:
// nobody waits for it any more; else it is an errno for the call, such as EMFILE.
func (l listener) give(id uint64, fd int, closeOnExec bool) unix.Errno {
	a := addition{ID: id, Flags: unix.SECCOMP_ADDFD_FLAG_SEND, FD: uint32(fd)}
	if closeOnExec {
		a.NewFDFlags = unix.O_CLOEXEC
	}
	for {
		errno := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&a))
		switch errno {
		case unix.EINTR: // only when somebody stops this process just then: see spawn
		case unix.ESRCH, unix.EINPROGRESS: // one of the two was interrupted in between
			return unix.ENOENT
		default:
			return errno
		}
	}
}

// ended waits until no thread has the filter any more.
func (l listener) ended() {
	for {
		p := []unix.PollFd{{Fd: int32(l.fd)}} // POLLHUP is told in any case
		if n, err := unix.Poll(p, -1); err == nil && n > 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}

// hurry has the kernel run the supervisor on the processor of the thread that waits for it, and back. A kernel before
// 6.6 cannot.
func (l listener) hurry() {
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
}

// sizesFit tells whether the kernel's structures are those above. A larger one would be written beyond their end.
func sizesFit() bool {
	var s struct{ Notif, Resp, Data uint16 }
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&s)))
	return errno == 0 && uintptr(s.Notif) <= unsafe.Sizeof(notification{}) && uintptr(s.Resp) <= unsafe.Sizeof(response{})
}
