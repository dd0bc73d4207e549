package ring

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/test/daemon"
)

// each runs f for 0 to n-1, so many at once, and ends the test at the first error.
func each(t *testing.T, n, atOnce int, f func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	next := make(chan int)
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				errs[i] = f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	daemon.Within(t, longTime, "all are done", wg.Wait)
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
}

// dial connects to a node's daemon.
func (c *cluster) dial(i int) *ipc.Client {
	c.t.Helper()
	tree, err := ipc.Locate(c.nodes[i].Mount)
	if err != nil {
		c.t.Fatal(err)
	}
	cl, err := tree.Dial(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cl.Close() })
	return cl
}

func TestMany_Groups(t *testing.T) {
	t.Parallel()
	c := start(t, 2, clusterOpts{plain: true})
	const n = 1000
	cl := c.dial(0)
	ctx, cancel := context.WithTimeout(t.Context(), longTime)
	defer cancel()
	members := make([]*ipc.Group, n)
	name := func(i int) string { return fmt.Sprintf("g%d", i) }
	each(t, n, 16, func(i int) (err error) {
		members[i], err = cl.Join(ctx, name(i), ipc.JoinOpts{Create: true})
		return err
	})
	daemon.Eventually(t, longTime, "the other node has all groups", func() bool { return len(c.groups(1)) == n })
	// A message of one group is nobody else's.
	for _, i := range []int{0, n / 2, n - 1} {
		c.nodes[1].Want("echo for "+name(i)+" >cluster/groups/"+name(i)+"/send", "")
	}
	for _, i := range []int{0, n / 2, n - 1} {
		if r := receive(t, members[i]); string(r.Data) != "for "+name(i) {
			t.Errorf("%s got %q", name(i), r.Data)
		}
	}
	each(t, n, 16, func(i int) error { return members[i].Close() })
	daemon.Eventually(t, longTime, "no group is left", func() bool { return len(c.groups(0))+len(c.groups(1)) == 0 })
}

// A thousand members on one node: in ten groups, and all read; and in one, where each conf names them all.
func TestMany_MembersOnOneNode(t *testing.T) {
	t.Parallel()
	c := start(t, 2, clusterOpts{plain: true})
	const n, groups = 1000, 10
	ctx, cancel := context.WithTimeout(t.Context(), longTime)
	defer cancel()
	name := func(i int) string { return fmt.Sprintf("g%d", i%groups) }
	cl := c.dial(0)
	members := make([]*ipc.Group, n)
	got := make([]string, n)
	var readers sync.WaitGroup
	each(t, n, 16, func(i int) (err error) {
		if members[i], err = cl.Join(ctx, name(i), ipc.JoinOpts{Create: true}); err != nil {
			return err
		}
		readers.Go(func() {
			for got[i] == "" {
				r, err := members[i].Receive(ctx)
				switch {
				case err != nil:
					got[i] = err.Error()
				case r.Kind == ipc.MessageRecord:
					got[i] = string(r.Data)
				}
			}
		})
		return nil
	})
	for i := range groups {
		if lines := strings.Count(c.nodes[1].Read("cluster/groups/"+name(i)+"/members"), "\n"); lines != n/groups {
			t.Errorf("the other node sees %d members of %s, want %d", lines, name(i), n/groups)
		}
		c.nodes[1].Want("echo to "+name(i)+" >cluster/groups/"+name(i)+"/send", "")
	}
	daemon.Within(t, longTime, "all have read", readers.Wait)
	for i, text := range got {
		if text != "to "+name(i) {
			t.Errorf("member %d of %s got %q", i, name(i), text)
		}
	}
	each(t, n, 16, func(i int) error { return members[i].Close() })
	daemon.Eventually(t, longTime, "nobody is left", func() bool { return len(c.groups(1)) == 0 })

	other := c.client(1, "one")
	each(t, n, 16, func(i int) (err error) {
		members[i], err = cl.Join(ctx, "one", ipc.JoinOpts{})
		return err
	})
	reached := func(want int) {
		t.Helper()
		for {
			r, err := other.Receive(ctx)
			if err != nil {
				t.Fatalf("%d members: %v", want, err)
			}
			if r.Kind == ipc.ConfRecord && len(r.Members) == want {
				return
			}
		}
	}
	reached(n + 1)
	each(t, n, 16, func(i int) error { return members[i].Close() })
	reached(1)
}

// groups are the names of groups that a node has.
func (c *cluster) groups(i int) (names []string) {
	c.t.Helper()
	daemon.Within(c.t, daemon.Bound, "list the groups", func() {
		es, err := os.ReadDir(c.nodes[i].Path("cluster/groups"))
		if err != nil {
			c.t.Error(err)
		}
		for _, e := range es {
			names = append(names, e.Name())
		}
	})
	return names
}

// Joins from all nodes at once, in one group: all agree who there is, and on the order.
func TestMany_StormOfJoins(t *testing.T) {
	t.Parallel()
	c := start(t, 3, clusterOpts{plain: true})
	const n = 300
	ctx, cancel := context.WithTimeout(t.Context(), longTime)
	defer cancel()
	clients := []*ipc.Client{c.dial(0), c.dial(1), c.dial(2)}
	members := make([]*ipc.Group, n)
	confs := make([][]string, n)
	var readers sync.WaitGroup
	each(t, n, 30, func(i int) (err error) {
		if members[i], err = clients[i%3].Join(ctx, "storm", ipc.JoinOpts{Create: true}); err != nil {
			return err
		}
		readers.Go(func() {
			for full := false; !full; {
				r, err := members[i].Receive(ctx)
				if err != nil {
					confs[i] = append(confs[i], err.Error())
					return
				}
				if r.Kind == ipc.ConfRecord {
					confs[i] = append(confs[i], string(r.AppendText(nil)))
					full = len(r.Members) == n
				}
			}
		})
		return nil
	})
	daemon.Within(t, longTime, "all have seen all", readers.Wait)
	longest := slices.MaxFunc(confs, func(a, b []string) int { return len(a) - len(b) })
	if len(longest) != n {
		t.Errorf("the first member has seen %d changes, want %d", len(longest), n)
	}
	for i, seen := range confs {
		if !slices.Equal(seen, longest[len(longest)-len(seen):]) {
			t.Errorf("member %d has seen %d changes, which are not the last of the first one's", i, len(seen))
		}
	}
	each(t, n, 30, func(i int) error { return members[i].Close() })
}
