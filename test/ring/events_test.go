package ring

import (
	"bufio"
	"fmt"
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

// since are the records from the one that begins so on.
func (e *events) since(text string) []string {
	l := e.seen()
	i := slices.IndexFunc(l, func(s string) bool { return strings.HasPrefix(s, text) })
	if i < 0 {
		return nil
	}
	return l[i:]
}

// cluster/events tells the same in the same order on all nodes that stay.
func TestEvents_HaveOneOrder(t *testing.T) {
	c := start(t, 4, clusterOpts{})
	readers := []*events{c.events(0), c.events(1)}
	snapped := func(e *events) bool {
		return slices.ContainsFunc(e.seen(), func(s string) bool { return strings.HasPrefix(s, "SNAPEND") })
	}
	daemon.Eventually(t, longTime, "both have the present", func() bool { return snapped(readers[0]) && snapped(readers[1]) })
	id := strings.TrimSpace(c.nodes[2].Read("cluster/self/id"))
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
	end := fmt.Sprintf("MEMBER_LEFT %s n3 ", id)
	count := func(e *events) (n int) {
		for _, l := range e.seen() {
			if strings.HasPrefix(l, end) {
				n++
			}
		}
		return n
	}
	daemon.Eventually(t, longTime, "both have read the end", func() bool { return count(readers[0]) == 3 && count(readers[1]) == 3 })
	var got [2][]string
	for i, r := range readers {
		for _, l := range r.since("MEMBER_LEFT") {
			// What gossip finds out is no part of the ring's order.
			if strings.HasPrefix(l, "MEMBER_") || strings.HasPrefix(l, "MASTER_") || strings.HasPrefix(l, "VICEMASTER_") {
				got[i] = append(got[i], l)
			}
		}
	}
	if !slices.Equal(got[0], got[1]) || len(got[0]) < 9 {
		t.Errorf("n1 has read\n%s\nand n2\n%s", strings.Join(got[0], "\n"), strings.Join(got[1], "\n"))
	}
	for _, l := range got[0] {
		if !strings.Contains(l, "ring=") {
			t.Errorf("%q names no ring", l)
		}
	}
}
