package check

import (
	"slices"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

var (
	one   = ring.ID{Seq: 1, Rep: 1}
	two   = ring.ID{Seq: 2, Rep: 1}
	three = ring.ID{Seq: 3, Rep: 3}
)

func conf(r ring.ID, sum uint64) Record { return Record{Kind: Conf, Ring: r, Sum: sum} }
func changed(r ring.ID) Record          { return Record{Kind: Ring, Ring: r} }
func msg(r ring.ID, from string, seq uint64) Record {
	return Record{Kind: Msg, Ring: r, From: from, Seq: seq, Sum: seq}
}

// goodFeeds are a and b, which go from ring one to two; c, which joins in one
// and is cut off to ring three; d on the node of a, which joins in one and
// leaves in two; and e, whose daemon dies in ring one.
func goodFeeds() []Feed {
	first := []Record{msg(one, "a", 1), conf(one, 3), msg(one, "b", 1), conf(one, 4), msg(one, "a", 2), conf(two, 6)}
	second := []Record{changed(two), msg(two, "b", 2), msg(two, "a", 3), msg(two, "b", 3), conf(two, 7)}
	return []Feed{
		{Name: "a", Node: "1/1", Sent: 3, Stayed: true, Final: true,
			Records: slices.Concat([]Record{conf(one, 1), changed(one), conf(one, 2)}, first, second)},
		{Name: "b", Node: "2/1", Sent: 3, Stayed: true, Final: true,
			Records: slices.Concat([]Record{conf(one, 2), changed(one)}, first, second)},
		{Name: "c", Node: "3/1", Sent: 1, Stayed: true,
			Records: []Record{conf(one, 3), changed(one), msg(one, "b", 1), conf(one, 4), conf(three, 5), changed(three), msg(three, "c", 1)}},
		{Name: "d", Node: "1/1", Stayed: true,
			Records: slices.Concat([]Record{conf(one, 4), changed(one)}, first[4:], second[:3])},
		{Name: "e", Node: "4/1", Sent: 1,
			Records: []Record{conf(one, 9), changed(one), msg(one, "e", 1)}},
	}
}

// at gives the place of a record in a feed.
func (f *Feed) at(r Record) int {
	i := slices.Index(f.Records, r)
	if i < 0 {
		panic("no such record")
	}
	return i
}

func (f *Feed) swap(a, b Record) {
	i, j := f.at(a), f.at(b)
	f.Records[i], f.Records[j] = b, a
}

func (f *Feed) remove(r Record) { f.Records = slices.Delete(f.Records, f.at(r), f.at(r)+1) }

func (f *Feed) insert(before, r Record) { f.Records = slices.Insert(f.Records, f.at(before), r) }

func (f *Feed) add(rs ...Record) { f.Records = append(f.Records, rs...) }

func feedRules(fs []Feed) (rules []string) {
	for _, v := range Feeds(fs) {
		rules = append(rules, v.Rule)
	}
	return rules
}

func TestFeeds_GoodOnesAreAccepted(t *testing.T) {
	if vs := Feeds(goodFeeds()); len(vs) > 0 {
		t.Fatalf("got %v", vs)
	}
}

func TestFeeds_BadOnesAreNamed(t *testing.T) {
	for _, x := range []struct {
		name string
		rule string
		do   func(a, b, c, d, e *Feed)
	}{
		{"ring number falls", "I2", func(a, b, c, d, e *Feed) { c.Records[c.at(changed(three))].Ring.Seq = 1 }},
		{"other order than its neighbour", "I3", func(a, b, c, d, e *Feed) { d.remove(msg(two, "a", 3)); d.add(msg(two, "b", 3)) }},
		{"read what its neighbour has not", "I3", func(a, b, c, d, e *Feed) { d.add(msg(two, "b", 3), msg(two, "c", 7)) }},
		{"last of a ring missing", "I4", func(a, b, c, d, e *Feed) { b.remove(msg(one, "a", 2)) }},
		{"order of two", "I4", func(a, b, c, d, e *Feed) { a.swap(msg(two, "b", 2), msg(two, "a", 3)) }},
		{"other content", "I4", func(a, b, c, d, e *Feed) { b.Records[b.at(msg(two, "b", 2))].Sum = 99 }},
		{"other members", "I4", func(a, b, c, d, e *Feed) { b.Records[b.at(conf(two, 6))].Sum = 99 }},
		{"last conf missing at the end", "I4", func(a, b, c, d, e *Feed) { b.remove(conf(two, 7)) }},
		{"twice", "I5", func(a, b, c, d, e *Feed) { c.insert(conf(one, 4), msg(one, "b", 1)) }},
		{"senders' order", "I6", func(a, b, c, d, e *Feed) { a.swap(msg(two, "b", 2), msg(two, "b", 3)) }},
		{"hole", "I6", func(a, b, c, d, e *Feed) {
			for _, f := range []*Feed{a, b} {
				f.remove(msg(two, "b", 3))
				f.add(msg(two, "b", 4))
			}
		}},
		{"own one missing", "I6", func(a, b, c, d, e *Feed) {
			a.remove(msg(one, "a", 2))
			b.remove(msg(one, "a", 2))
			d.remove(msg(one, "a", 2))
		}},
		{"no such number", "I6", func(a, b, c, d, e *Feed) { e.add(msg(one, "x", 0)) }},
		{"two rings", "I7", func(a, b, c, d, e *Feed) { c.add(msg(three, "a", 3)) }},
		{"ring of another", "I7", func(a, b, c, d, e *Feed) { b.Records[b.at(msg(two, "b", 2))].Ring = one }},
		{"own one lost", "I8", func(a, b, c, d, e *Feed) { b.Sent++ }},
		{"no ring", "I10", func(a, b, c, d, e *Feed) { e.Records = e.Records[:1] }},
		{"message before the ring", "I10", func(a, b, c, d, e *Feed) { c.insert(changed(one), msg(one, "a", 1)) }},
		{"two rings at the end", "I11", func(a, b, c, d, e *Feed) { c.Final = true }},
	} {
		fs := goodFeeds()
		x.do(&fs[0], &fs[1], &fs[2], &fs[3], &fs[4])
		if rules := feedRules(fs); !slices.Contains(rules, x.rule) {
			t.Errorf("%s: got %v, want %s", x.name, rules, x.rule)
		}
	}
}
