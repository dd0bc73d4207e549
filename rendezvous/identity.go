package rendezvous

import (
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Creds is whom a socket is made for: the ids with which the caller's request came.
type Creds struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups; only DialUnix needs them
}

// valid keeps (uid_t)-1 out, which means "no change" to the kernel and would leave the daemon's own identity in force.
func (c Creds) valid() bool { return c.UID != noID && c.GID != noID }

// own reports whether a socket for c can be made as this process is: c is this process, or this process is not root and
// cannot become anybody else.
func (c Creds) own() bool {
	id := process()
	return id.UID != 0 || c.UID == id.UID && c.GID == id.GID
}

// process is the effective identity of this process, which it does not change. It is asked for once.
var process = sync.OnceValue(func() Creds { return Creds{UID: uint32(unix.Geteuid()), GID: uint32(unix.Getegid())} })

// An identity is a way for one thread to take the caller's ids. The credentials of Linux belong to the thread; the
// set*id functions of package syscall change all threads of the process at once, so that every other request would run
// as this caller. Hence the raw system calls below.
type identity struct {
	take    func(Creds) bool // reports whether the thread now has all the ids
	restore func() bool      // reports whether the thread has the daemon's ids again
}

// run calls do on a thread that has c's ids, and returns when do has returned; it reports whether the ids could be
// taken, without which do is not called. It is on a goroutine of its own because a thread that does not get its ids
// back must not carry anybody's next request: a goroutine that ends while it is locked takes its thread with it, and
// the caller's goroutine could not be ended.
func (id identity) run(c Creds, do func()) bool {
	done := make(chan bool, 1)
	go func() {
		runtime.LockOSThread()
		took := id.take(c)
		if took {
			do()
		}
		if id.restore() {
			runtime.UnlockOSThread()
		}
		done <- took
	}()
	return <-done
}

// fsIdentity takes the fsuid and fsgid, which the kernel writes into a new socket: into its inode, sk_uid, and the
// credentials of its file, at which the packet filter's "meta skuid" looks. All else stays: the thread can be given its
// ids back whatever happens, and nothing but the ids of files and sockets changes meanwhile.
var fsIdentity = identity{
	take: func(c Creds) bool {
		setfs(unix.SYS_SETFSGID, c.GID)
		setfs(unix.SYS_SETFSUID, c.UID)
		return hasFS(c.UID, c.GID)
	},
	restore: func() bool {
		id := process()
		setfs(unix.SYS_SETFSUID, id.UID)
		setfs(unix.SYS_SETFSGID, id.GID)
		return hasFS(id.UID, id.GID)
	},
}

// runFS is fsIdentity.run on the caller's own goroutine, for a goroutine costs more than all the system calls, where the
// runtime wakes another thread to look for work. A thread can always have its own fsuid back, unless the kernel has no
// memory for it or some filter forbids the call. The first is waited for: until then the thread carries nobody. Where the
// second may be, since the first try of all has failed, it stays with run.
func runFS(c Creds, do func()) bool { return fsIdentity.runHere(fsWorks(), c, do) }

var fsWorks = sync.OnceValue(func() bool {
	restored := make(chan bool, 1)
	id := identity{take: fsIdentity.take, restore: func() bool {
		ok := fsIdentity.restore()
		restored <- ok
		return ok
	}}
	return id.run(Creds{UID: overflowUID, GID: overflowUID}, func() {}) && <-restored
})

func (id identity) runHere(works bool, c Creds, do func()) bool {
	if !works {
		return id.run(c, do)
	}
	runtime.LockOSThread()
	defer func() {
		for wait := time.Millisecond; !id.restore(); wait = min(2*wait, time.Second) {
			time.Sleep(wait)
		}
		runtime.UnlockOSThread()
	}()
	took := id.take(c)
	if took {
		do()
	}
	return took
}

func setfs(call uintptr, id uint32) uint32 {
	prev, _, _ := unix.RawSyscall(call, uintptr(id), 0, 0)
	return uint32(prev)
}

// hasFS asks by setting an id that cannot be set: setfsuid(2) and setfsgid(2) tell no errors, only what was before.
func hasFS(uid, gid uint32) bool {
	return setfs(unix.SYS_SETFSUID, noID) == uid && setfs(unix.SYS_SETFSGID, noID) == gid
}

// effectiveIdentity takes the effective ids and the supplementary groups, which connect(2) to an AF_UNIX socket checks
// and shows to the peer as SO_PEERCRED. The real and saved ids stay root's, so that the thread may come back.
func effectiveIdentity() identity {
	var before struct {
		uid, gid [3]uint32
		groups   []uint32
		known    bool
	}
	return identity{
		take: func(c Creds) bool {
			before.uid, before.gid = ids(unix.SYS_GETRESUID), ids(unix.SYS_GETRESGID)
			before.groups, before.known = threadGroups()
			// The uid is last, for with it go the capabilities that the others need.
			return before.known && setThreadGroups(c.Groups) &&
				setEffective(unix.SYS_SETRESGID, c.GID) && setEffective(unix.SYS_SETRESUID, c.UID)
		},
		restore: func() bool {
			if !before.known {
				return true // nothing was changed
			}
			return setEffective(unix.SYS_SETRESUID, before.uid[1]) &&
				setEffective(unix.SYS_SETRESGID, before.gid[1]) &&
				setThreadGroups(before.groups) &&
				ids(unix.SYS_GETRESUID) == before.uid && ids(unix.SYS_GETRESGID) == before.gid
		},
	}
}

func setEffective(call uintptr, id uint32) bool {
	const keep = ^uintptr(0)
	_, _, errno := unix.RawSyscall(call, keep, uintptr(id), keep)
	return errno == 0
}

// ids returns the real, effective and saved id.
func ids(call uintptr) (id [3]uint32) {
	unix.RawSyscall(call, uintptr(unsafe.Pointer(&id[0])), uintptr(unsafe.Pointer(&id[1])), uintptr(unsafe.Pointer(&id[2])))
	return id
}

func threadGroups() ([]uint32, bool) {
	n, _, errno := unix.RawSyscall(unix.SYS_GETGROUPS, 0, 0, 0)
	if errno != 0 || n == 0 {
		return nil, errno == 0
	}
	groups := make([]uint32, n)
	n, _, errno = unix.RawSyscall(unix.SYS_GETGROUPS, n, uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno != 0 {
		return nil, false
	}
	return groups[:n], true
}

func setThreadGroups(groups []uint32) bool {
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0)
	return errno == 0
}

// peerGroups returns the supplementary groups that the process at the other end of an AF_UNIX socket had when it
// connected.
func peerGroups(fd int) ([]uint32, error) {
	const size = unsafe.Sizeof(uint32(0))
	groups := make([]uint32, 32)
	for {
		n := uint32(uintptr(len(groups)) * size)
		_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&n)), 0)
		switch {
		case errno == unix.ERANGE && uintptr(n) > uintptr(len(groups))*size:
			groups = make([]uint32, uintptr(n)/size) // the kernel has said how much room it wants
		case errno != 0:
			return nil, errno
		default:
			return groups[:uintptr(n)/size], nil
		}
	}
}
