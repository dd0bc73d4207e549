package daemon

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster"
)

// NewKey makes a file with a new key that the daemons can read, and returns its path.
func NewKey(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, cluster.NewKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Read returns a file of the tree as root reads it.
func (n *Node) Read(name string) string {
	n.t.Helper()
	var text []byte
	var err error
	Within(n.t, Bound, "read "+name, func() { text, err = os.ReadFile(n.Path(name)) })
	if err != nil {
		n.t.Fatal(err)
	}
	return string(text)
}

// Log returns cluster/log.
func (n *Node) Log() string { n.t.Helper(); return n.Read("cluster/log") }

// tryLog returns cluster/log or why it cannot be read.
func (n *Node) tryLog() string {
	text := make(chan string, 1)
	go func() {
		b, err := os.ReadFile(n.Path("cluster/log"))
		if err != nil {
			b = []byte(err.Error())
		}
		text <- string(b)
	}()
	select {
	case s := <-text:
		return s
	case <-time.After(2 * time.Second):
		return "cluster/log does not answer"
	}
}

// Stderr returns what the daemon has said on stderr since its first start.
func (n *Node) Stderr() string {
	n.t.Helper()
	b, err := os.ReadFile(n.stderr.Name())
	if err != nil {
		n.t.Fatal(err)
	}
	return string(b)
}

// Metric returns the value of a metric that has no labels.
func (n *Node) Metric(name string) int64 {
	n.t.Helper()
	for line := range strings.Lines(n.Read("cluster/metrics")) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				n.t.Fatalf("%s: %v", name, err)
			}
			return int64(f)
		}
	}
	n.t.Fatalf("there is no metric %s", name)
	return 0
}

// FDs returns how many descriptors the daemon has.
func (n *Node) FDs() int {
	n.t.Helper()
	es, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.PID()))
	if err != nil {
		n.t.Fatal(err)
	}
	return len(es)
}

// RSS returns the daemon's resident memory in bytes.
func (n *Node) RSS() int64 {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return kb << 10
		}
	}
	n.t.Fatalf("%s has no memory", n.Name)
	return 0
}

// WaitAlive waits until n sees exactly the members named as alive, and is in one ring with them.
func (n *Node) WaitAlive(names ...string) {
	n.t.Helper()
	want := map[string]bool{}
	for _, name := range names {
		want[name] = true
	}
	n.WaitMembers(func(state map[string]string) bool {
		alive := 0
		for name, s := range state {
			if s == "alive" {
				if !want[name] {
					return false
				}
				alive++
			}
		}
		return alive == len(want) && n.inRing() == alive
	})
}

// WaitMembers waits until ok says so of the states of all members, as n sees them, by name. It reads cluster/events,
// and looks at the tree itself at each.
func (n *Node) WaitMembers(ok func(state map[string]string) bool) {
	n.t.Helper()
	f, err := os.Open(n.Path("cluster/events"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	events := make(chan struct{}, 1)
	go func() {
		for lines := bufio.NewScanner(f); lines.Scan(); {
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}()
	end := time.After(2 * Bound)
	for {
		state := n.States()
		if ok(state) {
			return
		}
		select {
		case <-events:
		case <-time.After(200 * time.Millisecond): // a state that changes without an event
		case <-end:
			n.t.Fatalf("%s sees %v after %v", n.Name, state, 2*Bound)
		}
	}
}

// inRing counts the members that are in n's ring.
func (n *Node) inRing() int {
	n.t.Helper()
	in := 0
	for line := range strings.Lines(n.Read("cluster/status")) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == "in" {
			in++
		}
	}
	return in
}

// States returns the state of each member, as n sees it.
func (n *Node) States() map[string]string {
	n.t.Helper()
	state := map[string]string{}
	for i, line := range strings.Split(strings.TrimSpace(n.Read("cluster/status")), "\n") {
		if f := strings.Fields(line); i > 0 && len(f) > 3 {
			state[f[1]] = f[3]
		}
	}
	return state
}
