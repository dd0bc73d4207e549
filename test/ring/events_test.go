package ring

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/convoke-fs/convoke/test/daemon"
)

// events reads cluster/events of a node.
type events struct {
	mu    sync.Mutex
	lines []string // guarded by mu; without number and time
}

func (c *cluster) events(i int) *events {
	c.t.Helper()
	f, err := os.Open(c.nodes[i].Path("cluster/events"))
	if err != nil {
		c.t.Fatal(err)
	}
	e := &events{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(f); lines.Scan(); {
			f := strings.SplitN(lines.Text(), " ", 3)
			e.mu.Lock()
			e.lines = append(e.lines, f[len(f)-1])
			e.mu.Unlock()
		}
	}()
	c.t.Cleanup(func() {
		f.Close()
		<-done
	})
	return e
}

func (e *events) seen() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.lines)
}

// byRing are the records of each ring in their order, and the ring with records before it.
func byRing(lines []string) (records map[string][]string, before map[string]string) {
	records, before = map[string][]string{}, map[string]string{}
	last := ""
	for _, l := range lines {
		r := field(l, "ring")
		if r != last {
			before[r] = last
			last = r
		}
		records[r] = append(records[r], l)
	}
	return records, before
}

// cluster/events tells the same in the same order on all nodes that go from one ring to the next together.
func TestEvents_HaveOneOrder(t *testing.T) {
	c := start(t, 4, clusterOpts{})
	readers := []*events{c.events(0), c.events(1)}
	has := func(kind string) func() bool {
		return func() bool {
			for _, e := range readers {
				if !slices.ContainsFunc(e.seen(), func(s string) bool { return strings.HasPrefix(s, kind) }) {
					return false
				}
			}
			return true
		}
	}
	daemon.Eventually(t, longTime, "both have the present", has("SNAPEND"))
	for range 2 {
		c.nodes[3].Kill()
		c.together(0, 1, 2)
		c.nodes[2].Kill()
		c.together(0, 1)
		c.startNode(2)
		c.startNode(3)
		c.together(0, 1, 2, 3)
	}
	c.nodes[2].Stop()
	c.together(0, 1, 3)
	end := "ring=" + c.quorum(0, "ring")
	daemon.Eventually(t, longTime, "both have read of the last ring", func() bool {
		for _, e := range readers {
			if !slices.ContainsFunc(e.seen(), func(s string) bool { return strings.HasPrefix(s, "MEMBER_LEFT") && strings.Contains(s, end) }) {
				return false
			}
		}
		return true
	})
	var all [2][]string
	for i, r := range readers {
		snap := true
		for _, l := range r.seen() {
			snap = snap && !strings.HasPrefix(l, "SNAPEND")
			// What gossip alone finds out is no part of the order.
			if !snap && (strings.HasPrefix(l, "MEMBER_") || strings.HasPrefix(l, "MASTER_") || strings.HasPrefix(l, "VICEMASTER_")) {
				all[i] = append(all[i], l)
			}
		}
	}
	a, beforeA := byRing(all[0])
	b, beforeB := byRing(all[1])
	compared := 0
	for r, records := range a {
		if r == "" {
			t.Errorf("records that name no ring: %q", records)
		}
		if b[r] == nil || beforeA[r] != beforeB[r] {
			continue // they have come to it on different ways
		}
		compared += len(records)
		if !slices.Equal(records, b[r]) {
			t.Errorf("of ring %s n1 has read\n%s\nand n2\n%s", r, strings.Join(records, "\n"), strings.Join(b[r], "\n"))
		}
	}
	if compared < 3 {
		t.Errorf("compared %d records: n1 has read\n%s\nand n2\n%s", compared, strings.Join(all[0], "\n"), strings.Join(all[1], "\n"))
	}
}
