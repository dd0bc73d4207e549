package supervisor

import "golang.org/x/sys/unix"

// machine is this architecture's number for seccomp(2).
const machine = unix.AUDIT_ARCH_AARCH64

// calls are its system calls that open files.
var calls = []call{
	{unix.SYS_OPENAT, 2},
	{unix.SYS_OPENAT2, -1},
}

var watch = []watched{
	{machine, unix.SYS_CHROOT, newRoot},
	{unix.AUDIT_ARCH_ARM, 61, newRoot},
	{machine, unix.SYS_SETGROUPS, newGroups},
	{unix.AUDIT_ARCH_ARM, 81, newGroups}, // of 16 bits
	{unix.AUDIT_ARCH_ARM, 206, newGroups},
	{machine, unix.SYS_LANDLOCK_RESTRICT_SELF, newDomain},
	{unix.AUDIT_ARCH_ARM, 446, newDomain},
}

// opening returns what a system call of this machine asks for.
func opening(nr int32, args [6]uint64) (opened, bool) {
	switch nr {
	case unix.SYS_OPENAT:
		return opened{dir: int32(args[0]), path: args[1], flags: uint64(uint32(args[2]))}, true
	case unix.SYS_OPENAT2:
		return opened{dir: int32(args[0]), path: args[1], how: args[2], howSize: args[3]}, true
	}
	return opened{}, false
}
