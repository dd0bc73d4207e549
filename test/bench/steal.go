package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// maxStolen is the share of the processors' time that the host of a virtual machine may have given to others
	// during a measurement; above it the measurement tells more of them than of us, and is made again.
	maxStolen = 0.05
	// maxAgain is how often; then it counts as it is, for a host may be like that all day.
	maxAgain = 20
	// calmDown is the pause before.
	calmDown = 100 * time.Millisecond
)

// cpuTime is a line of /proc/stat in ticks, of which there are 100 in a processor's second.
type cpuTime struct{ total, stolen int64 }

// parseCPU reads the line of all processors, the first: proc_stat(5).
func parseCPU(text string) (t cpuTime, err error) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return t, errors.New("/proc/stat: the line of processors has no field for stolen time")
	}
	for i, s := range f[1:9] { // user nice system idle iowait irq softirq steal; the guests' are in user and nice
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return t, fmt.Errorf("/proc/stat: %w", err)
		}
		t.total += n
		if i == 7 {
			t.stolen = n
		}
	}
	return t, nil
}

// stolenSince is the share that was stolen from an earlier time to this.
func (t cpuTime) stolenSince(start cpuTime) float64 {
	if t.total <= start.total {
		return 0
	}
	return float64(t.stolen-start.stolen) / float64(t.total-start.total)
}

func readCPU() (cpuTime, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTime{}, err
	}
	return parseCPU(string(b))
}

// calm repeats a measurement until the host leaves it alone. disturbed: it did not.
func calm(ctx context.Context, f measure) (v float64, disturbed bool, err error) {
	return calmly(ctx, f, maxAgain)
}

// calmly is calm with so many repetitions at most.
func calmly(ctx context.Context, f measure, most int) (v float64, disturbed bool, err error) {
	for again := 0; ; again++ {
		start, err := readCPU()
		if err != nil {
			return 0, false, err
		}
		if v, err = f(ctx); err != nil {
			return 0, false, err
		}
		end, err := readCPU()
		if err != nil {
			return 0, false, err
		}
		if end.stolenSince(start) <= maxStolen {
			return v, false, nil
		}
		if again >= most {
			return v, true, nil
		}
		select {
		case <-ctx.Done():
			return 0, false, ctx.Err()
		case <-time.After(calmDown):
		}
	}
}
