package engine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/cluster/quorum"
	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/cluster/session"
)

const limit = 30 * time.Second // of every wait: the machine may be busy

// node is an engine with a port on loopback.
type node struct {
	*Engine
	id     uint32
	target session.Target

	mu        sync.Mutex
	installed []Installed // mu
}

// start gives engines that do not know each other yet.
func start(t *testing.T, ids ...uint32) []*node {
	t.Helper()
	var ns []*node
	for _, id := range ids {
		ns = append(ns, startOne(t, id, nil))
	}
	return ns
}

func startOne(t *testing.T, id uint32, save func(uint64) error) *node {
	t.Helper()
	if save == nil {
		save = func(uint64) error { return nil }
	}
	n := &node{id: id}
	name := fmt.Sprintf("n%d", id)
	n.Engine = New(Config{
		Self: ring.NK{ID: id, Boot: 1}, Name: name, Save: save, Quorum: quorum.New(quorum.Options{}, 0, nil),
		Dead: 5 * time.Second, // the race detector and other tests take the processor
		Log:  slog.New(slog.NewTextHandler(t.Output(), nil)).With("at", name),
		Installed: func(in Installed) {
			n.mu.Lock()
			n.installed = append(n.installed, in)
			n.mu.Unlock()
		},
	})
	t.Cleanup(n.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.target = session.Target{Name: name, ID: id, Addr: netip.MustParseAddrPort(l.Addr().String())}
	if err := n.Attach(Network{Cluster: "test", Listener: l}); err != nil {
		t.Fatal(err)
	}
	return n
}

// meet makes the nodes known to each other and waits for their ring.
func meet(t *testing.T, ns ...*node) {
	t.Helper()
	for _, n := range ns {
		var ts []session.Target
		for _, o := range ns {
			if o != n {
				ts = append(ts, o.target)
			}
		}
		n.SetTargets(ts)
	}
	wantRing(t, ns...)
}

// wantRing waits until the nodes are one ring.
func wantRing(t *testing.T, ns ...*node) {
	t.Helper()
	var want []uint32
	for _, n := range ns {
		want = append(want, n.id)
	}
	slices.Sort(want)
	within(t, fmt.Sprintf("a ring of %v", want), func() bool {
		first := ns[0].Status().View.Ring
		for _, n := range ns {
			v := n.Status().View
			var have []uint32
			for _, nk := range v.Members {
				have = append(have, nk.ID)
			}
			slices.Sort(have)
			if v.Ring != first || !slices.Equal(have, want) {
				return false
			}
		}
		return true
	})
}

func within(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after %v: %s", limit, what)
		}
	}
}

// join makes process pid a member of group g.
func join(t *testing.T, n *node, g string, pid int) *group.Member {
	t.Helper()
	m, err := n.Groups().Join(t.Context(), g, group.Caller{PID: pid}, group.JoinOpts{Create: true})
	if err != nil {
		t.Fatalf("n%d: join: %v", n.id, err)
	}
	return m
}

// lines reads records as lines of feed until one begins with until.
func lines(t *testing.T, m *group.Member, until string) []string {
	t.Helper()
	var out []string
	within(t, fmt.Sprintf("%q in the feed of %v", until, m.ID()), func() bool {
		for {
			r, err := m.Next()
			if err == syscall.EAGAIN {
				return false
			}
			if err == io.EOF {
				t.Fatalf("end of the feed of %v before %q: %q", m.ID(), until, out)
			}
			if err != nil {
				t.Fatal(err)
			}
			line := strings.TrimSuffix(string(r.AppendText(nil)), "\n")
			out = append(out, line)
			if strings.HasPrefix(line, until) {
				return true
			}
		}
	})
	return out
}

func TestEngine_AloneIsARing(t *testing.T) {
	n := start(t, 7)[0]
	v := n.Status().View
	if len(v.Members) != 1 || v.Members[0].ID != 7 || v.Ring.Seq == 0 {
		t.Fatalf("view %+v, want a ring of one", v)
	}
	if line := n.QuorumLine(); !strings.HasPrefix(line, "quorate=yes votes=1 expected=1 ring="+v.Ring.String()+" age=0.0") {
		t.Errorf("quorum line %q", line)
	}
	m := join(t, n, "g", 10)
	if err := m.Send([]byte("hello"), false); err != nil {
		t.Fatal(err)
	}
	got := lines(t, m, "msg ")
	want := []string{"conf members=7:10 joined=7:10:JOIN left=-", "ring " + v.Ring.String() + " members=7", "msg 7 10 hello"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEngine_OneOrderAtAll(t *testing.T) {
	ns := start(t, 1, 2, 3)
	meet(t, ns...)
	var ms []*group.Member
	for i, n := range ns {
		ms = append(ms, join(t, n, "g", 100+i))
	}
	lines(t, ms[0], "conf members=1:100,2:101,3:102")
	lines(t, ms[1], "conf members=1:100,2:101,3:102")
	lines(t, ms[2], "conf members=1:100,2:101,3:102")
	const each = 500
	var senders sync.WaitGroup
	for i, m := range ms {
		senders.Go(func() {
			for k := range each {
				for m.Send(fmt.Appendf(nil, "%d-%d", i, k), true) == syscall.EAGAIN {
					time.Sleep(time.Millisecond)
				}
			}
			for m.Send(fmt.Appendf(nil, "end%d", i), true) == syscall.EAGAIN {
				time.Sleep(time.Millisecond)
			}
		})
	}
	var logs [3][]string
	for i, m := range ms {
		ends := 0
		for ends < 3 {
			got := lines(t, m, "msg ")
			for _, l := range got {
				if strings.Contains(l, " end") {
					ends++
				}
				if strings.HasPrefix(l, "msg ") {
					logs[i] = append(logs[i], l)
				}
			}
		}
	}
	senders.Wait()
	if len(logs[0]) != 3*(each+1) {
		t.Fatalf("%d messages, want %d", len(logs[0]), 3*(each+1))
	}
	for i := 1; i < 3; i++ {
		if !slices.Equal(logs[0], logs[i]) {
			t.Errorf("the feeds of nodes 1 and %d differ", i+1)
		}
	}
}

func TestEngine_NodeGoesAndItsProcessesWithIt(t *testing.T) {
	ns := start(t, 1, 2, 3)
	meet(t, ns...)
	a, _ := join(t, ns[0], "g", 10), join(t, ns[2], "g", 30)
	lines(t, a, "conf members=1:10,3:30")
	ns[2].Close()
	lines(t, a, "conf members=1:10 joined=- left=3:30:NODEDOWN")
	if got := lines(t, a, "ring "); len(got) != 1 {
		t.Errorf("got %q, want the ring behind the configuration", got)
	}
	wantRing(t, ns[0], ns[1])
	if s := ns[0].Status(); s.Quorum.Votes != 2 || s.Quorum.Expected != 3 || !s.Quorum.Quorate {
		t.Errorf("quorum %+v", s.Quorum)
	}
}

func TestEngine_DetachLeavesAndAttachComesBack(t *testing.T) {
	ns := start(t, 1, 2)
	meet(t, ns...)
	a, b := join(t, ns[0], "g", 10), join(t, ns[1], "g", 20)
	lines(t, a, "conf members=1:10,2:20")
	lines(t, b, "conf members=1:10,2:20")
	ns[1].Detach()
	lines(t, a, "conf members=1:10 joined=- left=2:20:NODEDOWN")
	lines(t, b, "conf members=2:20 joined=- left=1:10:NODEDOWN")
	l, err := net.Listen("tcp", ns[1].target.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := ns[1].Attach(Network{Cluster: "test", Listener: l}); err != nil {
		t.Fatal(err)
	}
	lines(t, a, "conf members=1:10,2:20 joined=2:20:NODEUP left=-")
	lines(t, b, "conf members=1:10,2:20 joined=1:10:NODEUP left=-")
}

func TestEngine_RestartIsAnotherLife(t *testing.T) {
	ns := start(t, 1, 2)
	meet(t, ns...)
	a, b := join(t, ns[0], "g", 10), join(t, ns[1], "g", 20)
	lines(t, a, "conf members=1:10,2:20")
	ns[1].Restart(ring.NK{ID: 2, Boot: 9})
	within(t, "the end of b's feed", func() bool {
		_, err := b.Next()
		return err == io.EOF
	})
	lines(t, a, "conf members=1:10 joined=- left=2:20:NODEDOWN")
	l, err := net.Listen("tcp", ns[1].target.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := ns[1].Attach(Network{Cluster: "test", Listener: l}); err != nil {
		t.Fatal(err)
	}
	wantRing(t, ns...)
	join(t, ns[1], "g", 20)
	lines(t, a, "conf members=1:10,2:20 joined=2:20:JOIN left=-")
}

func TestEngine_NoNewRingUntilTheNumberIsOnDisk(t *testing.T) {
	var mu sync.Mutex
	full := true
	asked := false
	a := startOne(t, 1, nil)
	b := startOne(t, 2, func(uint64) error {
		mu.Lock()
		defer mu.Unlock()
		asked = true
		if full {
			return errors.New("no space left on device")
		}
		return nil
	})
	for _, n := range []*node{a, b} {
		n.SetTargets([]session.Target{a.target, b.target})
	}
	within(t, "a try to save", func() bool { mu.Lock(); defer mu.Unlock(); return asked })
	m := join(t, a, "g", 1) // goes on alone
	if err := m.Send([]byte("x"), false); err != nil {
		t.Fatal(err)
	}
	lines(t, m, "msg 1 1 x")
	if got := len(b.Status().View.Members); got > 1 {
		t.Fatalf("node 2 is in a ring of %d whose number is not on its disk", got)
	}
	mu.Lock()
	full = false
	mu.Unlock()
	wantRing(t, a, b)
}
