package supervisor

import "golang.org/x/sys/unix"

// A call is a system call that opens a file.
type call struct {
	nr    uint32
	flags int // which of its arguments holds the flags of open(2); -1: none does
}

// A watched call is one that changes what need not be asked of each thread as long as nobody has made it: in a program,
// each thread has the root, the supplementary groups and the Landlock domain that the supervisor has. All architectures count whose programs
// the machine runs.
type watched struct {
	arch, nr uint32
	changes  change
}

type change uint8

const (
	newRoot   change = 1 + iota // chroot(2)
	newGroups                   // setgroups(2)
	newDomain                   // landlock_restrict_self(2)
)

// changes tells what a notification's call changes; 0: nothing.
func (n *notification) changes() change {
	for _, w := range watch {
		if n.Arch == w.arch && uint32(n.Nr) == w.nr {
			return w.changes
		}
	}
	return 0
}

// Offsets in struct seccomp_data (linux/seccomp.h). Both machines are little-endian, so the low half of an argument
// comes first.
const (
	dataNr   = 0
	dataArch = 4
	dataArgs = 16
)

// never are flags with which open(2) never gives a connection: it opens the name only, or a folder (O_TMPFILE has
// O_DIRECTORY in it).
const never = unix.O_PATH | unix.O_DIRECTORY

// anew asks for a file that does not exist yet, which a stream does.
const anew = unix.O_CREAT | unix.O_EXCL

// filter returns the program for the kernel: the calls that may open a stream are notified, and all else goes on. Of
// other architectures (i386, x32) only calls that are watched are notified. It looks at the number first and at
// arguments only of what opens, so that the kernel remembers for all other calls that they are allowed, and runs no
// program for them.
func filter(arch uint32, calls []call, watch []watched) []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	ret := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	// skip goes on if the comparison holds, else n instructions further.
	skip := func(code uint16, k uint32, n uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | code, K: k, Jf: n}
	}
	var p []unix.SockFilter
	for _, w := range watch {
		p = append(p,
			load(dataArch),
			skip(unix.BPF_JEQ, w.arch, 3),
			load(dataNr),
			skip(unix.BPF_JEQ, w.nr, 1),
			ret(unix.SECCOMP_RET_USER_NOTIF))
	}
	p = append(p,
		load(dataArch),
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, K: arch, Jt: 1},
		ret(unix.SECCOMP_RET_ALLOW))
	for _, c := range calls {
		p = append(p, load(dataNr))
		if c.flags < 0 {
			p = append(p, skip(unix.BPF_JEQ, c.nr, 1), ret(unix.SECCOMP_RET_USER_NOTIF))
			continue
		}
		p = append(p,
			skip(unix.BPF_JEQ, c.nr, 7),
			load(dataArgs+8*uint32(c.flags)),
			skip(unix.BPF_JSET, never, 1),
			ret(unix.SECCOMP_RET_ALLOW),
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: anew},
			skip(unix.BPF_JEQ, anew, 1),
			ret(unix.SECCOMP_RET_ALLOW),
			ret(unix.SECCOMP_RET_USER_NOTIF))
	}
	return append(p, ret(unix.SECCOMP_RET_ALLOW))
}
