package check

import (
	"slices"
	"strings"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// Three nodes, of which two go on: a and b deliver 1 of a and 1 of b in ring 4,
// then c is lost, and they go to ring 5 with the tail 2 of b.
var (
	a  = ring.NK{ID: 1, Boot: 1}
	b  = ring.NK{ID: 2, Boot: 1}
	c  = ring.NK{ID: 3, Boot: 1}
	r4 = ring.View{Ring: ring.ID{Seq: 4, Rep: 1}, Members: []ring.NK{a, b, c}}
	r5 = ring.View{Ring: ring.ID{Seq: 5, Rep: 1}, Members: []ring.NK{a, b}}
)

func alone(n ring.NK) Install {
	return Install{View: ring.View{Ring: ring.ID{Seq: 1, Rep: n.ID}, Members: []ring.NK{n}}, Transitional: []ring.NK{n}}
}

// A step is one record; name lets a test find it.
type step struct {
	name string
	f    func(t *Trace)
}

func start(n ring.NK) step {
	return step{"start " + n.String(), func(t *Trace) { t.Start(n, false) }}
}

func accept(n ring.NK, sum uint64) step {
	return step{"accept " + n.String(), func(t *Trace) { t.Accept(n, sum) }}
}

func deliver(n ring.NK, d Delivery) step {
	return step{"deliver " + n.String(), func(t *Trace) { t.Deliver(n, d) }}
}

func install(n ring.NK, in Install) step {
	return step{"install " + n.String(), func(t *Trace) { t.Install(n, in) }}
}

var (
	a1    = Delivery{Origin: a, Seq: 1, Ring: r4.Ring, Pos: 1, Sum: 11}
	b1    = Delivery{Origin: b, Seq: 1, Ring: r4.Ring, Pos: 2, Sum: 21}
	b2    = Delivery{Origin: b, Seq: 2, Ring: r4.Ring, Pos: 3, Sum: 22, Tail: true}
	toR5  = Install{View: r5, Old: r4.Ring, Transitional: []ring.NK{a, b}, Before: 7, After: 8}
	fromA = Install{View: r4, Old: ring.ID{Seq: 1, Rep: 1}, Transitional: []ring.NK{a}, After: 5}
	fromB = Install{View: r4, Old: ring.ID{Seq: 1, Rep: 2}, Transitional: []ring.NK{b}, After: 5}
	fromC = Install{View: r4, Old: ring.ID{Seq: 1, Rep: 3}, Transitional: []ring.NK{c}, After: 5}
)

// good gives a history without fault.
func good() []step {
	return []step{
		start(a), install(a, alone(a)), accept(a, 11), install(a, fromA),
		start(b), install(b, alone(b)), accept(b, 21), install(b, fromB),
		start(c), install(c, alone(c)), install(c, fromC),
		deliver(a, a1), deliver(a, b1), deliver(b, a1), deliver(c, a1),
		accept(b, 22),
		{"stop " + c.String(), func(t *Trace) { t.Stop(c) }},
		deliver(b, b1),
		deliver(a, b2), install(a, toR5),
		deliver(b, b2), install(b, toR5),
		{"held", func(t *Trace) { t.Held(a, 90, 50, 20) }},
		{"settle", func(t *Trace) { t.Settle([]ring.NK{a, b}) }},
	}
}

// run gives the rules that a history breaks.
func run(steps []step) (rules []string, all string) {
	t := New()
	for _, s := range steps {
		s.f(t)
	}
	var text []string
	for _, v := range t.Finish() {
		rules = append(rules, v.Rule)
		text = append(text, v.String())
	}
	return rules, strings.Join(text, "\n")
}

// edit replaces the n-th step of that name by others.
func edit(steps []step, name string, n int, by ...step) []step {
	var out []step
	for _, s := range steps {
		if s.name == name {
			if n--; n == 0 {
				out = append(out, by...)
				continue
			}
		}
		out = append(out, s)
	}
	if n > 0 {
		panic("no such step: " + name)
	}
	return out
}

func with(d Delivery, f func(*Delivery)) Delivery { f(&d); return d }

func withInstall(in Install, f func(*Install)) Install { f(&in); return in }

func TestTrace_GoodOneIsAccepted(t *testing.T) {
	if rules, text := run(good()); len(rules) > 0 {
		t.Fatalf("got violations:\n%s", text)
	}
}

func TestTrace_BadOnesAreNamed(t *testing.T) {
	for _, x := range []struct {
		name string
		rule string
		do   []step
	}{
		{"not in its own ring", "I1", edit(good(), "install 3/1", 2, install(c, withInstall(toR5, func(in *Install) { in.Old.Seq, in.Old.Rep = 1, 3 })))},
		{"other members", "I1", edit(good(), "install 2/1", 2, install(b, withInstall(fromB, func(in *Install) { in.View.Members = []ring.NK{a, b} })))},
		{"led by another", "I1", edit(good(), "install 2/1", 2, install(b, withInstall(fromB, func(in *Install) { in.View.Ring.Rep = 2 })))},
		{"members in disorder", "I1", edit(good(), "install 1/1", 2, install(a, withInstall(fromA, func(in *Install) { in.View.Members = []ring.NK{a, c, b} })))},
		{"number twice", "I2", edit(good(), "install 1/1", 3, deliver(a, Delivery{}), install(a, withInstall(toR5, func(in *Install) { in.View.Ring.Seq = 4 })))},
		{"number lower after a restart", "I2", append(good(), start(ring.NK{ID: 1, Boot: 2}), install(ring.NK{ID: 1, Boot: 2}, alone(ring.NK{ID: 1, Boot: 2})))},
		{"other order", "I3", edit(good(), "deliver 3/1", 1, deliver(c, with(b1, func(d *Delivery) { d.Pos = 1 })))},
		{"other place", "I3", edit(good(), "deliver 3/1", 1, deliver(c, with(a1, func(d *Delivery) { d.Pos = 2 })))},
		{"hole in the log", "I3", edit(good(), "deliver 3/1", 1, deliver(c, b1))},
		{"tail not delivered", "I4", edit(good(), "deliver 1/1", 3)},
		{"more than the others", "I4", edit(good(), "install 1/1", 3, accept(a, 12), deliver(a, Delivery{Origin: a, Seq: 2, Ring: r4.Ring, Pos: 4, Sum: 12, Tail: true}), install(a, toR5))},
		{"another comes along", "I4", edit(good(), "install 2/1", 3, install(b, withInstall(toR5, func(in *Install) { in.Transitional = []ring.NK{b} })))},
		{"another old ring", "I4", edit(good(), "install 2/1", 3, install(b, withInstall(toR5, func(in *Install) { in.Old.Seq = 3 })))},
		{"comes without itself", "I4", edit(good(), "install 2/1", 2, install(b, withInstall(fromB, func(in *Install) { in.Transitional = nil })))},
		{"twice", "I5", edit(good(), "deliver 2/1", 3, deliver(b, b2), deliver(b, b2))},
		{"twice in two rings", "I5", append(good(), deliver(b, with(b1, func(d *Delivery) { d.Ring, d.Pos = r5.Ring, 1 })))},
		{"never accepted", "I6", edit(good(), "accept 1/1", 1)},
		{"changed", "I6", edit(good(), "deliver 3/1", 1, deliver(c, with(a1, func(d *Delivery) { d.Sum++ })))},
		{"changed everywhere but at home", "I6", edit(good(), "accept 1/1", 1, accept(a, 12))},
		{"senders' order", "I6", edit(edit(good(), "deliver 1/1", 2, deliver(a, b2)), "deliver 1/1", 3, deliver(a, with(b1, func(d *Delivery) { d.Tail = true })))},
		{"first of a sender missing", "I6", edit(edit(good(), "deliver 1/1", 2), "deliver 2/1", 2)},
		{"two rings", "I7", edit(edit(good(), "deliver 1/1", 3), "install 1/1", 3, install(a, toR5), deliver(a, with(b2, func(d *Delivery) { d.Ring, d.Pos, d.Tail = r5.Ring, 1, false })))},
		{"ring not installed", "I7", edit(good(), "deliver 3/1", 1, deliver(c, with(a1, func(d *Delivery) { d.Ring = r5.Ring })))},
		{"origin not in the ring", "I7", append(good(), deliver(b, Delivery{Origin: c, Seq: 1, Ring: r5.Ring, Pos: 1}))},
		{"own one lost", "I8", edit(good(), "accept 2/1", 2, accept(b, 22), accept(b, 23))},
		{"own ones in disorder", "I9", edit(good(), "accept 2/1", 2, accept(b, 23))},
		{"position again", "I10", edit(good(), "deliver 1/1", 2, deliver(a, with(b1, func(d *Delivery) { d.Pos = 1 })))},
		{"after the tail", "I10", edit(good(), "deliver 1/1", 3, deliver(a, b2), accept(a, 12), deliver(a, Delivery{Origin: a, Seq: 2, Ring: r4.Ring, Pos: 4, Sum: 12}))},
		{"after its end", "I10", edit(good(), "deliver 2/1", 2, deliver(c, b1), deliver(b, b1))},
		{"a ring of some", "I11", edit(good(), "settle", 1, step{"", func(t *Trace) { t.Settle([]ring.NK{a, b, {ID: 4, Boot: 1}}) }})},
		{"a ring with the dead", "I11", edit(good(), "settle", 1, step{"", func(t *Trace) { t.Settle([]ring.NK{a}) }})},
		{"two rings at the end", "I11", edit(good(), "install 2/1", 3)},
		{"unequal logs at the end", "I11", edit(good(), "settle", 1, accept(a, 12), deliver(a, Delivery{Origin: a, Seq: 2, Ring: r5.Ring, Pos: 1, Sum: 12}), step{"", func(t *Trace) { t.Settle([]ring.NK{a, b}) }})},
		{"tables behind the install", "I12", edit(good(), "install 2/1", 3, install(b, withInstall(toR5, func(in *Install) { in.After = 9 })))},
		{"tables before the install", "I12", edit(good(), "install 2/1", 3, install(b, withInstall(toR5, func(in *Install) { in.Before = 9 })))},
		{"too much kept", "I14", edit(good(), "held", 1, step{"", func(t *Trace) { t.Held(a, 91, 50, 20) }})},
	} {
		rules, text := run(x.do)
		if !slices.Contains(rules, x.rule) {
			t.Errorf("%s: got %v, want %s\n%s", x.name, rules, x.rule, text)
		}
	}
}

// A node that lost its disk gives the same numbers again, which it may.
func TestTrace_LostDiskMayRepeatNumbers(t *testing.T) {
	again := ring.NK{ID: 1, Boot: 2}
	steps := append(good(), step{"", func(t *Trace) { t.Stop(a); t.Start(again, true); t.Install(again, alone(again)) }})
	if rules, text := run(steps); len(rules) > 0 {
		t.Fatalf("got violations:\n%s", text)
	}
}

// A node that dies at once may start in a ring of the same number, but in no
// other.
func TestTrace_FirstRingMayComeAgain(t *testing.T) {
	again := ring.NK{ID: 3, Boot: 2}
	steps := []step{start(c), install(c, alone(c)), {"", func(t *Trace) { t.Stop(c) }}, start(again), install(again, alone(again))}
	if rules, text := run(steps); len(rules) > 0 {
		t.Fatalf("got violations:\n%s", text)
	}
	steps = append(steps, install(again, withInstall(alone(again), func(in *Install) { in.Old = in.View.Ring })))
	if rules, _ := run(steps); !slices.Contains(rules, "I2") {
		t.Fatalf("got %v, want I2", rules)
	}
}

// What two sides of a partition closed a ring with is in an order of its own on
// each.
func TestTrace_SidesMayCloseARingDifferently(t *testing.T) {
	side := ring.View{Ring: ring.ID{Seq: 6, Rep: 3}, Members: []ring.NK{c}}
	steps := edit(good(), "stop 3/1", 1,
		deliver(c, with(b1, func(d *Delivery) { d.Tail = true })),
		install(c, Install{View: side, Old: r4.Ring, Transitional: []ring.NK{c}, Before: 9, After: 10}))
	if rules, text := run(steps); len(rules) > 0 {
		t.Fatalf("got violations:\n%s", text)
	}
}
