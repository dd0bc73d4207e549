// Package daemon runs real daemons for tests: it builds convoked and convoke once for a test binary, starts nodes in
// folders of their own, and looks when they end that they leave nothing behind.
//
// A test package that uses it has
//
//	func TestMain(m *testing.M) { os.Exit(daemon.Main(m)) }
//
// and its tests begin with Need, then Start:
//
//	func TestTree_NamesItsNode(t *testing.T) {
//		daemon.Need(t, "fuse", "root")
//		n := daemon.Start(t, daemon.Opts{Name: "web1"})
//		n.Want(`readlink cluster/self`, "members/web1\n")
//	}
//
// The daemon is another process, so the test may use the mount by ordinary calls; Within keeps a bound on them. Nothing
// here waits without one. Helpers that take a testing.TB end the test when they cannot do what they are for.
package daemon
