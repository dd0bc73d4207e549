package fs

import (
	"context"
	"errors"
	"syscall"

	"github.com/convoke-fs/convoke/cluster"
	"github.com/convoke-fs/convoke/rendezvous"
)

// kinds is the one table from what went wrong to what the caller sees. An errno that an error carries, because the
// system said so, goes before its kind.
var kinds = map[rendezvous.Kind]syscall.Errno{
	rendezvous.Other:       syscall.EIO,
	rendezvous.NotExist:    syscall.ENOENT,
	rendezvous.Refused:     syscall.ECONNREFUSED,
	rendezvous.Timeout:     syscall.ETIMEDOUT,
	rendezvous.Permission:  syscall.EACCES,
	rendezvous.Invalid:     syscall.EINVAL,
	rendezvous.Unavailable: syscall.EHOSTUNREACH,
	rendezvous.NoQuorum:    syscall.ENETDOWN,
	rendezvous.Busy:        syscall.EBUSY,
}

// clusterErrors are the errors by which package cluster says why a command failed.
var clusterErrors = []struct {
	err   error
	errno syscall.Errno
}{
	{cluster.ErrNoKey, syscall.ENOKEY},
	{cluster.ErrForeign, syscall.EKEYREJECTED},
	{cluster.ErrNameTaken, syscall.EEXIST},
	{cluster.ErrAlive, syscall.EBUSY},
	{cluster.ErrUnknownMember, syscall.ENOENT},
	{cluster.ErrInvalid, syscall.EINVAL},
	{cluster.ErrTooLarge, syscall.EMSGSIZE},
	{cluster.ErrInUse, syscall.EBUSY},
	{cluster.ErrClosed, syscall.ESHUTDOWN},
}

// errno gives the number under which a caller sees err.
func errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(syscall.Errno); ok {
		return e // as EAGAIN comes, and often
	}
	for _, c := range clusterErrors {
		if errors.Is(err, c.err) {
			return c.errno
		}
	}
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.Canceled) {
		return syscall.EINTR
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return syscall.ETIMEDOUT
	}
	if errors.Is(err, cluster.ErrNoAnswer) {
		return syscall.EHOSTUNREACH // the system has named no other reason
	}
	return kinds[rendezvous.KindOf(err)]
}
