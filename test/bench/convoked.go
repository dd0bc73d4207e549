package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/cluster"
	"github.com/convoke-fs/convoke/test/netns"
)

// convokes is the system convoke.
type convokes struct {
	net     *netns.Net
	dir     string
	self    string // this program, for members
	file    string // convoked
	key     string // the key's file; "" without crypto
	daemons []*daemon
}

func newConvokes(dir, file string, crypto bool) func(*netns.Net) (system, error) {
	return func(w *netns.Net) (system, error) {
		c := &convokes{net: w, dir: dir, file: file, daemons: make([]*daemon, len(w.Hosts))}
		var err error
		if c.self, err = os.Executable(); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if crypto {
			c.key = filepath.Join(dir, "key")
			return c, os.WriteFile(c.key, cluster.NewKey(), 0o600)
		}
		return c, nil
	}
}

func (c *convokes) node(i int) string { return filepath.Join(c.dir, fmt.Sprint(i+1)) }

func (c *convokes) start(ctx context.Context, i int) error {
	args := []string{"--bind", c.net.Hosts[i].Addr}
	if c.key != "" {
		args = append(args, "--key-file", c.key)
	} else {
		args = append(args, "--insecure")
	}
	for j, h := range c.net.Hosts {
		if j != i && c.daemons[j] != nil {
			args = append(args, "--join", h.Addr)
		}
	}
	cmd := c.net.Hosts[i].Command(c.file, daemonArgs(fmt.Sprintf("n%d", i+1), c.node(i), args...)...)
	d, err := startNode(ctx, c.node(i), cmd)
	if err == nil {
		c.daemons[i] = d
	}
	return err
}

func (c *convokes) pid(i int) int { return c.daemons[i].cmd.Process.Pid }

func (c *convokes) log(i int) string { return filepath.Join(c.node(i), "log") }

// kill leaves the mount, which the next start of the node takes over.
func (c *convokes) kill(i int) {
	d := c.daemons[i]
	_ = d.cmd.Process.Signal(unix.SIGKILL)
	err := <-d.ended
	d.ended <- err
}

func (c *convokes) member(i int, way, tag, group string) *exec.Cmd {
	return c.net.Hosts[i].Command(c.self, "member", way, tag, group, nodeMount(c.node(i)))
}

// mkdir makes a group that is there without members, and waits until all nodes have it.
func (c *convokes) mkdir(ctx context.Context, group string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	path := func(i int) string { return filepath.Join(nodeMount(c.node(i)), "cluster/groups", group) }
	// Who is in another network namespace takes no part in groups.
	if out, err := c.net.Hosts[0].Command("mkdir", "-p", path(0)).CombinedOutput(); err != nil {
		return fmt.Errorf("mkdir %s: %w: %s", path(0), err, out)
	}
	tick := time.NewTicker(20 * time.Millisecond) // nothing tells of a name that appears in a mount
	defer tick.Stop()
	for i := 0; i < len(c.daemons); {
		if _, err := os.Stat(path(i)); err == nil {
			i++
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s does not appear on all nodes: %w", group, ctx.Err())
		}
	}
	return nil
}

func (c *convokes) stop() error {
	var errs []error
	for _, d := range c.daemons {
		if d != nil {
			errs = append(errs, d.stop())
		}
	}
	return errors.Join(errs...)
}
