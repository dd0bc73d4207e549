package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestField_FindsTheNumberBehindTheName(t *testing.T) {
	const status = "Name:\tx\nVmRSS:\t   12345 kB\nThreads:\t9\n"
	const metrics = "# HELP convoke_goroutines Goroutines.\n# TYPE convoke_goroutines gauge\nconvoke_goroutines 11\n"
	for _, c := range []struct {
		text, name string
		want       int
	}{{status, "VmRSS:", 12345}, {status, "Threads:", 9}, {metrics, "convoke_goroutines", 11}} {
		if got, err := field(c.text, c.name); err != nil || got != c.want {
			t.Errorf("%s: got %d, %v, want %d", c.name, got, err, c.want)
		}
	}
	if _, err := field(status, "VmSwap:"); err == nil {
		t.Error("VmSwap: got no error for what is not there")
	}
}

func TestParseCPU_GivesTheShareThatWasStolen(t *testing.T) {
	a, err := parseCPU("cpu  100 0 50 800 10 0 5 35 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	if err != nil {
		t.Fatal(err)
	}
	b, err := parseCPU("cpu  150 0 60 820 10 0 5 55 9 9\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := b.stolenSince(a); got != 0.2 {
		t.Errorf("got %v, want 0.2", got)
	}
	if got := a.stolenSince(a); got != 0 {
		t.Errorf("got %v for no time, want 0", got)
	}
}

func TestParseCPU_RefusesOtherText(t *testing.T) {
	for _, text := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", "cpu a 0 0 0 0 0 0 0 0"} {
		if got, err := parseCPU(text); err == nil {
			t.Errorf("%q: got %v and no error", text, got)
		}
	}
}

func TestCalm_PassesErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	synctest.Test(t, func(t *testing.T) {
		if _, _, err := calm(t.Context(), func(context.Context) (float64, error) { return 0, broken }); err != broken {
			t.Errorf("got %v, want %v", err, broken)
		}
	})
}
