package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/convoke-fs/convoke/test/netns"
)

func groupRowOf(t *testing.T, name string) groupRow {
	t.Helper()
	rows, err := groupRows(defaultSizes, quickGroups)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.name == name {
			return r
		}
	}
	t.Fatalf("no row %s", name)
	return groupRow{}
}

func TestGroupJudge_RowsAgainstTheirGoals(t *testing.T) {
	for _, c := range []struct {
		scenario, row     string
		convoke, corosync []float64
		goal, missed      string
	}{
		{"three times", "cast-64-1s-3n", []float64{300}, []float64{100}, goalOK, ""},
		{"not three times", "cast-64-3s-3n-tls", []float64{290}, []float64{100}, goalMissed, "2.90 times corosync, want 3.0"},
		{"one and a half", "cast-16K-1s-3n", []float64{150, 150, 150}, []float64{100, 90, 110}, goalOK, ""},
		{"not so much", "cast-64K-3s-3n", []float64{140}, []float64{100}, goalMissed, "want 1.5"},
		{"without corosync", "cast-64-1s-3n", []float64{300}, nil, goalUnknown, ""},
		{"no goal", "cast-64-1s-5n", []float64{1}, []float64{100}, goalUnknown, ""},
		{"no goal for 1K", "cast-1K-1s-3n", []float64{1}, []float64{100}, goalUnknown, ""},
		{"not measured", "cast-1K-1s-3n", nil, []float64{100}, goalMissed, "not measured"},
		{"sooner", "ping-p50-3n", []float64{90}, []float64{100}, goalOK, ""},
		{"later", "ping-p50-3n", []float64{101}, []float64{100}, goalMissed, "want less"},
		{"each round counts", "see-daemon-3n-tls", []float64{3, 51, 4}, nil, goalMissed, "51.0 ms, want at most 50"},
		{"a cut in time", "see-cut-3n", []float64{999}, []float64{8000}, goalOK, ""},
		{"feed", "feed-64-3n", []float64{24000, 26000, 27000}, nil, goalOK, ""},
		{"memory", "memory-stopped-3n", []float64{150.5}, []float64{1500}, goalMissed, "want at most 150"},
	} {
		of := groupRowOf(t, c.row)
		r := &groupResult{Name: of.name, Unit: of.unit, Size: of.size, Convoke: c.convoke, Corosync: c.corosync}
		r.judge(of)
		why := strings.Join(r.Missed, "; ")
		if r.Goal != c.goal || !strings.Contains(why, c.missed) || (c.missed == "") != (why == "") {
			t.Errorf("%s: got %s %q, want %s %q", c.scenario, r.Goal, why, c.goal, c.missed)
		}
	}
}

func TestGroupRows_HaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range strings.Split(rowNames(defaultSizes), ", ") {
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int{"24": 24, "64": 64, "1K": 1024, "60K": 61440, "1M": 1 << 20, "1048576": 1 << 20} {
		if got, err := parseSize(text); got != want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "K", "0", "-1", "23", "2M", "1025K", "1048577", "1G", "9223372036854775807K"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: got %d and no error", text, got)
		}
	}
}

func TestOptions_RowsAndSizesSelect(t *testing.T) {
	o, err := parseOptions([]string{"--rows", "^cast-.*3n$", "--sizes", "100,2K", "--quick"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, st := range stages {
		for _, r := range o.wantedGroups(st) {
			names = append(names, r.name)
		}
	}
	if got, want := strings.Join(names, " "), "cast-100-1s-3n cast-100-3s-3n cast-2K-1s-3n cast-2K-3s-3n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if o.wanted("send-1M") || o.groupRounds != 1 {
		t.Errorf("got %+v, want no other rows and one round", o)
	}
	for _, args := range [][]string{{"--rows", "nothing-is-called-so"}, {"--rows", "("}, {"--sizes", "3"}} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("%q: got no error", args)
		}
	}
}

func TestPrint_GroupsWithWhatIsAbsent(t *testing.T) {
	of := groupRowOf(t, "cast-64K-1s-3n")
	r := &groupResult{Name: of.name, Unit: of.unit, Size: of.size, Convoke: []float64{2000, 3000, 4000}, Corosync: []float64{1000, 1000, 1000}}
	r.judge(of)
	cut := groupRowOf(t, "see-cut-3n")
	s := &groupResult{Name: cut.name, Unit: cut.unit, Notes: []string{"see-cut-3n, convoke: no route"}}
	s.judge(cut)
	rep := &report{Groups: []*groupResult{r, s}, Notes: []string{"corosync is not measured: no gcc"}}
	if !rep.missed() {
		t.Error("a row that was not measured counts as reached")
	}
	var b strings.Builder
	if err := rep.print(&b); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"groups unit convoke corosync ratio range goal MB/s MB/s",
		"cast-64K-1s-3n 1/s 3000 1000 3.00 2.00-4.00 ok 196.6 65.5",
		"see-cut-3n ms - - - - MISSED - -",
		"missed: see-cut-3n: not measured",
		"note: see-cut-3n, convoke: no route",
		"note: corosync is not measured: no gcc",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A side that cannot start is tried again, and given up in the end.
func TestPlace_GivesUpWhatDoesNotStart(t *testing.T) {
	if err := netns.Usable(); err != nil {
		t.Skip(err)
	}
	broken, starts := errors.New("broken"), 0
	p := &place{column: ours, prepare: func(string) prepare {
		return func(*netns.Net) (system, error) { starts++; return nil, broken }
	}}
	for range 2 * maxBroken {
		if _, _, err := p.measure(t.Context(), stages[0], groupRow{}); !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
	}
	if starts != maxBroken+1 {
		t.Errorf("got %d starts, want %d", starts, maxBroken+1)
	}
}
