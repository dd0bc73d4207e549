package main

import (
	"io"
	"strings"
	"testing"
)

func TestOptions_QuickDoesLessAndRoundsWins(t *testing.T) {
	full, err := parseOptions(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	quick, err := parseOptions([]string{"--quick"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	seven, err := parseOptions([]string{"--quick", "--rounds", "7"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if quick.size.bulk >= full.size.bulk || quick.rounds >= full.rounds || seven.rounds != 7 {
		t.Errorf("got quick %+v of full %+v, and %d rounds, want less, and 7", quick, full, seven.rounds)
	}
}

func TestOptions_OnlySelectsByTheBeginningOfNames(t *testing.T) {
	o, err := parseOptions([]string{"--only", "send,trips", "--only", "idle"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"send-1M": true, "send-128K": true, "trips": true, "idle": true, "recv-1M": false, "conns": false, "blocked": false} {
		if o.wanted(name) != want {
			t.Errorf("%s: got %v, want %v", name, !want, want)
		}
	}
}

func TestOptions_RefusesWhatWouldMeasureNothing(t *testing.T) {
	for _, args := range [][]string{{"--only", "sned"}, {"--only", "send,,trips"}, {"--rounds", "-1"}, {"file"}, {"--fast"}} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("%q: got no error", args)
		}
	}
}

func TestHelp_NamesEveryRow(t *testing.T) {
	var b, e strings.Builder
	if got := run([]string{"--help"}, &b, &e); got != exitDone {
		t.Fatalf("got status %d and %s, want 0", got, e.String())
	}
	for _, r := range rows {
		if !strings.Contains(b.String(), r.name) {
			t.Errorf("%s is not in the help:\n%s", r.name, b.String())
		}
	}
}

func TestDaemonEnv_LeavesConfigurationOut(t *testing.T) {
	got := daemonEnv([]string{"PATH=/bin", "CONVOKE_KEY_FILE=/k", "NOTIFY_SOCKET=/s", "GOGC=50"})
	if strings.Join(got, " ") != "PATH=/bin GOGC=50" {
		t.Errorf("got %q, want PATH and GOGC", got)
	}
}
