package fs

import (
	"context"
	"fmt"
	"syscall"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/fs/kernel"
)

var (
	_ opener = (*groupCtl)(nil)
	_ owned  = (*groupCtl)(nil)
)

// groupCtl is cluster/groups/NAME/ctl. Its commands go into the cluster's order under the opener's name, so he must be known.
type groupCtl struct{ groupFile }

func (n *groupCtl) mayWait() bool { return false }

func (n *groupCtl) open(ctx context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno) {
	who, err := n.t.groupCaller(c)
	if err != nil {
		n.t.log.refused(c, "open "+n.path(), err)
		return kernel.Opened{}, errno(err)
	}
	return newCtl(n.t, 0, 0, 0, n.path(), groupVerbs(n.t.opts.Groups, n.name, who)).open(ctx, c, flags)
}

// groupVerbs are the commands of a group's ctl, for who.
func groupVerbs(g Groups, name string, who group.Caller) verbs {
	return verbs{
		"leave": {min: 1, max: 1,
			check: func(args []string) error {
				if _, ok := parseProcess(args[0]); !ok {
					return fmt.Errorf("%q is not NODEID:PID[.N]: %w", args[0], syscall.EINVAL)
				}
				return nil
			},
			run: func(ctx context.Context, args []string) error {
				p, _ := parseProcess(args[0])
				return inOrder(ctx, func(ctx context.Context) error { return g.Evict(ctx, name, who, p) })
			}},
		"mode": choice("open", "closed", func(ctx context.Context, open bool) error { return g.Open(ctx, name, who, open) }),
		"quorum": choice("need", "ignore", func(ctx context.Context, need bool) error {
			return g.NeedQuorum(ctx, name, who, need)
		}),
	}
}

// choice is a command of one word, yes or no.
func choice(yes, no string, run func(ctx context.Context, yes bool) error) verb {
	return verb{min: 1, max: 1,
		check: func(args []string) error {
			if args[0] != yes && args[0] != no {
				return fmt.Errorf("%q is neither %s nor %s: %w", args[0], yes, no, syscall.EINVAL)
			}
			return nil
		},
		run: func(ctx context.Context, args []string) error {
			return inOrder(ctx, func(ctx context.Context) error { return run(ctx, args[0] == yes) })
		}}
}
