package supervisor

import "golang.org/x/sys/unix"

// machine is this architecture's number for seccomp(2).
const machine = unix.AUDIT_ARCH_X86_64

// calls are its system calls that open files.
var calls = []call{
	{unix.SYS_OPENAT, 2},
	{unix.SYS_OPEN, 1},
	{unix.SYS_CREAT, -1},
	{unix.SYS_OPENAT2, -1},
}

const x32 = 0x40000000 // __X32_SYSCALL_BIT

var watch = []watched{
	{machine, unix.SYS_CHROOT, newRoot},
	{machine, unix.SYS_CHROOT | x32, newRoot},
	{unix.AUDIT_ARCH_I386, 61, newRoot},
	{machine, unix.SYS_SETGROUPS, newGroups},
	{machine, unix.SYS_SETGROUPS | x32, newGroups},
	{unix.AUDIT_ARCH_I386, 81, newGroups}, // of 16 bits
	{unix.AUDIT_ARCH_I386, 206, newGroups},
	{machine, unix.SYS_LANDLOCK_RESTRICT_SELF, newDomain},
	{machine, unix.SYS_LANDLOCK_RESTRICT_SELF | x32, newDomain},
	{unix.AUDIT_ARCH_I386, 446, newDomain},
}

// opening returns what a system call of this machine asks for.
func opening(nr int32, args [6]uint64) (opened, bool) {
	switch nr {
	case unix.SYS_OPENAT:
		return opened{dir: int32(args[0]), path: args[1], flags: uint64(uint32(args[2]))}, true
	case unix.SYS_OPEN:
		return opened{dir: unix.AT_FDCWD, path: args[0], flags: uint64(uint32(args[1]))}, true
	case unix.SYS_CREAT:
		return opened{dir: unix.AT_FDCWD, path: args[0], flags: unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC}, true
	case unix.SYS_OPENAT2:
		return opened{dir: int32(args[0]), path: args[1], how: args[2], howSize: args[3]}, true
	}
	return opened{}, false
}
