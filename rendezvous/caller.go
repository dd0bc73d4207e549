package rendezvous

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Namespace identifies a namespace of the kernel, by device and inode number of its file in /proc/PID/ns.
type Namespace struct{ Dev, Ino uint64 }

// Caller is who makes a request.
type Caller struct {
	PID      int // as given: the number of a thread
	TGID     int // the process that the thread belongs to
	UID, GID uint32
	Groups   []uint32  // supplementary groups
	NetNS    Namespace // the network namespace
	// Caps is the set of effective capabilities, as a bit mask. It is empty when the caller is in another user
	// namespace than this process: what it may there, it may not here.
	Caps uint64
}

// Has reports whether the caller has a capability (unix.CAP_NET_BIND_SERVICE).
func (c Caller) Has(capability int) bool {
	return capability >= 0 && capability < 64 && c.Caps>>capability&1 == 1
}

// In reports whether gid is the caller's group or one of its supplementary groups.
func (c Caller) In(gid uint32) bool {
	if c.GID == gid {
		return true
	}
	for _, g := range c.Groups {
		if g == gid {
			return true
		}
	}
	return false
}

// Creds returns the identity with which to dial for the caller.
func (c Caller) Creds() Creds { return Creds{UID: c.UID, GID: c.GID, Groups: c.Groups} }

// LookupCaller asks /proc about the thread pid, whose request came with uid and gid. It must be called while the
// request is unanswered: until then the thread, even a killed one, cannot go away, and its number cannot be somebody
// else's. It costs a few system calls that do not block.
//
// Errors are *Error: Permission (EACCES) for pid 0, which is how a caller in a pid namespace that this process cannot
// see appears, and where this process may not look at the caller (it needs CAP_SYS_PTRACE for those of other users);
// NotExist (ESRCH) when there is no such thread; Unavailable (EMFILE, ENFILE, ENOMEM) where this process has nothing left
// to look with, which says nothing about the caller. The request is then to be refused, never to be taken for one of this
// process.
func LookupCaller(pid int, uid, gid uint32) (Caller, error) {
	c := Caller{PID: pid, UID: uid, GID: gid}
	if err := c.lookup(); err != nil {
		return Caller{}, callerError(pid, err)
	}
	return c, nil
}

func callerError(pid int, err error) error {
	if errors.Is(err, unix.ENOENT) {
		err = unix.ESRCH
	}
	return &Error{Op: "look up", Path: "pid=" + strconv.Itoa(pid), Kind: KindOf(err), Err: err}
}

func checkPID(pid int) error {
	switch {
	case pid == 0:
		return fmt.Errorf("foreign pid namespace: %w", unix.EACCES)
	case pid < 0:
		return unix.EINVAL
	}
	return nil
}

func (c *Caller) lookup() error {
	_, err := c.lookupAll()
	return err
}

// lookupAll is lookup, and returns the uids too, which a request states itself.
func (c *Caller) lookupAll() (uids, error) {
	if err := checkPID(c.PID); err != nil {
		return uids{}, err
	}
	// One folder for all, so that all answers are about one thread.
	dir, err := unix.Open("/proc/"+strconv.Itoa(c.PID), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return uids{}, err
	}
	defer unix.Close(dir)
	u, err := c.readStatus(dir)
	if err != nil {
		return uids{}, err
	}
	if c.NetNS, err = namespaceAt(dir, "ns/net"); err != nil {
		return uids{}, err
	}
	userNS, err := namespaceAt(dir, "ns/user")
	if err != nil {
		return uids{}, err
	}
	own, err := ownUser()
	if err != nil {
		return uids{}, err
	}
	if userNS != own {
		c.Caps = 0
	}
	return u, nil
}

// readStatus reads /proc/PID/status, which is about 1.5 KB, and up to 700 KB with 65,536 groups.
func (c *Caller) readStatus(dir int) (uids, error) {
	fd, err := unix.Openat(dir, "status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return uids{}, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return uids{}, err
		}
		if n == 0 {
			return c.parseStatus(buf)
		}
		buf = buf[:len(buf)+n]
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// parseStatus takes what it needs from the lines "Key:\tvalues". The name of the process is in there too, with newlines
// escaped by the kernel (fs/proc/array.c, proc_task_name), so that it cannot pass for another line.
func (c *Caller) parseStatus(status []byte) (u uids, err error) {
	var seen int
	for line := range bytes.Lines(status) {
		key, value, _ := bytes.Cut(bytes.TrimRight(line, "\n"), []byte(":"))
		value = bytes.TrimSpace(value)
		switch string(key) {
		case "Uid":
			u, err = parseUIDs(bytes.Fields(value))
		case "Tgid":
			c.TGID, err = strconv.Atoi(string(value))
		case "Groups":
			c.Groups = nil
			for field := range bytes.FieldsSeq(value) {
				g, e := strconv.ParseUint(string(field), 10, 32)
				if e != nil {
					err = e
					break
				}
				c.Groups = append(c.Groups, uint32(g))
			}
		case "CapEff":
			c.Caps, err = strconv.ParseUint(string(value), 16, 64)
		default:
			continue
		}
		if err != nil {
			return u, fmt.Errorf("status line %s: %w", key, err)
		}
		seen++
	}
	if seen != 4 {
		return u, errors.New("status is incomplete")
	}
	return u, nil
}

// SameNetNS reports whether the thread pid is in this process's network namespace, the one in which Dial dials. It
// costs one stat(2). The errors are those of LookupCaller.
func SameNetNS(pid int) (bool, error) {
	if err := checkPID(pid); err != nil {
		return false, callerError(pid, err)
	}
	own, err := ownNet()
	if err != nil {
		return false, callerError(pid, err)
	}
	ns, err := namespaceAt(unix.AT_FDCWD, "/proc/"+strconv.Itoa(pid)+"/ns/net")
	if err != nil {
		return false, callerError(pid, err)
	}
	return ns == own, nil
}

func namespaceAt(dir int, path string) (Namespace, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, path, &st, 0); err != nil {
		return Namespace{}, err
	}
	return Namespace{Dev: uint64(st.Dev), Ino: st.Ino}, nil
}

// The own namespaces are asked for once: a process with several threads cannot change its user namespace, and this one
// does not change its network namespace.
var (
	ownNet  = onceSeen("/proc/self/ns/net")
	ownUser = onceSeen("/proc/self/ns/user")
)

// onceSeen asks for a namespace until there is an answer: that memory was short once must not be remembered.
func onceSeen(path string) func() (Namespace, error) {
	var seen atomic.Pointer[Namespace]
	return func() (Namespace, error) {
		if ns := seen.Load(); ns != nil {
			return *ns, nil
		}
		ns, err := namespaceAt(unix.AT_FDCWD, path)
		if err == nil {
			seen.Store(&ns)
		}
		return ns, err
	}
}
