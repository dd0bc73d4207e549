package supervisor

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// opened is what a system call asks for.
type opened struct {
	dir   int32  // where a relative path begins: a descriptor of the thread, or AT_FDCWD
	path  uint64 // address of the path in its memory
	flags uint64 // of open(2)
	// openat2(2): address and size of its struct open_how; flags and resolve stand in there.
	how, howSize uint64
	resolve      uint64
}

// ownRules are the bits of open_how.resolve with which openat2(2) does not look at the thread's root.
const ownRules = unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT

// view opens names as a thread would see them: from its root, its working folder or a descriptor of its. What it
// returns is opened with O_PATH: the name is walked, with this process's rights, and nothing happens to the file.
//
// Links of /proc that lead to open files and folders (/proc/self/cwd, /dev/fd/3) are not followed, ELOOP, since this
// process has others.
type view struct {
	tid     uint32
	dir     int32
	resolve uint64
	root    int  // the thread's root, if that is another than this process's
	rooted  bool // it has been looked up, or need not be
	base    int  // where a relative path begins, opened once
	buf     [unix.PathMax + 1]byte
}

const noFD = -1

// begin makes it the view of another thread. ownRoot: its root is known to be this process's.
func (v *view) begin(tid uint32, o *opened, ownRoot bool) {
	v.tid, v.dir, v.resolve = tid, o.dir, o.resolve
	v.root, v.rooted, v.base = noFD, ownRoot, noFD
}

// end closes what was opened for it.
func (v *view) end() {
	for _, fd := range [...]int{v.root, v.base} {
		if fd != noFD {
			unix.Close(fd)
		}
	}
	v.root, v.base = noFD, noFD
}

// open walks a path, which is not empty.
func (v *view) open(path []byte, flags uint64) (fd int, errno unix.Errno) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_PATH | unix.O_CLOEXEC,
		Resolve: v.resolve | unix.RESOLVE_NO_MAGICLINKS,
	}
	if v.resolve&ownRules == 0 && path[0] == '/' {
		if errno := v.lookRoot(); errno != 0 {
			return noFD, errno
		}
		if v.root == noFD {
			return v.openat2(unix.AT_FDCWD, path, &how)
		}
		how.Resolve |= unix.RESOLVE_IN_ROOT
		return v.openat2(v.root, path, &how)
	}
	if errno := v.lookBase(); errno != 0 {
		return noFD, errno
	}
	if v.resolve&ownRules != 0 {
		return v.openat2(v.base, path, &how)
	}
	// A path that stays below does not see the root.
	beneath := how
	beneath.Resolve |= unix.RESOLVE_BENEATH
	if fd, errno = v.openat2(v.base, path, &beneath); errno != unix.EXDEV {
		return fd, errno
	}
	if errno := v.lookRoot(); errno != 0 {
		return noFD, errno
	}
	if v.root != noFD {
		return noFD, unix.EXDEV // there is no call that walks from one folder with another as root
	}
	return v.openat2(v.base, path, &how)
}

// lookRoot looks whether the thread's root is this process's, and opens it if not.
func (v *view) lookRoot() unix.Errno {
	if v.rooted {
		return 0
	}
	var own, its unix.Statx_t
	if errno := statx(unix.AT_FDCWD, rootPath[:], 0, &own); errno != 0 {
		return errno
	}
	path := v.proc("root")
	if errno := statx(unix.AT_FDCWD, path, 0, &its); errno != 0 {
		return errno
	}
	if own.Ino != its.Ino || own.Dev_major != its.Dev_major || own.Dev_minor != its.Dev_minor || own.Mnt_id != its.Mnt_id {
		fd, errno := openFolder(path)
		if errno != 0 {
			return errno
		}
		v.root = fd
	}
	v.rooted = true
	return 0
}

// lookBase opens the folder where a relative path begins.
func (v *view) lookBase() unix.Errno {
	if v.base != noFD {
		return 0
	}
	if v.dir < 0 && v.dir != unix.AT_FDCWD {
		return unix.EBADF
	}
	var errno unix.Errno
	v.base, errno = openFolder(v.here())
	if errno != 0 {
		v.base = noFD
	}
	return errno
}

// here returns a path of the folder where a relative path begins.
func (v *view) here() []byte {
	if v.dir == unix.AT_FDCWD {
		return v.proc("cwd")
	}
	path := v.proc("fd/")
	return append(strconv.AppendInt(path[:len(path)-1], int64(v.dir), 10), 0)
}

// fromHere returns path for this process, if that has the thread's root. One that is too long comes back without its
// end, and with a final NUL that makes the kernel say ENAMETOOLONG.
func (v *view) fromHere(path []byte) []byte {
	b := v.buf[:0]
	if path[0] != '/' {
		b = v.here()
		b[len(b)-1] = '/'
	}
	n := copy(v.buf[len(b):len(v.buf)-1], path)
	v.buf[len(b)+n] = 0
	return v.buf[:len(b)+n+1]
}

// proc returns the path of a file of the thread in /proc, with a final NUL. The next call uses its memory again.
func (v *view) proc(name string) []byte {
	b := strconv.AppendUint(append(v.buf[:0], "/proc/"...), uint64(v.tid), 10)
	return append(append(append(b, '/'), name...), 0)
}

// walkTries is how often a walk is tried that another process's rename or mount disturbs.
const walkTries = 32

func (v *view) openat2(dir int, path []byte, how *unix.OpenHow) (int, unix.Errno) {
	if len(path) >= len(v.buf) {
		return noFD, unix.ENAMETOOLONG
	}
	v.buf[copy(v.buf[:], path)] = 0
	for try := 0; ; {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(&v.buf[0])),
			uintptr(unsafe.Pointer(how)), unsafe.Sizeof(*how), 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN && try < walkTries:
			try++
		case errno != 0:
			return noFD, errno
		default:
			return int(fd), 0
		}
	}
}

// openFolder opens a folder by a path with a final NUL, links of /proc included.
func openFolder(path []byte) (int, unix.Errno) {
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(unix.AT_FDCWD&(1<<64-1)), uintptr(unsafe.Pointer(&path[0])),
			unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, 0, 0)
		switch errno {
		case 0:
			return int(fd), 0
		case unix.EINTR:
		default:
			return noFD, errno
		}
	}
}

var (
	rootPath  = [...]byte{'/', 0}
	emptyPath = [...]byte{0}
)

// statx asks for the kind, device and mount of a file by a path with a final NUL. It asks no server: what these are the
// kernel knows.
func statx(dir int, path []byte, flags uintptr, st *unix.Statx_t) unix.Errno {
	const mask = unix.STATX_TYPE | unix.STATX_INO | unix.STATX_MNT_ID
	for {
		_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
			flags|unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, mask, uintptr(unsafe.Pointer(st)), 0)
		if errno != unix.EINTR {
			return errno
		}
	}
}

// readlink reads what /proc says is the path of a descriptor of this process.
func readlink(fd int, buf []byte) (n int, err error) {
	var name [32]byte
	path := strconv.AppendInt(append(name[:0], "/proc/self/fd/"...), int64(fd), 10)
	n, err = unix.Readlink(string(path), buf)
	if err == nil && n == len(buf) {
		err = unix.ENAMETOOLONG
	}
	return n, err
}
