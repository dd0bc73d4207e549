package ring

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/test/daemon"
)

// A cluster is some daemons with one key.
type cluster struct {
	t     testing.TB
	hosts []*daemon.Host // empty without a network of its own
	nodes []*daemon.Node
	key   string // its file
	lives []int  // starts of each
}

// clusterOpts say what kind. The zero value is on loopback addresses.
type clusterOpts struct {
	net   bool // each node in a network namespace
	plain bool // daemons without the race detector
	args  []string
}

// longTime is how long a cluster may take to become one, on a machine that does much else: a member that was put out
// again and again is let in after 30 s only.
const longTime = 2 * time.Minute

// start starts n daemons, which find each other.
func start(t testing.TB, n int, o clusterOpts) *cluster {
	t.Helper()
	c := prepare(t, n, o)
	for i := range c.nodes {
		c.startNode(i)
	}
	c.together(c.all()...)
	return c
}

// prepare is start without starting the daemons.
func prepare(t testing.TB, n int, o clusterOpts) *cluster {
	t.Helper()
	needs := []string{"fuse", "root"}
	if o.net {
		needs = append(needs, "netns", "nft")
	}
	daemon.Need(t, needs...)
	c := &cluster{t: t, lives: make([]int, n)}
	if o.net {
		c.hosts = daemon.NewNet(t, n).Hosts
	}
	c.key = daemon.NewKey(t)
	for i := range n {
		opts := daemon.Opts{
			Name: "n" + strconv.Itoa(i+1), KeyFile: c.key, Join: c.nodes, Plain: o.plain,
			Args: append([]string{"--dead-after", deadAfter(o.plain).String()}, o.args...),
		}
		if o.net {
			opts.Host = c.hosts[i]
		}
		c.nodes = append(c.nodes[:i:i], daemon.Prepare(t, opts))
	}
	return c
}

// startNode starts a daemon, again if it has ended.
func (c *cluster) startNode(i int) {
	c.t.Helper()
	c.nodes[i].Start()
	c.lives[i]++
}

// life names the present life of a daemon.
func (c *cluster) life(i int) string { return fmt.Sprintf("n%d/%d", i+1, c.lives[i]) }

func (c *cluster) all() []int {
	all := make([]int, len(c.nodes))
	for i := range all {
		all[i] = i
	}
	return all
}

// quorum returns a field of a node's cluster/quorum.
func (c *cluster) quorum(i int, key string) string {
	c.t.Helper()
	return field(c.nodes[i].Read("cluster/quorum"), key)
}

// together waits until these nodes, and no others, are in one ring.
func (c *cluster) together(nodes ...int) {
	c.t.Helper()
	want := strconv.Itoa(len(nodes))
	end := time.Now().Add(longTime)
	look := time.NewTicker(20 * time.Millisecond) // cluster/events would tell of one node only
	defer look.Stop()
	for {
		first, ok := c.quorum(nodes[0], "ring"), true
		for _, i := range nodes {
			ok = ok && c.quorum(i, "ring") == first && c.quorum(i, "votes") == want
		}
		if ok {
			return
		}
		if time.Now().After(end) {
			var b strings.Builder
			for _, i := range nodes {
				fmt.Fprintf(&b, "%s: %s", c.nodes[i].Name, c.nodes[i].Read("cluster/quorum"))
			}
			c.t.Fatalf("no ring of %d after %v:\n%s", len(nodes), longTime, b.String())
		}
		<-look.C
	}
}

// spawn starts a member at a node and returns it with its trace's file.
func (c *cluster) spawn(i int, way, group string, seed uint64, pace time.Duration, largest int, trace string) *daemon.Child {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	if way == "feed" {
		largest = min(largest, maxFeedMessage)
	}
	args := []string{memberRole, way, c.nodes[i].Mount, group, trace, fmt.Sprint(seed), fmt.Sprint(pace.Milliseconds()), fmt.Sprint(largest)}
	return daemon.Spawn(c.t, c.command(i, self, args...))
}

// command is a program on a node's host.
func (c *cluster) command(i int, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	if len(c.hosts) > 0 {
		cmd = c.hosts[i].Command(name, args...)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// tracePath is where a trace of this name is to be.
func tracePath(t testing.TB, dir, name string) string {
	if *traceDir != "" {
		dir = *traceDir
	}
	return filepath.Join(dir, name)
}
