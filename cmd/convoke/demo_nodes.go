package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/convoke-fs/convoke/ipc"
)

// Bounds of the demonstration. They are far above what each thing takes, for
// machines that are busy.
const (
	readyTime = 20 * time.Second // a daemon's start, and all members seen
	stopTime  = 8 * time.Second  // a daemon's end after SIGTERM
)

var (
	demoNames = []string{"web1", "web2", "web3"}
	demoAddrs = []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}
)

// demoNode is one daemon. Its name is that of its mount in the folder, too.
type demoNode struct {
	name   string
	args   []string
	tree   *ipc.Tree
	log    string // file of its standard error
	cmd    *exec.Cmd
	exited chan struct{}
}

// newNode describes the daemon of the index's name and address. All but the
// first join the first.
func (d *demo) newNode(i int) *demoNode {
	name := demoNames[i]
	port := strconv.Itoa(d.port)
	args := []string{
		"--config", "demo.conf", "--name", name, "--bind", net.JoinHostPort(demoAddrs[i], port),
		"--state", "state/" + name, "--run", "run/" + name,
	}
	if i > 0 {
		args = append(args, "--join", net.JoinHostPort(demoAddrs[0], port))
	}
	return &demoNode{
		name: name, args: append(args, name), tree: &ipc.Tree{Dir: filepath.Join(d.dir, name)},
		log: filepath.Join(d.dir, "log", name),
	}
}

// start starts the daemon, and shows how a user would. When it ends before
// somebody says expectEnd, the demonstration fails.
func (d *demo) start(n *demoNode) error {
	fmt.Fprintf(d.out, "$ convoked %s 2>>log/%s &\n", strings.Join(n.args, " "), n.name)
	log, err := os.OpenFile(n.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(d.convoked, n.args...)
	cmd.Dir = d.dir
	cmd.Env = demoEnv()
	cmd.Stderr = log
	// A group of its own: ^C is for the demonstration, which then stops the
	// daemons in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	n.cmd, n.exited = cmd, exited
	go func() {
		defer close(exited)
		err := cmd.Wait()
		if err == nil {
			err = errors.New("exit status 0")
		}
		d.nodeEnded(n, err)
	}()
	return nil
}

// nodeEnded makes the demonstration fail, unless the daemon was killed by it.
func (d *demo) nodeEnded(n *demoNode, err error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signal() == syscall.SIGKILL {
			return
		}
	}
	text, _ := os.ReadFile(n.log)
	d.fail(fmt.Errorf("demo: the daemon of %s has ended: %w\n%s", n.name, err, bytes.TrimSpace(text)))
}

// ready waits until the daemon's tree answers.
func (d *demo) ready(n *demoNode) error {
	ctx, cancel := context.WithTimeout(d.ctx, readyTime)
	defer cancel()
	// What appears in a folder that becomes a mount is told by nothing that
	// could be waited for.
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		self, err := n.tree.Self()
		if err == nil && self == n.name {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("demo: %s is not ready: %w", n.name, errors.Join(err, context.Cause(ctx)))
		}
	}
}

// allAlive waits until n lists all members as alive, with all that they say of
// themselves.
func (d *demo) allAlive(n *demoNode) error {
	ctx, cancel := context.WithTimeout(d.ctx, readyTime)
	defer cancel()
	// Events come from the ring, and the list may need a moment longer.
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		members, err := n.tree.Members()
		up := 0
		for _, m := range members {
			if m.State == "alive" && m.Version != "-" {
				up++
			}
		}
		if up == len(d.nodes) {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("demo: %s does not see all members: %w", n.name, errors.Join(err, context.Cause(ctx)))
		}
	}
}

// demoEnv is the environment without what configures another convoke.
func demoEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CONVOKE_") })
}

// stop ends the daemon: by SIGTERM, and when that takes too long by SIGKILL.
func (n *demoNode) stop() {
	if n.cmd == nil {
		return
	}
	n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.exited:
	case <-time.After(stopTime):
		n.cmd.Process.Kill()
		<-n.exited
	}
}
