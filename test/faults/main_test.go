package faults

import (
	"os"
	"testing"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestMain(m *testing.M) { os.Exit(daemon.Main(m)) }

// start starts a node of one for a test that runs beside others.
func start(t *testing.T, args ...string) *daemon.Node {
	t.Helper()
	daemon.Need(t, "fuse", "root")
	t.Parallel()
	return daemon.Start(t, daemon.Opts{Args: args})
}

// waitMetric waits until a metric of the node has a value.
func waitMetric(t *testing.T, n *daemon.Node, name string, want int64) {
	t.Helper()
	daemon.Eventually(t, daemon.Bound, name, func() bool { return n.Metric(name) == want })
}
