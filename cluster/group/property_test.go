package group

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// chaos drives a world by chance. The world checks that nodes of a ring have
// equal tables after each entry, and that each node states what it then has.
type chaos struct {
	t     *testing.T
	r     *rand.Rand
	w     *world
	ids   []uint32
	boots map[uint32]uint64
	all   []*reader
	n     int // messages sent
}

// reader is a member with all that it has read.
type reader struct {
	m       *Member
	node    ring.NK
	group   string
	members map[Process]bool
	recs    []*Record
	eof     bool
	left    bool // by itself
}

func TestGroups_AgreeUnderChance(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			c := &chaos{
				t: t, r: rand.New(rand.NewPCG(uint64(seed), 4)), w: newWorld(t, 1, 2, 3, 4),
				ids: []uint32{1, 2, 3, 4}, boots: map[uint32]uint64{1: 1, 2: 1, 3: 1, 4: 1},
			}
			for range 300 {
				c.step()
				if t.Failed() {
					t.FailNow()
				}
			}
			c.w.install(c.ids...)
			for _, r := range c.all {
				c.drain(r)
			}
			c.compareTraces()
			for _, id := range c.ids {
				if err := c.w.g(id).table.check(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func (c *chaos) name() string { return string('a' + rune(c.r.IntN(4))) }
func (c *chaos) node() uint32 { return c.ids[c.r.IntN(len(c.ids))] }
func (c *chaos) caller() Caller {
	return user(100+c.r.IntN(3), uint32(c.r.IntN(4)*500), uint32(c.r.IntN(2)*500))
}

func (c *chaos) step() {
	switch k := c.r.IntN(100); {
	case k < 20:
		c.join()
	case k < 50 && len(c.all) > 0:
		r := c.all[c.r.IntN(len(c.all))]
		c.n++
		err := r.m.Send(fmt.Append(nil, "m", c.n), false)
		if err != nil && err != syscall.EPIPE {
			c.t.Fatalf("send: %v", err)
		}
	case k < 60 && len(c.all) > 0:
		r := c.all[c.r.IntN(len(c.all))]
		r.left = true
		r.m.Leave([]Reason{Leave, ProcDown}[c.r.IntN(2)])
	case k < 66:
		if s, err := c.w.g(c.node()).Sender(c.name(), c.caller()); err == nil {
			c.n++
			if err := s.Send(fmt.Append(nil, "s", c.n), false); err != nil {
				c.t.Fatalf("send: %v", err)
			}
		}
	case k < 80:
		c.verb()
	case k < 84:
		c.w.hold(c.node())
	case k < 94 && len(c.all) > 0:
		c.drain(c.all[c.r.IntN(len(c.all))])
	case k < 98:
		c.partition()
	case k < 99:
		c.restart()
	}
}

// join does not wait for its place in the order, which may come with the next
// ring only.
func (c *chaos) join() {
	id, name, who := c.node(), c.name(), c.caller()
	g := c.w.g(id)
	m, err := g.enter(name, who)
	if err != nil {
		c.t.Fatal(err)
	}
	o := op{id: m.inc, pid: uint32(who.PID), create: c.r.IntN(4) > 0, name: []byte(name), cred: credOf(who, maxJoinGroups, 0), when: int64(c.r.IntN(1000))}
	if err := g.conf.Order.Submit(KindJoin, o.append(KindJoin, nil)); err != nil {
		c.t.Fatal(err)
	}
	c.all = append(c.all, &reader{m: m, node: g.conf.Self, group: name, members: make(map[Process]bool)})
}

func (c *chaos) verb() {
	o := op{verb: verb(1 + c.r.IntN(int(verbQuorum))), name: []byte(c.name()), cred: credOf(c.caller(), maxJoinGroups, 0), when: int64(c.r.IntN(1000))}
	o.set, o.uid, o.gid = uint8(c.r.IntN(8)), uint32(c.r.IntN(3)*500), uint32(c.r.IntN(3)*500)
	o.file, o.mode = File(c.r.IntN(int(files))), uint32(c.r.IntN(0o1000))
	o.on = c.r.IntN(3) > 0
	o.target = Process{Node: c.node(), PID: uint32(100 + c.r.IntN(3)), N: uint32(c.r.IntN(3))}
	c.w.mu.Lock()
	n := c.w.nodes[c.node()]
	c.w.mu.Unlock()
	if err := n.Submit(KindGroup, o.append(KindGroup, nil)); err != nil {
		c.t.Fatal(err)
	}
}

// partition makes rings of parts of the nodes; some stay where they are, unless
// others of their ring have moved.
func (c *chaos) partition() {
	parts := make([][]uint32, 1+c.r.IntN(3))
	for _, i := range c.r.Perm(len(c.ids)) {
		k := c.r.IntN(len(parts))
		parts[k] = append(parts[k], c.ids[i])
	}
	for _, p := range parts {
		if len(p) > 0 {
			slices.Sort(p)
			c.w.install(p...)
		}
	}
}

// restart kills a node's daemon. Its members and what they would have read are
// forgotten.
func (c *chaos) restart() {
	id := c.node()
	old := c.w.g(id)
	c.all = slices.DeleteFunc(c.all, func(r *reader) bool { return r.m.g == old })
	old.Close()
	c.boots[id]++
	var rest []uint32
	for _, other := range c.ids {
		if other != id {
			rest = append(rest, other)
		}
	}
	c.w.start(id, c.boots[id])
	// The others go on without it, or meet its next life at once.
	if c.r.IntN(2) == 0 {
		c.w.install(rest...)
		c.w.install(id)
	} else {
		c.w.install(c.ids...)
	}
}

// drain reads all that waits and checks that it makes sense in itself.
func (c *chaos) drain(r *reader) {
	select {
	case <-r.m.done:
		if r.m.err != nil {
			return
		}
	default:
		return // its join is on its way
	}
	for {
		rec, err := r.m.Next()
		switch {
		case err == syscall.EAGAIN:
			return
		case err == io.EOF:
			r.eof = true
			return
		case r.eof:
			c.t.Fatalf("%v reads after its end", r.m.ID())
		}
		r.recs = append(r.recs, rec)
		switch len(r.recs) {
		case 1:
			if rec.Kind != Conf || len(rec.Joined) != 1 || rec.Joined[0] != (Changed{r.m.ID(), Join}) {
				c.t.Fatalf("%v begins with %s", r.m.ID(), rec.AppendText(nil))
			}
			for _, p := range rec.Members {
				r.members[p] = p != r.m.ID()
			}
			delete(r.members, r.m.ID())
		case 2:
			if rec.Kind != Ring {
				c.t.Fatalf("%v reads %swant a ring", r.m.ID(), rec.AppendText(nil))
			}
		}
		c.follow(r, rec)
	}
}

// follow applies a record to what the reader knows.
func (c *chaos) follow(r *reader, rec *Record) {
	switch rec.Kind {
	case Msg:
		if rec.From.N > 0 && !r.members[rec.From] {
			c.t.Fatalf("%v reads a message of %v, which is no member", r.m.ID(), rec.From)
		}
	case Conf:
		for _, ch := range rec.Left {
			if !r.members[ch.Process] {
				c.t.Fatalf("%v: %v has left and was not in", r.m.ID(), ch)
			}
			delete(r.members, ch.Process)
		}
		for _, ch := range rec.Joined {
			if r.members[ch.Process] {
				c.t.Fatalf("%v: %v has joined and was in", r.m.ID(), ch)
			}
			r.members[ch.Process] = true
		}
		got := slices.SortedFunc(maps.Keys(r.members), func(a, b Process) int { return strings.Compare(a.String(), b.String()) })
		want := slices.SortedFunc(slices.Values(rec.Members), func(a, b Process) int { return strings.Compare(a.String(), b.String()) })
		if !slices.Equal(got, want) {
			c.t.Fatalf("%v reads %sand by what it read before the members are %v", r.m.ID(), rec.AppendText(nil), got)
		}
	}
}

// compareTraces checks that what happened at one place of one log is the same
// for all members of a group, and that between two places that two members
// have both read they have read the same.
func (c *chaos) compareTraces() {
	type log struct {
		ring ring.ID
		side uint64 // 0: before the tail
	}
	type place struct {
		group string
		log   log
		pos   uint64
	}
	said := make(map[place]string)
	whole := make(map[*reader]map[log][]uint64)
	msgs := 0
	for _, r := range c.all {
		whole[r] = make(map[log][]uint64)
		for _, rec := range r.recs {
			if rec.Pos == 0 {
				continue
			}
			l := log{rec.Ring, rec.Pos / sideStep}
			p := place{r.group, l, rec.Pos}
			text := string(rec.AppendText(nil))
			if said[p] == "" {
				said[p] = text
			} else if said[p] != text {
				c.t.Fatalf("at %v one reads %sanother %s", p, said[p], text)
			}
			whole[r][l] = append(whole[r][l], rec.Pos)
			if rec.Kind == Msg {
				msgs++
			}
		}
	}
	for _, a := range c.all {
		for _, b := range c.all {
			if a.group != b.group {
				continue
			}
			for id, pa := range whole[a] {
				pb := whole[b][id]
				if len(pb) == 0 {
					continue
				}
				from, to := max(pa[0], pb[0]), min(pa[len(pa)-1], pb[len(pb)-1])
				in := func(list []uint64) []uint64 {
					return slices.DeleteFunc(slices.Clone(list), func(p uint64) bool { return p < from || p > to })
				}
				if !slices.Equal(in(pa), in(pb)) {
					c.t.Fatalf("log %v: %v has read %v, %v %v", id, a.m.ID(), in(pa), b.m.ID(), in(pb))
				}
			}
		}
	}
	if msgs == 0 {
		c.t.Fatal("nobody has read a message: the test tests nothing")
	}
}
