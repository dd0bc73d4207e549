package check

import (
	"slices"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// A RecordKind is what a record tells.
type RecordKind uint8

// The kinds of records.
const (
	Conf RecordKind = iota + 1 // who is a member has changed
	Msg
	Ring // the ring has changed
)

// A Record is one thing that a member of a group has read.
type Record struct {
	Kind RecordKind
	Ring ring.ID // in which it happened; of a Ring record the new one
	From string  // Msg: the name of the member that sent it
	Seq  uint64  // Msg: which of the messages of From it is, from 1
	Sum  uint64  // of what it says
}

// A Feed is all that one member of a group has read, from its own join on. Its
// first Ring record tells in which ring it has joined.
type Feed struct {
	Name    string // of the member, not used a second time
	Node    string // life of a daemon whose member it is: those of one see the same
	Sent    uint64 // how many messages it was told were taken; they are numbered from 1
	Stayed  bool   // it is there at the end, or left by itself: all that it sent must be in it
	Final   bool   // it is there at the end, when all is quiet
	Records []Record
}

// A part of a feed is what was read between two changes of the ring.
type part struct {
	feed  *Feed
	recs  []Record
	whole bool // from the ring's beginning on
}

// stretch names what several members must have read alike.
type stretch struct {
	ring, next ring.ID // next is zero where the feed ends
	node       string  // set when only members of one node are compared
}

type feeds struct {
	list
	rings map[string][]ring.ID // of the messages of a member, by number
	parts map[stretch]part     // the longest of each
	short []shortPart          // those of members that went before the ring did
}

type shortPart struct {
	part
	ring ring.ID
}

// Feeds judges what the members of one group have read: that members which go
// from one ring to the next together have read the same in it (I4), in one
// order (I3), nothing twice (I5), each sender's messages in its order without
// holes (I6), each message in one ring only (I7); that who stayed has read all
// that it sent (I8); and that all who are there at the end are in one ring and
// have read the same in it (I11).
//
// What nobody who has stayed has read is not judged: a daemon that dies may
// have ordered, and told its own members, what nobody else ever hears.
func Feeds(all []Feed) []Violation {
	f := &feeds{rings: make(map[string][]ring.ID), parts: make(map[stretch]part)}
	var final *Feed
	var last ring.ID
	for i := range all {
		feed := &all[i]
		end := f.feed(feed)
		if !feed.Final {
			continue
		}
		if final != nil && last != end {
			f.add("I11", feed.Name, "is in ring %v at the end, %s in %v", end, final.Name, last)
		}
		final, last = feed, end
	}
	for _, s := range f.short {
		f.inside(s)
	}
	return f.vs
}

// feed takes one feed apart, and gives the ring in which it ends.
func (f *feeds) feed(feed *Feed) ring.ID {
	at := slices.IndexFunc(feed.Records, func(r Record) bool { return r.Kind == Ring })
	if at < 0 {
		f.add("I10", feed.Name, "its feed has no ring")
		return ring.ID{}
	}
	f.sequence(feed, feed.Records[:at], ring.ID{}, make(map[string]uint64))
	last := make(map[string]uint64)
	cur, whole := feed.Records[at].Ring, false
	for rest := feed.Records[at+1:]; ; {
		n := slices.IndexFunc(rest, func(r Record) bool { return r.Kind == Ring })
		p := part{feed, rest, whole}
		if n >= 0 {
			p.recs = rest[:n]
		}
		f.sequence(feed, p.recs, cur, last)
		if n < 0 {
			if feed.Final {
				f.compare(stretch{ring: cur}, p)
				f.compare(stretch{ring: cur, node: feed.Node}, p)
			} else {
				f.short = append(f.short, shortPart{p, cur})
			}
			break
		}
		next := rest[n].Ring
		if next.Seq <= cur.Seq {
			f.add("I2", feed.Name, "ring %v after %v", next, cur)
		}
		f.compare(stretch{ring: cur, next: next}, p)
		f.compare(stretch{ring: cur, node: feed.Node}, p)
		cur, whole, rest = next, true, rest[n+1:]
	}
	if got := last[feed.Name]; feed.Stayed && got < feed.Sent {
		f.add("I8", feed.Name, "has read %d of its own messages, and sent %d", got, feed.Sent)
	}
	return cur
}

// sequence holds what one feed must be by itself. last has the highest number
// read of each sender.
func (f *feeds) sequence(feed *Feed, recs []Record, cur ring.ID, last map[string]uint64) {
	here := make(map[string]bool) // whose messages were read in this ring already
	for _, r := range recs {
		if r.Kind != Msg {
			continue
		}
		switch before := last[r.From]; {
		case cur == ring.ID{}:
			f.add("I10", feed.Name, "reads message %d of %s before it knows its ring", r.Seq, r.From)
		case r.Seq == before:
			f.add("I5", feed.Name, "message %d of %s a second time", r.Seq, r.From)
		case r.Seq < before:
			f.add("I6", feed.Name, "message %d of %s after %d", r.Seq, r.From, before)
		case r.Seq > before+1 && (here[r.From] || r.From == feed.Name):
			f.add("I6", feed.Name, "message %d of %s after %d, in ring %v", r.Seq, r.From, before, cur)
		}
		if r.Ring != cur {
			f.add("I7", feed.Name, "message %d of %s is of ring %v, and comes in %v", r.Seq, r.From, r.Ring, cur)
		}
		last[r.From], here[r.From] = r.Seq, true
		f.once(feed, r)
	}
}

// once holds I7 over all feeds.
func (f *feeds) once(feed *Feed, r Record) {
	const longest = 1 << 28
	if r.Seq == 0 || r.Seq > longest {
		f.add("I6", feed.Name, "message %d of %s: there is no such number", r.Seq, r.From)
		return
	}
	rings := f.rings[r.From]
	for uint64(len(rings)) < r.Seq {
		rings = append(rings, ring.ID{})
	}
	if was := rings[r.Seq-1]; was != (ring.ID{}) && was != r.Ring {
		f.add("I7", feed.Name, "message %d of %s in ring %v, and elsewhere in %v", r.Seq, r.From, r.Ring, was)
	}
	rings[r.Seq-1] = r.Ring
	f.rings[r.From] = rings
}

// compare holds I4: a part that begins later is the end of the longer one.
func (f *feeds) compare(key stretch, p part) {
	ref, ok := f.parts[key]
	if !ok {
		f.parts[key] = p
		return
	}
	if p.whole && ref.whole && len(p.recs) != len(ref.recs) {
		f.add("I4", p.feed.Name, "has read %d records in ring %v, %s %d", len(p.recs), key.ring, ref.feed.Name, len(ref.recs))
		return
	}
	long, short := ref, p
	if len(p.recs) > len(ref.recs) {
		long, short = p, ref
		f.parts[key] = p
	}
	if short.whole && len(short.recs) < len(long.recs) {
		f.add("I4", short.feed.Name, "has read less in ring %v than %s, which came later", key.ring, long.feed.Name)
		return
	}
	f.equal("I4", key.ring, p, ref, long.recs[len(long.recs)-len(short.recs):], short.recs)
}

// inside holds I3 for a member that went in the middle of a ring: what it has
// read stands in the same order and without holes in what another member of its
// node has read, or, when its daemon has lived on and the ring was the last one,
// any other.
func (f *feeds) inside(s shortPart) {
	ref, ok := f.parts[stretch{ring: s.ring, node: s.feed.Node}]
	if !ok && s.feed.Stayed {
		ref, ok = f.parts[stretch{ring: s.ring}]
	}
	if !ok || len(s.recs) == 0 {
		return
	}
	at := slices.Index(ref.recs, s.recs[0])
	if at < 0 {
		if ref.whole {
			f.add("I3", s.feed.Name, "has read what %s has not, in ring %v", ref.feed.Name, s.ring)
		}
		return
	}
	f.equal("I3", s.ring, s.part, ref, ref.recs[at:min(at+len(s.recs), len(ref.recs))], s.recs)
}

// equal tells where two parts differ.
func (f *feeds) equal(rule string, r ring.ID, p, ref part, a, b []Record) {
	if len(a) != len(b) {
		f.add("I3", p.feed.Name, "has read more in ring %v than %s", r, ref.feed.Name)
		return
	}
	for i := range a {
		if a[i] != b[i] {
			f.add(rule, p.feed.Name, "record %d of %d in ring %v differs from that of %s: %+v and %+v", i+1, len(a), r, ref.feed.Name, a[i], b[i])
			return
		}
	}
}
