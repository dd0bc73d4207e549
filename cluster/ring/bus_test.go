package ring

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"
)

// bus connects cores by hand: frames wait in one queue per direction until run
// or step moves them, and time passes only by wait.
type bus struct {
	t     *testing.T
	now   time.Duration
	nodes map[uint32]*busNode
	ids   []uint32
	links map[[2]uint32]*link
	drop  func(from, to NK, f Frame) bool // true: lost, as by a session that breaks later
	codec bool                            // frames go through the codec
	lie   func(from NK, raw []byte)       // changes an encoded frame
}

type link struct {
	up     bool
	frames []Frame
}

type busNode struct {
	core      *Core
	nk        NK
	delivered []Message
	rings     []ID   // beside delivered
	tails     []bool // beside delivered
	installs  []Install
	notes     []string
	breaks    []Break
	refused   []error
	asked     []AskState
	persisted []uint64
	slowDisk  bool // Persist is not answered by itself
	noState   bool // AskState is not answered by itself
	dec       map[uint32]*Decoder
	later     []Event // to be stepped once the outputs at hand are done
	stepping  bool
}

func newBus(t *testing.T) *bus {
	return &bus{t: t, nodes: map[uint32]*busNode{}, links: map[[2]uint32]*link{}, codec: true}
}

// rnd is a small generator, so that tests repeat.
func rnd(seed uint64) func() uint64 {
	return func() uint64 {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
}

func (b *bus) start(id uint32, change func(*Config)) *busNode {
	boot := uint64(1)
	conf := Config{Rand: rnd(uint64(id))}
	if old := b.nodes[id]; old != nil {
		boot = old.nk.Boot + 1
		conf.MaxSeq = slices.Max(append(old.persisted, 0))
	} else {
		b.ids = append(b.ids, id)
		slices.Sort(b.ids)
	}
	conf.Self = NK{id, boot}
	if change != nil {
		change(&conf)
	}
	n := &busNode{core: New(conf), nk: conf.Self, dec: map[uint32]*Decoder{}}
	b.nodes[id] = n
	b.stepNode(n, Tick{})
	return n
}

// cluster starts n nodes, from number 1, and connects all.
func (b *bus) cluster(n int, change func(*Config)) []*busNode {
	var out []*busNode
	for i := range n {
		out = append(out, b.start(uint32(i+1), change))
	}
	for i := range n {
		for j := i + 1; j < n; j++ {
			b.connect(uint32(i+1), uint32(j+1))
		}
	}
	b.wait(2 * time.Second)
	want := make([]NK, 0, n)
	for _, o := range out {
		want = append(want, o.nk)
	}
	for _, o := range out {
		if got := slices.Clone(o.core.View().Members); n > 0 {
			slices.SortFunc(got, CompareNK)
			if !slices.Equal(got, want) {
				b.t.Fatalf("node %v: got members %v, want %v\n%v", o.nk, got, want, o.notes)
			}
		}
	}
	return out
}

func (b *bus) link(from, to uint32) *link {
	l := b.links[[2]uint32{from, to}]
	if l == nil {
		l = &link{}
		b.links[[2]uint32{from, to}] = l
	}
	return l
}

func (b *bus) connect(x, y uint32) {
	b.link(x, y).up, b.link(y, x).up = true, true
	nx, ny := b.nodes[x], b.nodes[y]
	nx.dec[y], ny.dec[x] = &Decoder{}, &Decoder{}
	vx, vy := nx.core.View().Ring, ny.core.View().Ring
	b.stepNode(nx, Up{Peer: ny.nk, Ring: vy, MaxSeq: vy.Seq})
	b.stepNode(ny, Up{Peer: nx.nk, Ring: vx, MaxSeq: vx.Seq})
}

// cut breaks the session of two nodes; what is on its way is lost.
func (b *bus) cut(x, y uint32, dead bool) {
	for _, d := range [][2]uint32{{x, y}, {y, x}} {
		l := b.link(d[0], d[1])
		l.up, l.frames = false, nil
	}
	if n := b.nodes[x]; n.core != nil {
		b.stepNode(n, Down{Peer: b.nodes[y].nk, Dead: dead})
	}
	if n := b.nodes[y]; n.core != nil {
		b.stepNode(n, Down{Peer: b.nodes[x].nk})
	}
}

// kill ends a node; all see it at once.
func (b *bus) kill(id uint32) {
	b.nodes[id].core = nil
	for _, o := range b.ids {
		if o != id && b.link(o, id).up {
			b.cut(o, id, true)
		}
	}
}

// stepNode steps a node, and then what its own outputs have brought about.
func (b *bus) stepNode(n *busNode, ev Event) {
	n.later = append(n.later, ev)
	if n.stepping {
		return
	}
	n.stepping = true
	for len(n.later) > 0 && n.core != nil {
		ev := n.later[0]
		n.later = n.later[1:]
		b.handle(n, n.core.Step(b.now, ev))
	}
	n.stepping = false
}

func (b *bus) handle(n *busNode, outs []Output) {
	for _, o := range outs {
		switch o := o.(type) {
		case Send:
			for _, to := range o.To {
				if l := b.link(n.nk.ID, to.ID); l.up && !(b.drop != nil && b.drop(n.nk, to, o.Frame)) {
					l.frames = append(l.frames, o.Frame)
				}
			}
		case Persist:
			n.persisted = append(n.persisted, o.Ceiling)
			if !n.slowDisk {
				b.stepNode(n, Durable{o.Ceiling})
			}
		case Deliver:
			for _, m := range o.Messages {
				n.delivered = append(n.delivered, m)
				n.rings = append(n.rings, o.Ring)
				n.tails = append(n.tails, o.Tail)
			}
		case AskState:
			n.asked = append(n.asked, o)
			if !n.noState {
				b.stepNode(n, State{Ballot: o.Ballot, Data: fmt.Appendf(nil, "%v: %d and %d", n.nk, len(n.delivered), len(o.Tail))})
			}
		case Install:
			n.installs = append(n.installs, o)
		case Break:
			n.breaks = append(n.breaks, o)
			n.notes = append(n.notes, fmt.Sprintf("%v: break with %v: %s", b.now, o.Peer, o.Reason))
			if b.link(n.nk.ID, o.Peer.ID).up {
				b.cut(n.nk.ID, o.Peer.ID, false)
			}
		case Refused:
			n.refused = append(n.refused, o.Err)
		case Note:
			n.notes = append(n.notes, fmt.Sprintf("%v: %s", b.now, o.Text))
		}
	}
}

// moveOne delivers the first frame of a link.
func (b *bus) moveOne(from, to uint32) bool {
	l := b.link(from, to)
	if len(l.frames) == 0 {
		return false
	}
	f := l.frames[0]
	l.frames = l.frames[1:]
	n := b.nodes[to]
	if n.core == nil {
		return true
	}
	nk := b.nodes[from].nk
	if b.codec {
		if f = b.recode(n, nk, f); f == nil {
			return true
		}
	}
	b.stepNode(n, Received{nk, f})
	return true
}

func (b *bus) recode(n *busNode, from NK, f Frame) Frame {
	raw := AppendFrame(nil, f)
	if b.lie != nil {
		b.lie(from, raw[HeaderSize:])
	}
	for {
		typ, flags, size := parseHeader(raw)
		g, err := n.dec[from.ID].Frame(typ, flags, raw[HeaderSize:HeaderSize+size], from, n.core.View().Members)
		if err != nil {
			if b.lie == nil {
				b.t.Fatalf("decode %T: %v", f, err)
			}
			b.cut(from.ID, n.nk.ID, false)
			return nil
		}
		raw = raw[HeaderSize+size:]
		if len(raw) == 0 {
			if g == nil {
				b.t.Fatalf("decode %T: nothing came of it", f)
			}
			return g
		}
		if g != nil {
			b.t.Fatalf("decode %T: a frame before the end of its chain", f)
		}
	}
}

func parseHeader(b []byte) (typ Type, flags uint8, size int) {
	return Type(b[4]), b[5], int(binary.LittleEndian.Uint32(b))
}

// run moves frames until there are none, no time passing.
func (b *bus) run() {
	for moved := true; moved; {
		moved = false
		for _, x := range b.ids {
			for _, y := range b.ids {
				for b.moveOne(x, y) {
					moved = true
				}
			}
		}
	}
}

// wait lets time pass, with all that happens in it.
func (b *bus) wait(d time.Duration) {
	end := b.now + d
	for {
		b.run()
		next := never
		var who *busNode
		for _, id := range b.ids {
			if n := b.nodes[id]; n.core != nil {
				if at, ok := n.core.Next(); ok && at < next {
					next, who = at, n
				}
			}
		}
		if next > end {
			b.now = end
			return
		}
		b.now = max(b.now, next)
		b.stepNode(who, Tick{})
	}
}

func (b *bus) submit(id uint32, text string) {
	b.stepNode(b.nodes[id], Submit{Kind: 1, Data: []byte(text)})
}

// texts are the messages that a node has delivered.
func (n *busNode) texts() []string {
	out := make([]string, 0, len(n.delivered))
	for _, m := range n.delivered {
		out = append(out, string(m.Data))
	}
	return out
}

func (n *busNode) lastInstall() Install { return n.installs[len(n.installs)-1] }

func (b *bus) wantTexts(n *busNode, want ...string) {
	b.t.Helper()
	if got := n.texts(); !slices.Equal(got, want) {
		b.t.Errorf("node %v: got messages %q, want %q\n%v", n.nk, got, want, n.notes)
	}
}

func (b *bus) wantMembers(n *busNode, ids ...uint32) {
	b.t.Helper()
	var got []uint32
	for _, m := range n.core.View().Members {
		got = append(got, m.ID)
	}
	slices.Sort(got)
	if !slices.Equal(got, ids) {
		b.t.Errorf("node %v: got members %v, want %v\n%v", n.nk, got, ids, n.notes)
	}
}

func (b *bus) wantNoBreaks() {
	b.t.Helper()
	for _, id := range b.ids {
		if n := b.nodes[id]; len(n.breaks) > 0 {
			b.t.Errorf("node %v: got breaks %v, want none", n.nk, n.breaks)
		}
	}
}
