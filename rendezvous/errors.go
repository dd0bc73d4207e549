// Package rendezvous is the vocabulary and the logic of connect streams: paths, names and ports, resolving, dialling and
// announcing with the caller's identity, proving who connects, and the kinds of errors.
package rendezvous

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Kind says what sort of failure an Error is. There are few kinds, one for each thing that a caller can do about it.
// A unix errno in the chain of Error.Err is more exact than the Kind and wins where an errno is needed.
type Kind uint8

const (
	Other       Kind = iota // none of the others; an interrupted call too (it wraps EINTR)
	NotExist                // the host, service or name is not there
	Refused                 // it is there, and it said no
	Timeout                 // no answer in time
	Permission              // this user may not
	Invalid                 // the request is malformed and can never succeed
	Unavailable             // it cannot be done at present: no route, no resource, a temporary failure
	NoQuorum                // the cluster has no quorum for it
	Busy                    // the name, port or object is in use
)

var kindTexts = [...]string{
	Other:       "failed",
	NotExist:    "no such host or service",
	Refused:     "refused",
	Timeout:     "timed out",
	Permission:  "permission denied",
	Invalid:     "invalid",
	Unavailable: "unavailable",
	NoQuorum:    "no quorum",
	Busy:        "in use",
}

// String returns the text that stands for the Kind in an Error without Err.
func (k Kind) String() string {
	if int(k) < len(kindTexts) {
		return kindTexts[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// Error is a failed operation on a path. It is made as a literal, &Error{...}, and read with errors.As and KindOf.
type Error struct {
	Op   string // what was tried: "parse", "resolve", "dial"
	Path string // on what: a stream path without the mount point; may be empty
	Kind Kind
	Err  error // optional: the cause
}

// Error returns "dial dev/tcp/db/5432: connection refused". A path with bytes that are not printable ASCII is quoted,
// since it may come from any user.
func (e *Error) Error() string {
	s := e.Op
	if e.Path != "" {
		if s != "" {
			s += " "
		}
		s += printable(e.Path)
	}
	cause := e.Kind.String()
	if e.Err != nil {
		cause = e.Err.Error()
	}
	if s == "" {
		return cause
	}
	return s + ": " + cause
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func printable(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}

// KindOf tells the Kind of any error: that of the outermost Error in its chain whose Kind is not Other, else what the
// unix errno in it means, else what the errors of context, net, os and io/fs mean. It is Other for nil and for all
// else.
func KindOf(err error) Kind {
	for e := err; ; {
		var ours *Error
		if !errors.As(e, &ours) {
			break
		}
		if ours.Kind != Other {
			return ours.Kind
		}
		e = ours.Err
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errnoKind(errno)
	}
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	case errors.As(err, &dns) && dns.IsNotFound:
		return NotExist
	case errors.As(err, &dns) && !dns.IsTimeout:
		return Unavailable
	case errors.Is(err, iofs.ErrNotExist):
		return NotExist
	case errors.Is(err, iofs.ErrPermission):
		return Permission
	case errors.Is(err, iofs.ErrExist):
		return Busy
	case errors.Is(err, iofs.ErrInvalid):
		return Invalid
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return Timeout
	}
	return Other
}

func errnoKind(errno unix.Errno) Kind {
	switch errno {
	case unix.ENOENT, unix.ENODEV, unix.ENXIO, unix.ESRCH, unix.ENOTDIR:
		return NotExist
	case unix.ECONNREFUSED, unix.ECONNRESET, unix.ECONNABORTED:
		return Refused
	case unix.ETIMEDOUT, unix.ETIME:
		return Timeout
	case unix.EACCES, unix.EPERM, unix.EROFS:
		return Permission
	case unix.EINVAL, unix.ENAMETOOLONG, unix.EDESTADDRREQ, unix.EPROTOTYPE:
		return Invalid
	case unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN, unix.EADDRNOTAVAIL, unix.EAFNOSUPPORT,
		unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAGAIN, unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM,
		unix.ENOSPC, unix.ESHUTDOWN:
		return Unavailable
	case unix.EBUSY, unix.EADDRINUSE, unix.EEXIST:
		return Busy
	}
	return Other
}

// contextError is what an operation returns whose ctx has ended: ETIMEDOUT when its time is over, the errno of the
// cause when the canceller gave one, else EINTR, since it is a signal to the caller that cancels.
func contextError(ctx context.Context, op, path string) error {
	cause := context.Cause(ctx)
	var errno unix.Errno
	switch {
	case errors.As(cause, &errno):
		return &Error{Op: op, Path: path, Kind: errnoKind(errno), Err: cause}
	case errors.Is(cause, context.DeadlineExceeded):
		return &Error{Op: op, Path: path, Kind: Timeout, Err: fmt.Errorf("%w: %w", unix.ETIMEDOUT, cause)}
	}
	return &Error{Op: op, Path: path, Kind: Other, Err: fmt.Errorf("%w: %w", unix.EINTR, cause)}
}
