// Convoked mounts the cluster as a tree of files. Its manual page is convoked(8).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/cluster"
	"github.com/convoke-fs/convoke/cluster/watch"
	"github.com/convoke-fs/convoke/fs"
	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous/launch"
)

// Exit statuses, as convoked(8) lists them.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitConfig = 78 // EX_CONFIG of sysexits.h: starting again will not help
)

func main() {
	launch.MaybeHelper()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	c, err := parseConfig(args, os.LookupEnv)
	switch {
	case errors.Is(err, errHelp):
		fmt.Fprint(stdout, usage())
		return exitDone
	case err != nil:
		fmt.Fprintf(stderr, "convoked: %v\n", err)
		if errors.Is(err, errUsage) {
			return exitUsage
		}
		return exitConfig
	case c.version:
		fmt.Fprintln(stdout, "convoked", version())
		return exitDone
	}
	key, err := c.key()
	if err != nil {
		fmt.Fprintf(stderr, "convoked: %v\n", err)
		return exitConfig
	}
	if c.check {
		return exitDone
	}
	if err := serve(c, key, stderr); err != nil {
		fmt.Fprintf(stderr, "convoked: %v\n", err)
		if errors.Is(err, cluster.ErrInvalid) {
			return exitConfig
		}
		return exitFailed
	}
	return exitDone
}

// serve runs the node until a signal or the mount's end.
func serve(c *config, key *cluster.Key, stderr io.Writer) error {
	if err := harden(); err != nil {
		return err
	}
	maxFiles, err := raiseFiles()
	if err != nil {
		return err
	}
	tuneRuntime()
	limits := quota.New(maxFiles)
	for _, l := range c.limits {
		if err := limits.Set(l); err != nil {
			return err
		}
	}
	file := fs.NewLog(c.level)
	lines := newLineWriter(stderr)
	toStderr := logHandler(c, lines)
	lines.start(func(n int) {
		slog.New(toStderr).Warn("lines of the log are missing here: nobody read them", "count", n)
	})
	defer lines.close()
	log := slog.New(tee{toStderr, file})
	file.Report(slog.New(file)) // what users did wrong is for cluster/log; stderr is for what the daemon does

	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE)

	run, err := openRunDir(c.runDir)
	if err != nil {
		return err
	}
	defer run.Close()
	fd, mount, err := kernel.Mount(c.mountPoint)
	if err != nil {
		return err
	}
	var ready atomic.Bool
	hub := watch.NewHub()
	server, err := kernel.NewServer(fd, kernel.Options{Log: log, Quota: limits})
	if err != nil {
		return errors.Join(err, mount.Unmount())
	}
	node, err := cluster.Start(ctx, cluster.Config{
		Name: c.name, Cluster: c.cluster, Bind: c.bindAddr, Key: key, Insecure: c.insecure,
		StateDir: c.stateDir, Join: c.join, Version: version(), Log: log, Watch: hub, Quorum: c.quorum, Dead: c.deadAfter,
	})
	if err != nil {
		return errors.Join(err, mount.Unmount())
	}
	tuneGarbage(ctx, func() uint64 { return node.RingStatus().Carried })
	offered := newServices(c, node, mount.Dir, limits, file, log)
	tree := fs.New(fs.Opts{
		Dir: mount.Dir, Server: server, Cluster: node, Watch: hub, Log: file, Quota: limits, Host: offered.host,
		Name: c.cluster, Version: version(), ForeignNet: c.foreignNet == "allow", Ready: ready.Load,
		CanStart: offered.canStart, Metrics: offered.metrics, Groups: node.Groups(), Quorum: node.QuorumLine,
	})
	offered.tree = tree
	server.SetTree(tree)
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()

	err = mount.Wait()
	if err == nil {
		err = offered.open(mount.Dir)
	}
	if err == nil {
		ready.Store(true)
		log.Info("ready", "mount", mount.Dir, "name", c.name, "cluster", c.cluster, "version", version())
		notify("READY=1\nSTATUS=mounted " + mount.Dir)
		select {
		case <-ctx.Done():
			log.Info("stopping")
			notify("STOPPING=1")
		case err = <-served:
			log.Warn("unmounted by somebody else", "mount", mount.Dir)
			offered.close()
			tree.Close()
			return errors.Join(err, node.Close())
		}
	}
	// The mount goes first, so that nothing is left of it whatever comes next. Each step has a bound of a few seconds;
	// further signals change nothing.
	ready.Store(false)
	err = errors.Join(err, mount.Unmount())
	offered.close()
	err = errors.Join(err, mount.Ended(served))
	tree.Close()
	return errors.Join(err, node.Close())
}
