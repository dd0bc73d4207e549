package sim

import (
	"fmt"
	"testing"
)

// try runs one seed and tells what it has broken.
func try(t *testing.T, seed uint64, lo, hi int) Result {
	t.Helper()
	p := NewPlan(seed, lo, hi)
	res := Run(p, nil)
	if len(res.Violations) > 0 {
		t.Errorf("seed %d of %d to %d nodes: %v\n%v\nrun: go run ./cluster/ring/sim/ringsim -from %d -seeds 1 -nodes %d-%d",
			seed, lo, hi, res.Violations[0], p.Knobs, seed, lo, hi)
	}
	return res
}

// The seeds that run everywhere and always.
func TestSeeds_HoldAllInvariants(t *testing.T) {
	for _, set := range []struct {
		from, n uint64
		lo, hi  int
	}{
		{1, 1200, 2, 5},
		{1, 60, 6, 16},
		{1, 40, 1, 1},
	} {
		t.Run(fmt.Sprintf("%d-%d", set.lo, set.hi), func(t *testing.T) {
			t.Parallel()
			var total Result
			for i := range max(set.n/slower, 2) {
				if total.Add(try(t, set.from+i, set.lo, set.hi)); t.Failed() {
					return
				}
			}
			// A world in which nothing happens would break nothing.
			t.Log(total)
			n := int(set.n / slower)
			if total.Delivered < n*20 || total.Installs < n || set.lo > 1 && slower == 1 && (total.Late == 0 || total.Tail < n || total.Recovers < n || total.Nacks < n) {
				t.Error("the runs are empty")
			}
		})
	}
}

// regressions are seeds that have found something once.
var regressions = []struct {
	seed   uint64
	lo, hi int
	what   string
}{
	{119380, 2, 16, "a session that breaks in its handshake while one end still has the one before: Up before Down"},
}

func TestSeeds_OfOldFindings(t *testing.T) {
	for _, x := range regressions {
		if res := try(t, x.seed, x.lo, x.hi); len(res.Violations) > 0 {
			t.Errorf("again: %s", x.what)
		}
	}
}

func TestRun_IsTheSameForTheSameSeed(t *testing.T) {
	const seeds = max(12/slower, 1)
	different := make(map[uint64]bool)
	for seed := range uint64(seeds) {
		var lines [2][]string
		var res [2]Result
		for i := range 2 {
			// With and without a log: looking must not change what is seen.
			log := func(line string) { lines[i] = append(lines[i], line) }
			res[i] = Run(NewPlan(seed, 2, 7), log)
		}
		bare := Run(NewPlan(seed, 2, 7), nil)
		if res[0].Hash != res[1].Hash || res[0].Hash != bare.Hash || fmt.Sprint(res[0]) != fmt.Sprint(bare) {
			t.Errorf("seed %d: got %+v, %+v and, without a log, %+v", seed, res[0], res[1], bare)
		}
		if len(lines[0]) != len(lines[1]) {
			t.Fatalf("seed %d: %d and %d lines", seed, len(lines[0]), len(lines[1]))
		}
		for i := range lines[0] {
			if lines[0][i] != lines[1][i] {
				t.Fatalf("seed %d differs at line %d:\n%s\n%s", seed, i+1, lines[0][i], lines[1][i])
			}
		}
		different[bare.Hash] = true
	}
	if len(different) != seeds {
		t.Errorf("%d different runs of %d seeds", len(different), seeds)
	}
}
