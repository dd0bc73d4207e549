package fs

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/rendezvous"
)

// Groups are the process groups of the cluster. Its methods may be called from many goroutines. Those with a context
// wait until what they ask for has its place in the cluster's order; the others answer from memory. Their errors wrap a
// syscall.Errno. [group.Groups] is one.
type Groups interface {
	Join(ctx context.Context, name string, c group.Caller, o group.JoinOpts) (*group.Member, error)
	Sender(name string, c group.Caller) (*group.Sender, error)
	Mkdir(ctx context.Context, name string, c group.Caller) error
	Rmdir(ctx context.Context, name string, c group.Caller) error
	Change(ctx context.Context, name string, c group.Caller, ch group.Change) error
	Open(ctx context.Context, name string, c group.Caller, open bool) error
	NeedQuorum(ctx context.Context, name string, c group.Caller, need bool) error
	Evict(ctx context.Context, name string, c group.Caller, p group.Process) error
	Group(name string) (group.Info, bool)
	Attrs(name string) (group.Info, bool)
	List() []group.Info
}

var _ Groups = (*group.Groups)(nil)

// orderTime is how long anybody waits for the cluster's order. It comes in milliseconds, but while a ring is being formed.
const orderTime = 30 * time.Second

// inOrder calls f, which waits for the order, with a bound. An error because of the bound, or of a signal to the caller, says
// that first.
func inOrder(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, orderTime, errNoOrder)
	defer cancel()
	err := f(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

var errNoOrder = fmt.Errorf("the cluster has not agreed within %v: %w", orderTime, syscall.ETIMEDOUT)

// groupCaller finds who asks for something of a group, while he waits for his answer.
//
// A caller from another network namespace is refused, as one who wants a connection is. Nobody dials for him, but a group
// is a way to other hosts all the same: what a member writes is read there, and what they write is read here. Who has no
// network is not to have that one.
func (t *Tree) groupCaller(c caller) (group.Caller, error) {
	if err := t.sameNet(c); err != nil {
		return group.Caller{}, err
	}
	who, err := c.identify()
	if err != nil {
		return group.Caller{}, &rendezvous.Error{Op: "open", Kind: rendezvous.Permission, Err: &reason{"the caller cannot be identified", err}}
	}
	return group.Caller{PID: who.TGID, UID: who.UID, GID: who.GID, Groups: who.Groups}, nil
}
