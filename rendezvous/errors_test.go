package rendezvous

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestError_TextNamesOperationPathAndCause(t *testing.T) {
	for _, tt := range []struct {
		err  Error
		want string
	}{
		{Error{Op: "dial", Path: "dev/tcp/db/5432", Kind: Refused, Err: unix.ECONNREFUSED}, "dial dev/tcp/db/5432: connection refused"},
		{Error{Op: "dial", Path: "dev/tcp/db/5432", Kind: Timeout}, "dial dev/tcp/db/5432: timed out"},
		{Error{Op: "join", Kind: NoQuorum}, "join: no quorum"},
		{Error{Kind: Busy}, "in use"},
		{Error{Path: "x", Kind: Kind(99)}, "x: kind 99"},
		{Error{Op: "parse", Path: "a\x1b[2J\nb", Kind: Invalid}, `parse "a\x1b[2J\nb": invalid`},
		{Error{Op: "parse", Path: "dev/tcp/ä/1", Kind: Invalid}, `parse "dev/tcp/\u00e4/1": invalid`},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestKindOf_LooksThroughWrappers(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want Kind
	}{
		{nil, Other},
		{errors.New("x"), Other},
		{&Error{Kind: NoQuorum}, NoQuorum},
		{fmt.Errorf("a: %w", &Error{Kind: Busy, Err: unix.EACCES}), Busy},
		{&Error{Op: "open", Err: &Error{Kind: Refused}}, Refused},
		{&Error{Op: "open", Err: fmt.Errorf("a: %w", unix.ENETUNREACH)}, Unavailable},
		{&Error{Op: "open", Err: context.DeadlineExceeded}, Timeout},
		{context.DeadlineExceeded, Timeout},
		{context.Canceled, Other},
		{os.ErrDeadlineExceeded, Timeout},
		{&os.PathError{Op: "open", Path: "x", Err: unix.ENOENT}, NotExist},
		{iofs.ErrNotExist, NotExist},
		{iofs.ErrPermission, Permission},
		{iofs.ErrExist, Busy},
		{iofs.ErrInvalid, Invalid},
		{&net.DNSError{IsNotFound: true}, NotExist},
		{&net.DNSError{IsTimeout: true}, Timeout},
		{&net.DNSError{IsTemporary: true}, Unavailable},
		{unix.EINTR, Other},
		{unix.EPERM, Permission},
		{unix.ECONNREFUSED, Refused},
		{unix.EADDRINUSE, Busy},
		{unix.ENAMETOOLONG, Invalid},
		{unix.ETIMEDOUT, Timeout},
		{unix.EMFILE, Unavailable},
	} {
		if got := KindOf(tt.err); got != tt.want {
			t.Errorf("KindOf(%v): got %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestContextError_CauseDecidesTheErrno(t *testing.T) {
	why := errors.New("caller was interrupted")
	for _, tt := range []struct {
		cause error
		errno unix.Errno
		kind  Kind
	}{
		{why, unix.EINTR, Other},
		{nil, unix.EINTR, Other},
		{context.DeadlineExceeded, unix.ETIMEDOUT, Timeout},
		{fmt.Errorf("daemon stops: %w", unix.EHOSTUNREACH), unix.EHOSTUNREACH, Unavailable},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(tt.cause)
		err := contextError(ctx, "dial", "p")
		var errno unix.Errno
		if !errors.As(err, &errno) || errno != tt.errno || KindOf(err) != tt.kind {
			t.Errorf("cause %v: got %v (%v, kind %v), want errno %v, kind %v", tt.cause, err, errno, KindOf(err), tt.errno, tt.kind)
		}
		if !errors.Is(err, context.Cause(ctx)) {
			t.Errorf("cause %v is lost in %v", tt.cause, err)
		}
	}
}
