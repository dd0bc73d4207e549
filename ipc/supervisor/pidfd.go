package supervisor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pidfdInfo is struct pidfd_info as Linux 6.13 has it (linux/pidfd.h); later ones are longer and take this.
type pidfdInfo struct {
	Mask, CgroupID                                         uint64
	PID, TGID, PPID                                        uint32
	RUID, RGID, EUID, EGID, SUID, SGID, FSUID, FSGID, Exit uint32
}

const (
	pidfdThread  = unix.O_EXCL
	pidfdGetInfo = 0xc040ff0b // _IOWR(0xff, 11, 64 bytes)
)

// quick asks for a thread's uids, gids and capabilities by calls that cost a fifth of what /proc/TID/status does. It is
// false where the kernel has them not (6.13 brought them), or the thread has gone.
func (r *rights) quick(tid uint32) bool {
	fd, _, errno := unix.Syscall(unix.SYS_PIDFD_OPEN, uintptr(tid), pidfdThread, 0)
	if errno != 0 {
		return false
	}
	var info pidfdInfo
	_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	unix.Close(int(fd))
	if errno != 0 {
		return false
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3, Pid: int32(tid)}
	var data [2]unix.CapUserData
	if unix.Capget(&head, &data[0]) != nil {
		return false
	}
	set := func(low, high uint32) uint64 { return uint64(high)<<32 | uint64(low) }
	*r = rights{
		uids:        [4]uint32{info.RUID, info.EUID, info.SUID, info.FSUID},
		gids:        [4]uint32{info.RGID, info.EGID, info.SGID, info.FSGID},
		inheritable: set(data[0].Inheritable, data[1].Inheritable),
		permitted:   set(data[0].Permitted, data[1].Permitted),
		effective:   set(data[0].Effective, data[1].Effective),
	}
	return true
}
