package fs

import (
	"context"
	"fmt"
	"syscall"

	"github.com/convoke-fs/convoke/cluster/group"
)

var _ maker = (*groupsDir)(nil)

// groupsDir is cluster/groups: one folder a group, which mkdir(2) makes and rmdir(2) ends.
type groupsDir struct {
	base
	t *Tree
}

func (d *groupsDir) child(name string) (node, bool) {
	named, ok := group.UnescapeName(name)
	if !ok {
		return nil, false
	}
	if _, ok := d.t.opts.Groups.Attrs(named); !ok {
		return nil, false
	}
	return newGroupDir(d.t, named), true
}

func (d *groupsDir) list(uint32) []entry {
	var es []entry
	for _, g := range d.t.opts.Groups.List() {
		if name := group.EscapeName(g.Name); len(name) <= nameMax {
			es = append(es, entry{name, syscall.S_IFDIR})
		}
	}
	return es
}

func (d *groupsDir) ordered() {}

func (d *groupsDir) path() string { return groupsPath }

func (d *groupsDir) makeDir(ctx context.Context, c caller, name string) (node, error) {
	if !group.ValidName(name) {
		return nil, fmt.Errorf("bad name of a group: %w", syscall.EINVAL)
	}
	who, err := d.t.groupCaller(c)
	if err == nil {
		err = inOrder(ctx, func(ctx context.Context) error { return d.t.opts.Groups.Mkdir(ctx, name, who) })
	}
	return newGroupDir(d.t, name), err
}

func (d *groupsDir) removeDir(ctx context.Context, c caller, name string) error {
	named, ok := group.UnescapeName(name)
	if !ok {
		return syscall.ENOENT
	}
	who, err := d.t.groupCaller(c)
	if err != nil {
		return err
	}
	return inOrder(ctx, func(ctx context.Context) error { return d.t.opts.Groups.Rmdir(ctx, named, who) })
}
