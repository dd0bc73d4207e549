package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/convoke-fs/convoke/cluster/watch"
)

// within waits until cond holds, on the bubble's clock, and fails after limit.
func within(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	began := time.Now()
	for !cond() {
		if time.Since(began) > limit {
			t.Fatalf("not after %v: %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// states gives "node1:alive node2:failed", sorted by name.
func states(n *Node) string {
	var out []string
	for _, m := range n.Members() {
		out = append(out, m.Name+":"+m.State.String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func wantStates(t *testing.T, limit time.Duration, want string, nodes ...*Node) {
	t.Helper()
	for _, n := range nodes {
		within(t, limit, fmt.Sprintf("%s sees %s, want %s, and one ring of the living", n.conf.Name, states(n), want), func() bool {
			return states(n) == want && !slices.ContainsFunc(n.Members(), func(m Member) bool { return m.In != m.State.In() || m.Addr.Port() == 0 })
		})
	}
}

// five starts five nodes that form one cluster.
func five(t *testing.T, net *memnet) []*Node {
	t.Helper()
	nodes := []*Node{start(t, config(t, net, 1))}
	for i := 2; i <= 5; i++ {
		nodes = append(nodes, start(t, config(t, net, i, 1)))
	}
	wantStates(t, 5*time.Second, allFive, nodes...)
	return nodes
}

const allFive = "node1:alive node2:alive node3:alive node4:alive node5:alive"

// follow opens a reader of changes at each node.
func follow(nodes ...*Node) []*watch.Reader {
	var rs []*watch.Reader
	for _, n := range nodes {
		rs = append(rs, n.hub.Open([]watch.Kind{watch.MemberJoined, watch.MemberLeft}, 0))
	}
	return rs
}

// told gives what the reader has, without numbers and times, joined by "|".
func told(r *watch.Reader) string {
	synctest.Wait() // the hub has a goroutine of its own
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, ok := r.Read(buf)
		if !ok {
			break
		}
		b.Write(buf[:n])
	}
	var out []string
	for line := range strings.Lines(b.String()) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 3)
		body, _, _ := strings.Cut(f[2], " ring=") // the names of rings hang on the order of things
		out = append(out, body)
	}
	return strings.Join(out, "|")
}

func TestNode_FiveForm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := five(t, newMemnet())
		for _, n := range nodes {
			for i, m := range n.Members() {
				name := fmt.Sprintf("node%d", m.Addr.Addr().As4()[3])
				if m.Name != name || m.Boot != 1 || m.Version != "test" || m.ID == 0 || m.Since.IsZero() {
					t.Errorf("%s sees %+v, want %s", n.conf.Name, m, name)
				}
				if i > 0 && n.Members()[i-1].ID >= m.ID {
					t.Errorf("%s: not sorted by ID: %v", n.conf.Name, n.Members())
				}
			}
			if ip, ok := n.Member("node4"); !ok || ip != at(4).Addr() {
				t.Errorf("%s: Member(node4) = %v, %v", n.conf.Name, ip, ok)
			}
			if ip, ok := n.Member("node9"); ok {
				t.Errorf("%s: Member(node9) = %v", n.conf.Name, ip)
			}
			if self := n.Self(); self.Name != n.conf.Name || self.Addr != n.conf.Bind {
				t.Errorf("Self() = %+v", self)
			}
		}
	})
}

func TestNode_KilledMemberIsFailedEverywhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := five(t, newMemnet())
		id := nodes[2].Self().ID
		others := []*Node{nodes[0], nodes[1], nodes[3], nodes[4]}
		rs := follow(others...)
		nodes[2].kill()
		wantStates(t, 5*time.Second, strings.Replace(allFive, "node3:alive", "node3:failed", 1), others...)
		for i, r := range rs {
			if got, want := told(r), fmt.Sprintf("MEMBER_LEFT %d node3", id); got != want {
				t.Errorf("%s was told %q, want %q", others[i].conf.Name, got, want)
			}
			if ip, ok := others[i].Member("node3"); !ok || ip != at(3).Addr() {
				t.Errorf("Member of a failed one = %v, %v, want its address", ip, ok)
			}
		}
	})
}

func TestNode_CloseIsSeenAsLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := five(t, newMemnet())
		id := nodes[4].Self().ID
		rs := follow(nodes[:4]...)
		began := time.Now()
		if err := nodes[4].Close(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("Close took %v, want 2 s at most", d)
		}
		if err := nodes[4].Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		wantStates(t, 2*time.Second, strings.Replace(allFive, "node5:alive", "node5:left", 1), nodes[:4]...)
		for i, r := range rs {
			if got, want := told(r), fmt.Sprintf("MEMBER_LEFT %d node5", id); got != want {
				t.Errorf("node%d was told %q, want %q", i+1, got, want)
			}
			if ip, ok := nodes[i].Member("node5"); ok {
				t.Errorf("Member of one that left = %v, want none", ip)
			}
		}
		if err := nodes[4].SetTag(t.Context(), "a", "b"); !errors.Is(err, ErrClosed) {
			t.Errorf("SetTag after Close: %v, want ErrClosed", err)
		}
		if _, err := nodes[4].Join(t.Context(), []string{at(1).String()}); !errors.Is(err, ErrClosed) {
			t.Errorf("Join after Close: %v, want ErrClosed", err)
		}
	})
}

func TestNode_CloseIsBoundedWhenNobodyHears(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		nodes := five(t, net)
		net.cut(addrs(1), addrs(2, 3, 4, 5))
		began := time.Now()
		nodes[0].Close()
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("Close took %v, want 2 s at most", d)
		}
	})
}

func TestNode_QuickRestartIsSeen(t *testing.T) {
	dir := t.TempDir()
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		one := start(t, config(t, net, 1))
		two := start(t, config(t, net, 2, 1))
		c := config(t, net, 3, 1)
		c.StateDir = dir
		three := start(t, c)
		wantStates(t, 5*time.Second, "node1:alive node2:alive node3:alive", one, two, three)
		rs := follow(one, two)

		three.kill()
		c.transport, c.sessions = net.open(at(3)), net.sessionsOf(at(3))
		three = start(t, c) // before anybody can have noticed
		if b := three.Self().Boot; b != 2 {
			t.Fatalf("boot %d after a restart, want 2", b)
		}
		for i, n := range []*Node{one, two} {
			within(t, 5*time.Second, n.conf.Name+" sees boot 2 of node3", func() bool {
				return slices.ContainsFunc(n.Members(), func(m Member) bool { return m.Name == "node3" && m.Boot == 2 && m.State == Alive && m.In })
			})
			// Of the other one a short absence may be told as well: the newcomer may
			// meet one of them first.
			got := told(rs[i])
			if gone, back := strings.Index(got, "MEMBER_LEFT 3 node3"), strings.LastIndex(got, "MEMBER_JOINED 3 node3"); gone < 0 || back < gone {
				t.Errorf("%s was told %q, want node3 gone and back", n.conf.Name, got)
			}
		}
	})
}

func TestNode_RestartElsewhere(t *testing.T) {
	dir := t.TempDir()
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		one := start(t, config(t, net, 1))
		c := config(t, net, 2, 1)
		c.StateDir = dir
		two := start(t, c)
		wantStates(t, 5*time.Second, "node1:alive node2:alive", one, two)
		two.kill()
		c.Bind, c.transport, c.sessions = at(7), net.open(at(7)), net.sessionsOf(at(7))
		two = start(t, c)
		within(t, 20*time.Second, "node1 sees node2 at its new address", func() bool {
			ip, ok := one.Member("node2")
			return ok && ip == at(7).Addr() && states(one) == "node1:alive node2:alive"
		})
		wantStates(t, time.Second, "node1:alive node2:alive", two)
		if id := two.Self().ID; id != 2 {
			t.Errorf("number %d at the new address, want 2 as before", id)
		}
	})
}

func TestNode_PartitionAndHeal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		nodes := five(t, net)
		net.cut(addrs(1, 2), addrs(3, 4, 5))
		wantStates(t, 10*time.Second, "node1:alive node2:alive node3:failed node4:failed node5:failed", nodes[:2]...)
		wantStates(t, 10*time.Second, "node1:failed node2:failed node3:alive node4:alive node5:alive", nodes[2:]...)
		time.Sleep(2 * time.Minute)
		rs := follow(nodes...)
		net.heal()
		wantStates(t, 10*time.Second, allFive, nodes...)
		time.Sleep(5 * time.Second)
		for i, r := range rs {
			want := 3 // of the other side
			if i >= 2 {
				want = 2
			}
			// One of this side may be told as gone and back, if the other side has met
			// only one of them when the rings become one.
			got := told(r)
			if back := strings.Count(got, "MEMBER_JOINED") - strings.Count(got, "MEMBER_LEFT"); back != want {
				t.Errorf("node%d was told %q, want %d members back", i+1, got, want)
			}
		}
		wantStates(t, 0, allFive, nodes...)
	})
}

func TestNode_TakenNameIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		nodes := []*Node{start(t, config(t, net, 1)), start(t, config(t, net, 2, 1)), start(t, config(t, net, 3, 1))}
		const all = "node1:alive node2:alive node3:alive"
		wantStates(t, 5*time.Second, all, nodes...)
		rs := follow(nodes...)

		c := config(t, net, 7, 1) // in the background too
		c.Name = "node2"
		other := start(t, c)
		for _, seed := range []int{1, 2, 3} {
			n, err := other.Join(t.Context(), []string{at(seed).String()})
			if n != 0 || !errors.Is(err, ErrNameTaken) {
				t.Errorf("Join by node%d with a taken name = %d, %v, want ErrNameTaken", seed, n, err)
			}
		}
		time.Sleep(10 * time.Second)
		wantStates(t, 0, all, nodes...)
		wantStates(t, 0, "node2:alive", other)
		for i, n := range nodes {
			if ip, _ := n.Member("node2"); ip != at(2).Addr() {
				t.Errorf("%s has node2 at %v", n.conf.Name, ip)
			}
			if got := told(rs[i]); got != "" {
				t.Errorf("%s was told %q, want nothing", n.conf.Name, got)
			}
		}
		// The name becomes free, and the newcomer gets it.
		nodes[1].Close()
		within(t, 20*time.Second, "the newcomer is let in", func() bool {
			ip, _ := nodes[0].Member("node2")
			return ip == at(7).Addr()
		})
	})
}

func TestNode_ForeignersStayOut(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(c *Config)
	}{
		{"another key", func(c *Config) { c.Key = mustKey(NewKey()) }},
		{"another cluster", func(c *Config) { c.Cluster = "other" }},
		{"no key", func(c *Config) { c.Key, c.Insecure = nil, true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				net := newMemnet()
				one := start(t, config(t, net, 1))
				c := config(t, net, 2, 1)
				tt.change(&c)
				two := start(t, c)
				for _, try := range []struct {
					from *Node
					to   int
				}{{two, 1}, {one, 2}} {
					n, err := try.from.Join(t.Context(), []string{at(try.to).String()})
					if n != 0 || !errors.Is(err, ErrForeign) {
						t.Errorf("Join from %s = %d, %v, want ErrForeign", try.from.conf.Name, n, err)
					}
				}
				time.Sleep(10 * time.Second)
				wantStates(t, 0, "node1:alive", one)
				wantStates(t, 0, "node2:alive", two)
			})
		})
	}
}

func TestNode_InsecureFormsWithoutAKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		var nodes []*Node
		for i := 1; i <= 2; i++ {
			c := config(t, net, i, 1)
			c.Key, c.Insecure = nil, true
			nodes = append(nodes, start(t, c))
		}
		wantStates(t, 5*time.Second, "node1:alive node2:alive", nodes...)
	})
}

func TestNode_WithoutKeyItIsAClusterOfOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		start(t, config(t, net, 1))
		c := config(t, net, 2, 1)
		c.Key = nil
		n := start(t, c)
		time.Sleep(time.Minute)
		if net.listening(at(2)) || net.dialsTo(at(1)) != 0 {
			t.Error("a node without a key speaks to the network")
		}
		wantStates(t, 0, "node2:alive", n)
		if _, err := n.Join(t.Context(), []string{at(1).String()}); !errors.Is(err, ErrNoKey) {
			t.Errorf("Join: %v, want ErrNoKey", err)
		}
		if err := n.Leave(t.Context()); err != nil {
			t.Errorf("Leave: %v", err)
		}
		if err := n.SetTag(t.Context(), "zone", "a"); err != nil || n.Self().Tags["zone"] != "a" {
			t.Errorf("SetTag: %v, tags %v", err, n.Self().Tags)
		}
	})
}

func TestNode_JoinTellsWhatIsWrong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		n := start(t, config(t, net, 1))
		start(t, config(t, net, 2))
		ask := func(to ...string) (int, error) { return n.Join(t.Context(), to) }

		got, err := ask(at(9).String())
		if got != 0 || !errors.Is(err, ErrNoAnswer) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody there: %d, %v, want ErrNoAnswer and ECONNREFUSED", got, err)
		}
		for _, bad := range [][]string{nil, {""}, {"a b"}, {at(2).String(), "x:y:z"}, {at(1).String()}} {
			if got, err := ask(bad...); got != 0 || !errors.Is(err, ErrInvalid) {
				t.Errorf("Join(%q) = %d, %v, want ErrInvalid", bad, got, err)
			}
		}
		wantStates(t, 0, "node1:alive", n)
		net.cut(addrs(1), addrs(2))
		began := time.Now()
		got, err = ask(at(2).String())
		if d := time.Since(began); got != 0 || !errors.Is(err, ErrNoAnswer) || d > 6*time.Second {
			t.Errorf("black hole: %d, %v after %v, want ErrNoAnswer within 6 s", got, err, d)
		}
		net.heal()
		if got, err := ask(at(9).String(), at(2).String(), at(1).String()); got != 1 || err != nil {
			t.Errorf("one of three answers: %d, %v, want 1", got, err)
		}
		wantStates(t, 2*time.Second, "node1:alive node2:alive", n)
	})
}

func TestNode_JoinEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		n := start(t, config(t, net, 1))
		start(t, config(t, net, 2))
		net.cut(addrs(1), addrs(2))
		ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, syscall.EINTR)
		defer cancel()
		began := time.Now()
		_, err := n.Join(ctx, []string{at(2).String()})
		if d := time.Since(began); !errors.Is(err, syscall.EINTR) || d > 200*time.Millisecond {
			t.Errorf("Join = %v after %v, want the context's cause at once", err, d)
		}
	})
}

func TestNode_StartRefuses(t *testing.T) {
	net := newMemnet()
	for name, change := range map[string]func(c *Config){
		"no name":          func(c *Config) { c.Name = "" },
		"bad name":         func(c *Config) { c.Name = "a b" },
		"dot first":        func(c *Config) { c.Name = ".a" },
		"long name":        func(c *Config) { c.Name = strings.Repeat("a", 128) },
		"local":            func(c *Config) { c.Name = "local" },
		"share":            func(c *Config) { c.Name = "share" },
		"bad cluster":      func(c *Config) { c.Cluster = "a/b" },
		"multicast":        func(c *Config) { c.Bind = netip.MustParseAddrPort("224.0.0.1:1") },
		"any address":      func(c *Config) { c.Bind = netip.MustParseAddrPort("0.0.0.0:1") },
		"zone":             func(c *Config) { c.Bind = netip.MustParseAddrPort("[fe80::1%eth0]:1") },
		"bad seed":         func(c *Config) { c.Join = []string{"x y"} },
		"version":          func(c *Config) { c.Version = "a\nb" },
		"version's length": func(c *Config) { c.Version = strings.Repeat("1", 33) },
	} {
		c := config(t, net, 1)
		change(&c)
		n, err := Start(t.Context(), c)
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
		if err == nil {
			n.Close()
		}
	}
	if net.listening(at(1)) {
		t.Error("a port stays open")
	}
}
