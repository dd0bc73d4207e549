package supervisor

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// install puts the filter on the calling thread and what it becomes, for good, and returns the descriptor of its
// notifications, which is close-on-exec. The thread can gain no privileges by execve(2) any more, root's neither.
// EBUSY: it has a filter with notifications already.
//
// Until somebody receives from the descriptor, an open(2) of the thread waits; with the descriptor closed it fails with
// ENOSYS.
func install() (listener, error) {
	if !sizesFit() {
		return listener{}, fmt.Errorf("seccomp notifications: %w", unix.ENOSYS)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return listener{}, fmt.Errorf("no_new_privs: %w", err)
	}
	program := filter(machine, calls, watch)
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	// Without SPEC_ALLOW older kernels slow the whole program down against speculation, which is for sandboxes.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return listener{}, fmt.Errorf("seccomp filter: %w", errno)
	}
	return listener{int(fd)}, nil
}
