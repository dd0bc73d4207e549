package rendezvous

import (
	"context"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	backlogDelay    = time.Millisecond      // the first wait for room in a full backlog; doubled at each turn
	backlogMaxDelay = 50 * time.Millisecond // the longest
)

// DialUnix connects to the AF_UNIX stream socket name in the folder dir, as the caller: permissions of folder and
// socket are checked for c's uid, gid and groups, and the server sees them as SO_PEERCRED (the pid is this process's).
// If this process is not root, all is done as this process. The folders above dir are passed with this process's own
// rights, dir may be as long as it likes and may lie in a file system that this process serves itself: no lock is held,
// no thread is needed by others. name is one element and is not followed if it is a symbolic link.
//
// A server whose backlog is full is waited for until timeout (DefaultTimeout for 0 and less), then it is ETIMEDOUT. The
// descriptor is non-blocking and close-on-exec, and the caller owns it.
//
// Errors are *Error that wrap an errno: ENOENT: no such socket; ECONNREFUSED: nobody listens, or it is no socket;
// EACCES; EPROTOTYPE: the socket is not of the kind SOCK_STREAM; EPERM: c's ids cannot be taken; EINVAL: name is no
// element. When ctx ends it returns at once, as Dial does, though a file system that does not answer may keep a
// goroutine until it answers.
func DialUnix(ctx context.Context, dir, name string, c Creds, timeout time.Duration) (fd int, err error) {
	return dialUnix(ctx, dir, name, c, timeout, nil)
}

// dialUnix is DialUnix. If bound is given, the client's socket has an abstract name, and bound is told it before each
// attempt, on any goroutine and maybe after dialUnix has returned; its error fails the attempt.
func dialUnix(ctx context.Context, dir, name string, c Creds, timeout time.Duration, bound func(name string) error) (fd int, err error) {
	path := "dev/fdp/local/" + name
	if !c.valid() || !validElement(name) {
		return -1, &Error{Op: "dial", Path: path, Kind: Invalid, Err: unix.EINVAL}
	}
	return retryUnix(ctx, path, timeout, func() <-chan unixResult { return connectUnixAs(c, dir, name, bound) })
}

// retryUnix makes attempts until one has another result than a full backlog, or the time or ctx ends.
func retryUnix(ctx context.Context, path string, timeout time.Duration, attempt func() <-chan unixResult) (int, error) {
	fail := func(err error) (int, error) {
		return -1, &Error{Op: "dial", Path: path, Kind: KindOf(err), Err: err}
	}
	if ctx.Err() != nil {
		return -1, contextError(ctx, "dial", path)
	}
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	end := time.NewTimer(timeout)
	defer end.Stop()
	for delay := backlogDelay; ; delay = min(2*delay, backlogMaxDelay) {
		result := attempt()
		var r unixResult
		select {
		case r = <-result:
		case <-ctx.Done():
			go discard(result)
			return -1, contextError(ctx, "dial", path)
		case <-end.C:
			go discard(result)
			return fail(unix.ETIMEDOUT)
		}
		if r.err == nil {
			return r.fd, nil
		}
		if r.err != unix.EAGAIN {
			return fail(r.err)
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return -1, contextError(ctx, "dial", path)
		case <-end.C:
			return fail(unix.ETIMEDOUT)
		}
	}
}

type unixResult struct {
	fd  int
	err error
}

// discard waits for a result that nobody wants any more.
func discard(result <-chan unixResult) {
	if r := <-result; r.err == nil {
		unix.Close(r.fd)
	}
}

// connectUnixAs makes one attempt. It is not waited for, since open(2) may ask a file system that is slow to answer.
func connectUnixAs(c Creds, dir, name string, bound func(string) error) <-chan unixResult {
	result := make(chan unixResult, 1)
	go func() {
		folder, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			result <- unixResult{-1, err}
			return
		}
		defer unix.Close(folder)
		r := unixResult{-1, unix.EPERM}
		connect := func() { r.fd, r.err = connectUnix(folder, name, bound) }
		if c.own() {
			connect()
		} else {
			effectiveIdentity().run(c, connect) // if the ids cannot be taken, EPERM stays
		}
		result <- r
	}()
	return result
}

// connectUnix goes by an O_PATH descriptor of the socket itself, for sun_path has room for 107 bytes, less than
// the folder and the name may have.
func connectUnix(dir int, name string, bound func(string) error) (fd int, err error) {
	target, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(target)
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if bound != nil {
		err = nameSocket(fd, bound)
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(target)})
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// nameSocket has the kernel choose a name (unix(7), Autobind feature).
func nameSocket(fd int, bound func(string) error) error {
	if err := unix.Bind(fd, &unix.SockaddrUnix{}); err != nil {
		return err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	name, ok := sa.(*unix.SockaddrUnix)
	if !ok || name.Name == "" {
		return unix.EINVAL
	}
	return bound(name.Name)
}

func validElement(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > MaxElement {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] == '/' || s[i] == 0 {
			return false
		}
	}
	return true
}
