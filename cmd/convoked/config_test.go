package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/quorum"
)

// parse parses flags with an environment and, unless text is "-", a configuration file.
func parse(t *testing.T, text string, env map[string]string, args ...string) (*config, error) {
	t.Helper()
	if text != "-" {
		file := filepath.Join(t.TempDir(), "convoke.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append([]string{"--config", file}, args...)
	}
	return parseConfig(append([]string{"--state", "/s", "--run", "/r"}, args...), func(k string) (string, bool) { v, ok := env[k]; return v, ok })
}

func TestConfig_FlagsGoBeforeEnvironmentBeforeFile(t *testing.T) {
	file := "# a comment\n\n name = fromfile\ncluster=fromfile\nlog-level=warn\njoin=a\njoin=b:1\nkey-file=/k\nmount=/fromfile\n"
	env := map[string]string{"CONVOKE_CLUSTER": "fromenv", "CONVOKE_LOG_LEVEL": "debug", "CONVOKE_BIND": "127.0.0.2:99"}
	c, err := parse(t, file, env, "--log-level", "error", "/m")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.name, " ", c.cluster, " ", c.level, " ", c.join, " ", c.bindAddr, " ", c.mountPoint)
	if want := "fromfile fromenv ERROR [a b:1] 127.0.0.2:99 /m"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if c, err = parse(t, file, nil, "--join=flag"); err != nil || fmt.Sprint(c.join, " ", c.mountPoint) != "[flag] /fromfile" {
		t.Errorf("got %v %v, %v; want the flag's list and the file's mount point", c.join, c.mountPoint, err)
	}
}

func TestConfig_RubbishIsRefusedWithItsReason(t *testing.T) {
	for _, c := range []struct {
		file string
		args string
		want string
	}{
		{"-", "--nope", "unknown flag: --nope"},
		{"-", "/a /b", "more than one mount point"},
		{"-", "--name a/b /m", `--name "a/b": want letters`},
		{"-", "--name local /m", `--name "local"`},
		{"-", "--cluster=", `--cluster ""`},
		{"-", "--bind nowhere /m", `--bind "nowhere": want ADDR or ADDR:PORT`},
		{"-", "--bind 1.2.3.4:x /m", `"x" is no port`},
		{"-", "--bind host:1 /m", `"host" is no address`},
		{"-", "--foreign-net maybe /m", "want deny or allow"},
		{"-", "--log-format xml /m", "want text or json"},
		{"-", "--log-level loud /m", "want debug, info, warn or error"},
		{"-", "--join a /m", "--join needs --key-file"},
		{"-", "--limit rivers /m", "want NAME UID|* N"},
		{"-", "--two-node --expect 3 /m", "two_node with 3 expected votes"},
		{"-", "--tie-breaker web1 /m", `tie breaker "web1"`},
		{"-", "--dead-after 1ms /m", "--dead-after 1ms: want 200ms to 1m"},
		{"-", "--config /nonexistent /m", "no such file"},
		{"name=a\nname=b\n", "/m", ":2: name stands here a second time"},
		{"name\n", "/m", `:1: "name" is not name=value`},
		{"\nrubbish=1\n", "/m", `:2: unknown name "rubbish"`},
		{"config=x\n", "/m", `unknown name "config"`},
		{"insecure=perhaps\n", "/m", ":1: "},
		{"a\x00=1\n", "/m", "NUL"},
	} {
		_, err := parse(t, c.file, nil, strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %s: got %v, want an error with %q", c.file, c.args, err, c.want)
		}
	}
}

func TestRun_ExitStatuses(t *testing.T) {
	open := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(open, []byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want int
		out  string
	}{
		{"--help", exitDone, "Usage: convoked"},
		{"--version", exitDone, "convoked "},
		{"--nope", exitUsage, "see convoked --help"},
		{"--state /s --run /r --check /m", exitDone, ""},
		{"--state /s --run /r --check --key-file /nonexistent /m", exitConfig, "no such file"},
		{"--state /s --run /r --check --key-file " + open + " /m", exitConfig, "convoked: "}, // readable by others
		{"--state /s --run /r --name .x /m", exitConfig, "--name"},
	} {
		var out bytes.Buffer
		if got := run(strings.Fields(c.args), &out, &out); got != c.want || !strings.Contains(out.String(), c.out) {
			t.Errorf("convoked %s: exit %d, want %d with %q\n%s", c.args, got, c.want, c.out, out.String())
		}
	}
}

func TestJournal_EachLineBeginsWithItsPriority(t *testing.T) {
	var b bytes.Buffer
	h := newJournalHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	l := slog.New(tee{h, slog.NewTextHandler(io.Discard, nil)}).With("k", "v")
	l.Debug("d")
	l.Info("i")
	l.Warn("w")
	l.Error("e")
	want := "<7>level=DEBUG msg=d k=v\n<6>level=INFO msg=i k=v\n<4>level=WARN msg=w k=v\n<3>level=ERROR msg=e k=v\n"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}

func TestOpenRunDir_ASecondDaemonIsToldByWhom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	first, err := openRunDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openRunDir(dir); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("got %v, want a refusal that names the process", err)
	}
	first.Close()
	again, err := openRunDir(dir)
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	again.Close()
}

func FuzzParseLine(f *testing.F) {
	for _, s := range []string{"name=a", " # x", "a = b=c ", "=", "x", "\x00=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		key, value, ok, err := parseLine(line)
		if err != nil && ok {
			t.Error("a line is both taken and refused")
		}
		if ok && (strings.TrimSpace(key) != key || strings.TrimSpace(value) != value || strings.Contains(key, "=")) {
			t.Errorf("%q: key %q, value %q", line, key, value)
		}
	})
}

func TestConfig_QuorumAndSilence(t *testing.T) {
	c, err := parse(t, "expect=5\ntie-breaker=lowest\ndead-after=2s\n", map[string]string{"CONVOKE_WAIT_FOR_ALL": "true"}, "/m")
	if err != nil {
		t.Fatal(err)
	}
	if want := (quorum.Options{Expect: 5, WaitForAll: true, TieBreaker: "lowest"}); c.quorum != want || c.deadAfter != 2*time.Second {
		t.Errorf("got %+v, %v", c.quorum, c.deadAfter)
	}
}
