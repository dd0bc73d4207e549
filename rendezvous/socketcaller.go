package rendezvous

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// SocketCaller tells who is at the other end of a connected AF_UNIX socket: the process that called connect(2) or
// socketpair(2), with the ids and groups that it had then. It costs about ten system calls that do not block, and is
// asked once per connection: what the process becomes later does not matter, and whom it hands its socket to acts for
// it.
//
// PID and TGID are both the number of the process. Caps are those that it has now, and only if it was root then and is
// now: a user's process may have become a set-uid program, or one with capabilities of its file, since it connected.
//
// Errors are *Error: Permission (EACCES) for a process in a pid namespace that this process cannot see, and where this
// process may not look at it; NotExist (ESRCH) for one that has ended; what getsockopt(2) says of fd (ENOTSOCK,
// ENODATA); Unavailable (EMFILE, ENFILE, ENOMEM) where this process has nothing left to look with. The connection is
// then to be refused, never to be taken for one of this process.
func SocketCaller(fd int) (Caller, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Caller{}, callerError(0, err)
	}
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if errors.Is(err, unix.ENOPROTOOPT) { // before Linux 6.5
		pidfd = -1
	} else if err != nil {
		// A process that has been reaped has no pidfd: ESRCH, or EINVAL on some kernels. A process that is not seen
		// from here has none either; say that.
		if cred.Pid != 0 && errors.Is(err, unix.EINVAL) {
			err = unix.ESRCH
		}
		return Caller{}, callerError(int(cred.Pid), cmpError(checkPID(int(cred.Pid)), err))
	}
	return socketCaller(fd, cred, pidfd)
}

func cmpError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// socketCaller closes pidfd, which is -1 where the kernel gives none with the socket.
func socketCaller(fd int, cred *unix.Ucred, pidfd int) (Caller, error) {
	pid := int(cred.Pid)
	c := Caller{PID: pid, UID: cred.Uid, GID: cred.Gid}
	fail := func(err error) (Caller, error) { return Caller{}, callerError(pid, err) }
	fromSocket := pidfd >= 0
	if fromSocket {
		defer unix.Close(pidfd)
	}
	if err := checkPID(pid); err != nil {
		return fail(err)
	}
	if !fromSocket {
		var err error
		if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
			return fail(err)
		}
		defer unix.Close(pidfd)
	}
	status, err := c.lookupAll()
	if err != nil {
		return fail(err)
	}
	// Now, after /proc was read: as long as the process of the pidfd is there its number is nobody else's.
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil && err != unix.EPERM {
		return fail(err)
	}
	if c.TGID != pid {
		return fail(unix.ESRCH)
	}
	if !fromSocket && !status.is(cred.Uid) {
		// The pidfd is that of whoever has the number now. Of another user it is another process, or the same one
		// with another identity, and nothing here tells which.
		return fail(fmt.Errorf("the process is of another user now: %w", unix.EACCES))
	}
	if c.Groups, err = peerGroups(fd); err != nil {
		return fail(err)
	}
	if cred.Uid != 0 || !status.is(0) {
		c.Caps = 0
	}
	return c, nil
}

// uids are the real, effective, saved and file system uid of a process.
type uids [4]uint32

func (u uids) is(uid uint32) bool { return u == uids{uid, uid, uid, uid} }

func parseUIDs(fields [][]byte) (u uids, err error) {
	if len(fields) != len(u) {
		return u, unix.EINVAL
	}
	for i, f := range fields {
		n, err := strconv.ParseUint(string(f), 10, 32)
		if err != nil {
			return u, err
		}
		u[i] = uint32(n)
	}
	return u, nil
}
