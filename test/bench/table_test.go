package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func sampleReport() *report {
	r := &result{Name: "send-1M", Unit: "MB/s", Disturbed: 2, Values: map[column][]float64{direct: {100, 200, 300}, stream: {50, 110, 150}, socat: {33.4}}}
	r.judge(row{name: "send-1M", floor: 0.6})
	return &report{Rounds: 3, Rows: []*result{r}, Memory: []*usage{{Name: "blocked", Reads: 9, RSS: 1536, Goroutines: 7, Threads: 8, Goal: "-", Note: "9 reads instead of 10"}}}
}

func TestPrint_ShowsMediansAndDashesForWhatIsAbsent(t *testing.T) {
	var b strings.Builder
	if err := sampleReport().print(&b); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"row unit direct stream ratio range goal dd cat bash socat nc bash-tcp",
		"send-1M MB/s 200 110 0.50 0.50-0.55 MISSED - - - 33 - -",
		"",
		"daemon reads RSS MiB goroutines threads goal",
		"blocked 9 1.5 7 8 -",
		"missed: send-1M: 0.50 of direct, want 0.60",
		"note: send-1M: the host of this machine took processor time from 2 measurements",
		"note: 9 reads instead of 10",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPrint_ShowsTheOtherDaemonOnlyIfThereIsOne(t *testing.T) {
	rep := sampleReport()
	rep.Rows[0].Values[against] = []float64{90, 180, 270}
	rep.Rows[0].judge(row{name: "send-1M", floor: 0.6})
	var b strings.Builder
	if err := rep.print(&b); err != nil {
		t.Fatal(err)
	}
	line := strings.Join(strings.Fields(strings.Split(b.String(), "\n")[1]), " ")
	if want := "send-1M MB/s 200 110 0.50 0.50-0.55 MISSED 180 0.90 - - - 33 - -"; line != want {
		t.Errorf("got %s, want %s", line, want)
	}
}

func TestPrint_SaysWhatMemoryMissed(t *testing.T) {
	rep := &report{Memory: []*usage{{Name: idleRow, Goal: goalMissed}, {Name: blockedRow, Goal: goalMissed}}}
	var b strings.Builder
	if err := rep.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"missed: idle: want at most 30 MiB\n", "missed: blocked: want at most 40 MiB and 32 goroutines\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s\nwant in it: %s", b.String(), want)
		}
	}
}

func TestPrintJSON_HasEachRound(t *testing.T) {
	var b strings.Builder
	if err := sampleReport().printJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil {
		t.Fatal(err)
	}
	if got := back.Rows[0].Values[stream]; len(got) != 3 || got[1] != 110 {
		t.Errorf("got %v, want 50 110 150 in\n%s", got, b.String())
	}
}
