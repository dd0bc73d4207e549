// Command ringsim runs the ring's core in a made-up world, one run for each of
// many seeds, and tells what broke; see package sim.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring/sim"
)

func main() {
	var o opts
	flag.Uint64Var(&o.from, "from", 1, "first seed")
	flag.Uint64Var(&o.seeds, "seeds", 1000, "how many seeds")
	nodes := flag.String("nodes", "2-5", "least and largest number of nodes")
	flag.StringVar(&o.mutant, "mutant", "", "run cores with this rule broken, 'list' to name them (build tag mutants)")
	flag.BoolVar(&o.verbose, "v", false, "print all that happens in the run of the first seed")
	flag.BoolVar(&o.keep, "k", false, "go on after a violation, and count")
	flag.IntVar(&o.jobs, "j", runtime.NumCPU(), "runs at a time")
	flag.IntVar(&o.shrink, "shrink", 300, "at most so many runs to find which faults matter")
	flag.Parse()
	debug.SetGCPercent(800) // a run keeps little, and makes much garbage
	if err := o.parse(*nodes); err != nil || flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "usage: ringsim [flags]: %v %v\n", err, flag.Args())
		os.Exit(2)
	}
	if o.mutant != "" {
		if err := mutate(o.mutant); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	if o.verbose {
		p := sim.NewPlan(o.from, o.lo, o.hi)
		fmt.Println(p.Knobs)
		res := sim.Run(p, func(line string) { fmt.Println(line) })
		o.report(p, res)
		if len(res.Violations) > 0 {
			os.Exit(1)
		}
		return
	}
	if bad := o.runAll(); bad > 0 {
		os.Exit(1)
	}
}

type opts struct {
	from, seeds   uint64
	lo, hi        int
	mutant        string
	verbose, keep bool
	jobs, shrink  int
}

func (o *opts) parse(nodes string) (err error) {
	lo, hi, both := strings.Cut(nodes, "-")
	if !both {
		hi = lo
	}
	if o.lo, err = strconv.Atoi(lo); err != nil {
		return err
	}
	if o.hi, err = strconv.Atoi(hi); err != nil {
		return err
	}
	if o.lo < 1 || o.hi < o.lo || o.hi > 64 {
		return fmt.Errorf("no such number of nodes: %s", nodes)
	}
	return nil
}

// runAll runs the seeds, a few at a time, and tells how many broke something.
func (o *opts) runAll() (bad int) {
	var mu sync.Mutex
	var total sim.Result
	next, done, last := o.from, uint64(0), o.from+o.seeds
	began := time.Now()
	var wg sync.WaitGroup
	for range max(o.jobs, 1) {
		wg.Go(func() {
			for {
				mu.Lock()
				seed := next
				if seed >= last || bad > 0 && !o.keep {
					mu.Unlock()
					return
				}
				next++
				mu.Unlock()
				p := sim.NewPlan(seed, o.lo, o.hi)
				res := sim.Run(p, nil)
				mu.Lock()
				done++
				total.Add(res)
				if len(res.Violations) > 0 {
					if bad++; bad == 1 || o.keep && o.shrink == 0 {
						o.report(p, res)
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	fmt.Printf("%d seeds from %d, %d-%d nodes: %d with a violation; %v; %v\n",
		done, o.from, o.lo, o.hi, bad, total, time.Since(began).Round(time.Millisecond))
	return bad
}

// report tells what a seed broke, and with which faults.
func (o *opts) report(p sim.Plan, res sim.Result) {
	if len(res.Violations) == 0 {
		fmt.Printf("seed %d: no violation, hash %#x, settled at %v\n", p.Seed, res.Hash, res.Settled)
		return
	}
	fmt.Printf("seed %d: %v\n%v\n", p.Seed, res.Violations[0], p.Knobs)
	if o.shrink == 0 || o.verbose {
		return
	}
	small := sim.Shrink(p, res.Violations[0].Rule, o.shrink)
	fmt.Printf("shrunk to %v:\n", small.Knobs)
	for _, f := range small.Faults {
		fmt.Println("  ", f)
	}
	var lines []string
	res = sim.Run(small, func(line string) { lines = append(lines, line) })
	for _, line := range lines[max(0, len(lines)-60):] {
		fmt.Println("  ", line)
	}
	fmt.Println(res.Violations[0])
}
