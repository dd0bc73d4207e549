package faults

import (
	"strings"
	"testing"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestMembers_JoinLeaveDieAndComeBack(t *testing.T) {
	daemon.Need(t, "fuse", "root")
	t.Parallel()
	key := daemon.NewKey(t)
	a := daemon.Start(t, daemon.Opts{Name: "a", KeyFile: key})
	b := daemon.Start(t, daemon.Opts{Name: "b", KeyFile: key, Join: []*daemon.Node{a}})
	c := daemon.Start(t, daemon.Opts{Name: "c", KeyFile: key})
	all := []*daemon.Node{a, b, c}
	if r := c.Sh("echo join " + b.Addr + " >cluster/ctl"); r.Code != 0 {
		t.Fatalf("join: %+v", r)
	}
	for _, n := range all {
		n.WaitAlive("a", "b", "c")
	}
	if got := a.Sh("cat cluster/members/*/id | sort | uniq -d"); got.Out != "" {
		t.Errorf("two members have one number: %q", got.Out)
	}

	// A member that leaves is told so, and goes on alone.
	left := a.Spawn(daemon.U1000, "sh", "-c", `while read -r n t kind id name ring; do echo "$kind $name"; done <cluster/events,MEMBER_LEFT`)
	c.Want("echo leave >cluster/ctl; ls cluster/members", "c\n")
	if got := left.Line(); got != "MEMBER_LEFT c" {
		t.Errorf("got %q", got)
	}
	a.WaitAlive("a", "b")
	c.Sh("echo join " + a.Addr + " >cluster/ctl")
	for _, n := range all {
		n.WaitAlive("a", "b", "c")
	}

	// A member that is killed is seen by who only reads.
	id, boot := b.Read("cluster/self/id"), b.Read("cluster/self/boot")
	b.Kill()
	if got := left.Line(); got != "MEMBER_LEFT b" {
		t.Errorf("got %q", got)
	}
	a.WaitAlive("a", "c")
	b.Start()
	for _, n := range all {
		n.WaitAlive("a", "b", "c")
	}
	if now := a.Read("cluster/members/b/id"); now != id {
		t.Errorf("b has number %q, had %q", now, id)
	}
	if now := a.Read("cluster/members/b/boot"); now == boot {
		t.Errorf("b's boot is %q still", now)
	}

	// One that is started again before anybody missed it is told as gone and back.
	c.Kill()
	c.Start()
	if got := left.Line(); got != "MEMBER_LEFT c" {
		t.Errorf("got %q", got)
	}
	for _, n := range all {
		n.WaitAlive("a", "b", "c")
	}
}

func TestMembers_StrangersStayOut(t *testing.T) {
	daemon.Need(t, "fuse", "root")
	t.Parallel()
	key := daemon.NewKey(t)
	a := daemon.Start(t, daemon.Opts{Name: "a", KeyFile: key})
	b := daemon.Start(t, daemon.Opts{Name: "b", KeyFile: key, Join: []*daemon.Node{a}})
	a.WaitAlive("a", "b")
	for _, tc := range []struct {
		what string
		opts daemon.Opts
		want string // of the daemon's refusal
	}{
		{"another key", daemon.Opts{Name: "x", KeyFile: daemon.NewKey(t)}, "Key was rejected"},
		{"another cluster", daemon.Opts{Name: "y", KeyFile: key, Cluster: "other"}, "Key was rejected"},
		{"a name that is taken", daemon.Opts{Name: "b", KeyFile: key}, "File exists"},
	} {
		n := daemon.Start(t, tc.opts)
		n.WantErr(daemon.Root, "bash -c 'echo join "+a.Addr+" >cluster/ctl'", tc.want)
		if got := n.Sh("ls cluster/members").Out; got != n.Name+"\n" {
			t.Errorf("%s: it has the members %q", tc.what, got)
		}
		if got := a.Sh("ls cluster/members").Out; got != "a\nb\n" {
			t.Errorf("%s: a has the members %q", tc.what, got)
		}
		// As --join it is a node alone that goes on asking.
		m := daemon.Start(t, daemon.Opts{Name: tc.opts.Name, KeyFile: tc.opts.KeyFile, Cluster: tc.opts.Cluster, Join: []*daemon.Node{a}})
		daemon.Eventually(t, daemon.Bound, "the reason on stderr", func() bool { return strings.Contains(m.Stderr(), "level=WARN") })
		if got := a.States(); len(got) != 2 || got["a"] != "alive" || got["b"] != "alive" {
			t.Errorf("%s: a sees %v", tc.what, got)
		}
	}
	if got := a.Read("cluster/members/b/addr"); got != b.Addr+"\n" {
		t.Errorf("b's address is %q, want %q", got, b.Addr)
	}
}

func TestMembers_CutOffAndHealed(t *testing.T) {
	daemon.Need(t, "fuse", "netns")
	t.Parallel()
	w := daemon.NewNet(t, 3)
	key := daemon.NewKey(t)
	a := daemon.Start(t, daemon.Opts{Name: "a", KeyFile: key, Host: w.Hosts[0]})
	b := daemon.Start(t, daemon.Opts{Name: "b", KeyFile: key, Host: w.Hosts[1], Join: []*daemon.Node{a}})
	c := daemon.Start(t, daemon.Opts{Name: "c", KeyFile: key, Host: w.Hosts[2], Join: []*daemon.Node{a}})
	all := []*daemon.Node{a, b, c}
	for _, n := range all {
		n.WaitAlive("a", "b", "c")
	}
	w.Hosts[2].Cut()
	a.WaitAlive("a", "b")
	b.WaitAlive("a", "b")
	c.WaitAlive("c") // it answers still, and says what it knows
	c.Want("cat cluster/name; cat cluster/members/a/state", "convoke\nfailed\n")
	w.Hosts[2].Heal()
	for _, n := range all {
		n.WaitAlive("a", "b", "c")
	}
	// Not a cable but an interface: down and up again.
	w.Hosts[0].Run("ip link set eth0 down")
	b.WaitAlive("b", "c")
	w.Hosts[0].Run("ip link set eth0 up")
	for _, n := range all {
		n.WaitAlive("a", "b", "c")
	}
}
