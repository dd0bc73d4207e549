package main

import (
	"errors"
	"strings"
	"testing"
)

func rowOf(t *testing.T, name string) row {
	t.Helper()
	for _, r := range rows {
		if r.name == name {
			return r
		}
	}
	t.Fatalf("no row %s", name)
	return row{}
}

func TestJudge_RowsAgainstTheirGoals(t *testing.T) {
	for _, c := range []struct {
		scenario string
		row      string
		values   map[column][]float64
		goal     string
		missed   string // part of the reason
	}{
		{"fast enough", "send-1M", map[column][]float64{direct: {100}, stream: {60}, ddFile: {50}, socat: {49}, nc: {20}}, goalOK, ""},
		{"too slow", "send-1M", map[column][]float64{direct: {100}, stream: {59}}, goalMissed, "0.59 of direct, want 0.60"},
		{"dd behind socat", "send-1M", map[column][]float64{direct: {100}, stream: {90}, ddFile: {50}, socat: {51}}, goalMissed, "socat has 51"},
		{"without dd our client stands for it", "send-1M", map[column][]float64{direct: {100}, stream: {90}, nc: {89}}, goalOK, ""},
		{"receiving may be behind nc", "recv-1M", map[column][]float64{direct: {100}, stream: {60}, ddFile: {50}, nc: {90}}, goalOK, ""},
		{"trips just reached", "trips", map[column][]float64{direct: {100}, stream: {45}}, goalOK, ""},
		{"conns ten times socat", "conns", map[column][]float64{direct: {9000}, stream: {1000}, socat: {100}, nc: {999}}, goalOK, ""},
		{"conns nine times socat", "conns", map[column][]float64{direct: {9000}, stream: {900}, socat: {100}}, goalMissed, "9.0 times"},
		{"conns without socat", "conns", map[column][]float64{direct: {9000}, stream: {900}}, goalUnknown, ""},
	} {
		r := &result{Name: c.row, Unit: "u", Values: c.values}
		r.judge(rowOf(t, c.row))
		why := strings.Join(r.Missed, "; ")
		if r.Goal != c.goal || !strings.Contains(why, c.missed) || (c.missed == "") != (why == "") {
			t.Errorf("%s: got %s %q, want %s %q", c.scenario, r.Goal, why, c.goal, c.missed)
		}
	}
}

func TestFail_MissesTheGoalAndSaysWhy(t *testing.T) {
	r := &result{Name: "conns"}
	r.fail(errors.New("no route"))
	rep := &report{Rows: []*result{r}}
	if !rep.missed() || r.Missed[0] != "no route" {
		t.Errorf("got %+v, want a missed goal for no route", r)
	}
}

func TestMissed_CountsMemory(t *testing.T) {
	for kib, want := range map[int]bool{maxIdleRSS: false, maxIdleRSS + 1: true} {
		rep := &report{Memory: []*usage{{Goal: judgeAtMost(kib, maxIdleRSS)}}}
		if rep.missed() != want {
			t.Errorf("%d KiB of %d: missed %v, want %v", kib, maxIdleRSS, rep.missed(), want)
		}
	}
}
