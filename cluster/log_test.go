package cluster

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBridge_SerfsLevelsAreLowered(t *testing.T) {
	var out bytes.Buffer
	l := newBridge(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for line, want := range map[string]string{
		"[DEBUG] memberlist: a":      `level=DEBUG msg="gossip: memberlist: a"`,
		"[INFO] serf: b":             `level=DEBUG msg="gossip: serf: b"`,
		"[WARN] serf: c":             `level=DEBUG msg="gossip: serf: c"`,
		"[ERR] memberlist: d":        `level=INFO msg="gossip: memberlist: d"`,
		"Err: e":                     `level=WARN msg="gossip: Err: e"`,
		"[WARN] f\nlevel=ERROR \x1b": `level=DEBUG msg="gossip: f\nlevel=ERROR \x1b"`,
	} {
		out.Reset()
		l.Printf("%s", line)
		if got := strings.TrimSpace(out.String()); !strings.HasSuffix(got, want) {
			t.Errorf("%q becomes %s, want %s", line, got, want)
		}
	}
}

func TestBridge_FloodIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newBridge(slog.New(slog.NewTextHandler(&out, nil)))
		for i := range 1000 {
			l.Printf("[ERR] memberlist: %d", i)
			l.Printf("[DEBUG] memberlist: not shown and not counted")
		}
		if got := strings.Count(out.String(), "\n"); got != bridgeRate {
			t.Errorf("%d lines in a second, want %d", got, bridgeRate)
		}
		time.Sleep(time.Second)
		out.Reset()
		l.Printf("[ERR] serf: again")
		want := fmt.Sprintf("count=%d\n", 1000-bridgeRate)
		if got := out.String(); !strings.Contains(got, want) || !strings.Contains(got, "serf: again") {
			t.Errorf("got %s, want the count %s and the line", got, want)
		}
	})
}
