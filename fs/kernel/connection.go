package kernel

import (
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// A connection is the descriptor of /dev/fuse. The server reads from it and closes it; the mount point, which cannot see the
// server, can cut it off.
type connection struct {
	fd int

	mu     sync.Mutex
	closed bool // guarded by mu: the number may be somebody else's by now
}

// handedOver are the connections that Mount has made and of which no server knows yet, by descriptor.
var handedOver = struct {
	mu   sync.Mutex
	byFD map[int]*connection // guarded by mu
}{byFD: map[int]*connection{}}

// handOver keeps a connection for the server of its descriptor.
func handOver(c *connection) {
	handedOver.mu.Lock()
	defer handedOver.mu.Unlock()
	handedOver.byFD[c.fd] = c
}

// takeOver returns the connection that Mount has made for fd, or one that nobody else knows.
func takeOver(fd int) *connection {
	handedOver.mu.Lock()
	defer handedOver.mu.Unlock()
	if c := handedOver.byFD[fd]; c != nil {
		delete(handedOver.byFD, fd)
		return c
	}
	return &connection{fd: fd}
}

func (c *connection) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return unix.Close(c.fd)
}

// cut puts /dev/null in the place of the connection, and wakes all who wait in read(2) on it: each comes back, reads from
// /dev/null, and takes the end of file for the end. With the last of them the kernel closes the connection and aborts it.
//
// A thread that waits in read(2) knows the file and not the number, so it must be woken. SIGURG is the signal by which Go's
// runtime interrupts its own threads: its handler knows it, and read(2) is begun anew by the kernel, with the number's new
// file (signal(7), SA_RESTART).
func (c *connection) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(null)
	if unix.Dup3(null, c.fd, unix.O_CLOEXEC) != nil {
		return
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG) // ESRCH: it has ended
		}
	}
}
