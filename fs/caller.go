package fs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/rendezvous"
)

// caller is who made a request, as the kernel states it. pid is the number of a thread.
type caller struct {
	uid, gid, pid uint32
}

func callerOf(h *fuse.InHeader) caller { return caller{h.Uid, h.Gid, h.Pid} }

// identify finds what the kernel's header leaves out. It must be called while the caller waits for his answer: only
// until then is his pid surely his own. A caller from a pid namespace that the daemon cannot see has pid 0 and no
// identity.
func (c caller) identify() (rendezvous.Caller, error) {
	return rendezvous.LookupCaller(int(c.pid), c.uid, c.gid)
}

// sameNet refuses a caller from another network namespace: the daemon would dial from its own, to where the caller
// has no network.
func (t *Tree) sameNet(c caller) error {
	if t.opts.ForeignNet {
		return nil
	}
	same, err := rendezvous.SameNetNS(int(c.pid))
	switch {
	case err != nil:
		return &rendezvous.Error{Op: "open", Kind: rendezvous.Permission, Err: &reason{"the caller's network namespace cannot be seen", err}}
	case !same:
		return &rendezvous.Error{Op: "open", Kind: rendezvous.Permission, Err: &reason{"the caller is in another network namespace", syscall.EACCES}}
	}
	return nil
}

// reason is an error with a cause that says more than the cause, and that means EACCES, but where this host had nothing
// left to look with: that says nothing about the caller.
type reason struct {
	text  string
	cause error
}

func (r *reason) Error() string { return r.text + ": " + r.cause.Error() }

func (r *reason) Unwrap() error {
	for _, short := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(r.cause, short) {
			return short
		}
	}
	return syscall.EACCES
}
