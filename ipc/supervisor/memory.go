package supervisor

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pageSize is the smallest page of both machines: memory that begins in one of them is there up to its end.
const pageSize = 4096

// firstRead is how much of a path is read at first: nearly all are shorter.
const firstRead = 256

// readPath reads the string at addr in the thread's memory into buf, with its final NUL, and returns it without that.
// It fails where the kernel would (no such memory, no NUL in PATH_MAX bytes), and where this process may not look.
//
// The thread's process may write there meanwhile. What is used is what was read, once.
func readPath(tid uint32, addr uint64, buf *[unix.PathMax]byte) (path []byte, ok bool) {
	have, want := 0, firstRead
	for have < len(buf) {
		// Never across the end of a page, for the next one may not be there.
		n := min(want, int(pageSize-(addr+uint64(have))%pageSize), len(buf)-have)
		if !readMemory(tid, addr+uint64(have), buf[have:have+n]) {
			return nil, false
		}
		if i := bytes.IndexByte(buf[have:have+n], 0); i >= 0 {
			return buf[:have+i], true
		}
		have, want = have+n, len(buf)
	}
	return nil, false
}

// readMemory fills to from the thread's memory.
func readMemory(tid uint32, addr uint64, to []byte) bool {
	local := unix.Iovec{Base: &to[0], Len: uint64(len(to))}
	remote := unix.RemoteIovec{Base: uintptr(addr), Len: len(to)}
	n, _, errno := unix.Syscall6(unix.SYS_PROCESS_VM_READV, uintptr(tid), uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&remote)), 1, 0)
	return errno == 0 && int(n) == len(to)
}
