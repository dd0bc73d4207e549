package fs

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/convoke-fs/convoke/rendezvous"
)

var _ folder = (*clusterDir)(nil)

// clusterDir is cluster/: a table, and one name of many forms, events with its filter.
type clusterDir struct {
	*dir
	t *Tree
}

func (t *Tree) clusterDir() node {
	state := func(f func() string) node { return newState(0444, t.uid, t.gid, f) }
	ctlGID, ctlMode := t.groupOr("convoke", 0660, 0600)
	logGID, logMode := t.groupOr("adm", 0640, 0600)
	self := newLink(t.uid, t.gid, func() string { return "members/" + t.opts.Cluster.Self().Name })
	groups := &groupsDir{base{syscall.S_IFDIR | syscall.S_ISVTX | 0777, t.uid, t.gid}, t}
	quorum := state(func() string { return strings.TrimSuffix(t.opts.Quorum(), "\n") + "\n" })
	return &clusterDir{newDir(t.uid, t.gid,
		row{name: "name", node: state(func() string { return t.opts.Name + "\n" })},
		row{name: "version", node: state(func() string { return t.opts.Version + "\n" })},
		row{name: "self", node: self, here: t.opts.Ready},
		row{name: "members", node: &membersDir{t.folderBase(0555), t}},
		row{name: "status", node: state(t.statusText)},
		row{name: "quorum", node: quorum, here: func() bool { return t.opts.Quorum != nil }},
		row{name: "groups", node: groups, here: func() bool { return t.opts.Groups != nil }},
		row{name: "events", node: newEvents(t, nil)},
		row{name: "ctl", node: newCtl(t, ctlMode, t.uid, ctlGID, "cluster/ctl", t.clusterVerbs())},
		row{name: "metrics", node: state(t.metricsText)},
		row{name: "log", node: &logNode{base{syscall.S_IFREG | logMode, t.uid, logGID}, t.log}},
	), t}
}

func (d *clusterDir) child(name string) (node, bool) {
	if n, ok := d.dir.child(name); ok {
		return n, true
	}
	if filter, ok := strings.CutPrefix(name, "events,"); ok {
		return filteredEvents(d.t, filter)
	}
	return nil, false
}

// clusterVerbs are the commands of cluster/ctl.
func (t *Tree) clusterVerbs() verbs {
	cl := t.opts.Cluster
	return verbs{
		"join": {min: 1, max: -1,
			check: func(args []string) error {
				for _, a := range args {
					if err := checkAddress(a); err != nil {
						return err
					}
				}
				return nil
			},
			run: func(ctx context.Context, args []string) error {
				_, err := cl.Join(ctx, args)
				return err
			}},
		"leave": {run: func(ctx context.Context, _ []string) error { return cl.Leave(ctx) }},
		"remove": {min: 1, max: 1,
			check: func(args []string) error {
				if !slices.ContainsFunc(cl.Members(), func(m member) bool { return m.Name == args[0] }) {
					return fmt.Errorf("%q is no member: %w", args[0], syscall.ENOENT)
				}
				return nil
			},
			run: func(ctx context.Context, args []string) error { return cl.Remove(ctx, args[0]) }},
		"tag": {min: 1, max: 1,
			check: func(args []string) error {
				key, _, ok := strings.Cut(args[0], "=")
				if !ok || !rendezvous.ValidName(key) {
					return fmt.Errorf("%q is not KEY=VALUE: %w", args[0], syscall.EINVAL)
				}
				return nil
			},
			run: func(ctx context.Context, args []string) error {
				key, value, _ := strings.Cut(args[0], "=")
				return cl.SetTag(ctx, key, value)
			}},
	}
}

// checkAddress takes HOST or HOST:PORT.
func checkAddress(s string) error {
	host, port := s, ""
	if !rendezvous.ValidHost(s) {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return fmt.Errorf("%q is not HOST[:PORT]: %w", s, syscall.EINVAL)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%q is no port: %w", port, syscall.EINVAL)
		}
	}
	if !rendezvous.ValidHost(host) {
		return fmt.Errorf("%q is no host: %w", host, syscall.EINVAL)
	}
	return nil
}
