package supervisor

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// evaluate does what the kernel does with the program, and counts loads of arguments.
func evaluate(t *testing.T, program []unix.SockFilter, arch, nr uint32, args ...uint64) (action uint32, argLoads int) {
	t.Helper()
	var data [64]byte
	binary.LittleEndian.PutUint32(data[dataNr:], nr)
	binary.LittleEndian.PutUint32(data[dataArch:], arch)
	for i, a := range args {
		binary.LittleEndian.PutUint64(data[dataArgs+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(program); pc++ {
		in := program[pc]
		jump := func(ok bool) {
			if ok {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.LittleEndian.Uint32(data[in.K:])
			if in.K >= dataArgs {
				argLoads++
			}
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ:
			jump(acc == in.K)
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JSET:
			jump(acc&in.K != 0)
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
		case unix.BPF_RET | unix.BPF_K:
			return in.K, argLoads
		default:
			t.Fatalf("instruction %d: %+v", pc, in)
		}
	}
	t.Fatal("the program runs off its end")
	return 0, 0
}

func TestFilter_NotifiesWhatMayOpenAStream(t *testing.T) {
	const (
		allow  = unix.SECCOMP_RET_ALLOW
		notify = unix.SECCOMP_RET_USER_NOTIF
		high   = 0xffffffff_00000000 // what a program leaves there means nothing
	)
	program := filter(machine, calls, watch)
	for _, tc := range []struct {
		what     string
		arch, nr uint32
		args     []uint64
		want     uint32
	}{
		{"openat", machine, unix.SYS_OPENAT, []uint64{0, 0, unix.O_RDWR}, notify},
		{"openat that creates", machine, unix.SYS_OPENAT, []uint64{0, 0, unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC}, notify},
		{"openat of a new file", machine, unix.SYS_OPENAT, []uint64{0, 0, high | unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL}, allow},
		{"openat with O_EXCL alone", machine, unix.SYS_OPENAT, []uint64{0, 0, unix.O_EXCL}, notify},
		{"openat of a folder", machine, unix.SYS_OPENAT, []uint64{0, 0, unix.O_DIRECTORY | unix.O_CLOEXEC}, allow},
		{"openat of a name", machine, unix.SYS_OPENAT, []uint64{0, 0, unix.O_PATH}, allow},
		{"openat of a file without name", machine, unix.SYS_OPENAT, []uint64{0, 0, unix.O_TMPFILE | unix.O_RDWR}, allow},
		{"openat with a high half", machine, unix.SYS_OPENAT, []uint64{0, 0, high | unix.O_RDWR}, notify},
		{"openat2", machine, unix.SYS_OPENAT2, nil, notify},
		{"read", machine, unix.SYS_READ, nil, allow},
		{"chroot", machine, unix.SYS_CHROOT, nil, notify},
		{"setgroups", machine, unix.SYS_SETGROUPS, nil, notify},
		{"landlock_restrict_self", machine, 446, nil, notify},
		{"landlock_create_ruleset", machine, 444, nil, allow},
		{"getgroups", machine, unix.SYS_GETGROUPS, nil, allow},
		{"openat of another architecture", machine ^ 1, unix.SYS_OPENAT, []uint64{0, 0, unix.O_RDWR}, allow},
		{"exit of another architecture", watch[len(watch)-1].arch, 1, nil, allow},
		{"chroot of another architecture", watch[len(watch)-1].arch, 61, nil, notify},
		{"setgroups of another architecture", watch[len(watch)-1].arch, 206, nil, notify},
		{"landlock_restrict_self of another architecture", watch[len(watch)-1].arch, 446, nil, notify},
	} {
		if got, _ := evaluate(t, program, tc.arch, tc.nr, tc.args...); got != tc.want {
			t.Errorf("%s: got %#x, want %#x", tc.what, got, tc.want)
		}
	}
}

// The kernel remembers that a call is allowed only if that does not depend on its arguments.
func TestFilter_LooksAtArgumentsOfNothingElse(t *testing.T) {
	program := filter(machine, calls, watch)
	opens := map[uint32]bool{unix.SYS_CHROOT: true, unix.SYS_SETGROUPS: true, unix.SYS_LANDLOCK_RESTRICT_SELF: true}
	for _, c := range calls {
		opens[c.nr] = true
	}
	for nr := range uint32(600) {
		action, loads := evaluate(t, program, machine, nr)
		if !opens[nr] && (action != unix.SECCOMP_RET_ALLOW || loads != 0) {
			t.Errorf("system call %d: got %#x after %d loads of arguments", nr, action, loads)
		}
	}
}
