package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/rendezvous"
)

// result is what a command has left.
type result struct {
	status         int
	stdout, stderr string
}

// convoke runs a command line on a folder laid out as a tree.
func convoke(t *testing.T, tree, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := &call{
		stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr,
		locate: func(mount string) (*ipc.Tree, error) {
			if mount != "" {
				tree = mount
			}
			return &ipc.Tree{Dir: tree}, nil
		},
		dial: func(*ipc.Tree) (client, error) { return nil, errNoDaemon },
	}
	status := run(c, args)
	return result{status, stdout.String(), stderr.String()}
}

// errNoDaemon is what the commands get that need the daemon's socket.
var errNoDaemon = errors.New("no daemon")

// layOut makes a folder with these files.
func layOut(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// twoMembers is a tree of two members, seen from web1.
func twoMembers(t *testing.T) string {
	files := map[string]string{
		"cluster/name": "prod\n", "cluster/version": "0.1\n", "cluster/ctl": "",
		"cluster/status": "ID NAME ADDR\n1  web1 x\n",
		"cluster/log":    "one\ntwo\n",
		"cluster/events": "1 2026-01-31T10:00:00.123Z SNAP 1 web1 alive in\n" +
			"2 2026-01-31T10:00:00.124Z MEMBER_LEFT 2 web2 state=failed\n",
		"conn/17/status": "17 open dev/tcp/web2/80 uid=1000 pid=42 in=5 out=7 age=1.5\n",
		"conn/17/local":  "127.0.0.1!40000\n", "conn/17/remote": "127.0.0.2!80\n",
		"conn/17/peer": "127.0.0.2 web2 - - -\n",
	}
	for i, state := range []string{"alive", "failed"} {
		dir := fmt.Sprintf("cluster/members/web%d/", i+1)
		files[dir+"id"] = fmt.Sprintf("%d\n", i+1)
		files[dir+"addr"] = fmt.Sprintf("127.0.0.%d:7946\n", i+1)
		files[dir+"state"], files[dir+"role"] = state+"\n", "in\n"
		files[dir+"boot"], files[dir+"version"], files[dir+"tags"] = "3\n", "0.1\n", "zone=a\nrack=7\n"
	}
	dir := layOut(t, files)
	if err := os.Symlink("members/web1", filepath.Join(dir, "cluster/self")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRun_ListingsOfATree(t *testing.T) {
	tree := twoMembers(t)
	for _, tc := range []struct{ args, want string }{
		{"members", "1 web1 127.0.0.1:7946 alive in 3 0.1 rack=7 zone=a\n" +
			"2 web2 127.0.0.2:7946 failed in 3 0.1 rack=7 zone=a\n"},
		{"status", "cluster prod, this node web1, convoked 0.1\nID NAME ADDR\n1  web1 x\n"},
		{"conns", "17 open dev/tcp/web2/80 127.0.0.1!40000 127.0.0.2!80 uid=1000 pid=42 in=5 out=7 age=1.5\n"},
		{"events", "1 2026-01-31T10:00:00.123Z SNAP 1 web1 alive in\n" +
			"2 2026-01-31T10:00:00.124Z MEMBER_LEFT 2 web2 state=failed\n"},
		{"events --json", `{"seq":1,"time":"2026-01-31T10:00:00.123Z","kind":"SNAP","id":1,"name":"web1","state":"alive","role":"in"}
{"seq":2,"time":"2026-01-31T10:00:00.124Z","kind":"MEMBER_LEFT","id":2,"name":"web2","state":"failed"}
`},
		{"log", "one\ntwo\n"},
	} {
		got := convoke(t, tree, "", strings.Fields(tc.args)...)
		if got.status != 0 || got.stdout != tc.want || got.stderr != "" {
			t.Errorf("%s: got %+v\nwant %s", tc.args, got, tc.want)
		}
	}
}

func TestRun_JSONOfListings(t *testing.T) {
	tree := twoMembers(t)
	for _, tc := range []struct {
		verb string
		want []string
	}{
		{"members", []string{`"id": 1,`, `"name": "web2",`, `"addr": "127.0.0.2:7946",`, `"zone": "a"`}},
		{"status", []string{`"cluster": "prod",`, `"self": "web1",`, `"members": [`}},
		{"conns", []string{`"id": 17,`, `"path": "dev/tcp/web2/80",`, `"age": 1.5,`, `"node": "web2"`}},
	} {
		got := convoke(t, tree, "", tc.verb, "--json")
		for _, want := range tc.want {
			if got.status != 0 || !strings.Contains(got.stdout, want) {
				t.Errorf("%s: got %+v, want %s in it", tc.verb, got, want)
			}
		}
	}
}

func TestRun_MountStandsBeforeOrBehindTheCommand(t *testing.T) {
	tree := twoMembers(t)
	for _, args := range [][]string{{"--mount", tree, "log"}, {"log", "--mount=" + tree}, {"--mount", "/none", "log", "--mount", tree}} {
		if got := convoke(t, "/none", "", args...); got.status != 0 || got.stdout != "one\ntwo\n" {
			t.Errorf("%v: got %+v", args, got)
		}
	}
}

func TestRun_WrongUsageIs2AndSaysWhatIsWrong(t *testing.T) {
	tree := twoMembers(t)
	for _, tc := range []struct{ args, want string }{
		{"", "a command is missing"},
		{"nonsense", `unknown command "nonsense"`},
		{"help nonsense", `unknown command "nonsense"`},
		{"members extra", "members: too many arguments; usage: convoke members [--json]"},
		{"connect", "connect: an argument is missing"},
		{"join", "join: an argument is missing"},
		{"--nonsense", "unknown flag: --nonsense"},
		{"members --nonsense", "unknown flag: --nonsense"},
		{"members --mount", "flag needs an argument"},
		{"completion csh", `no completions for "csh"`},
		{"connect nonsense", "parse nonsense"},
		{"serve", "serve: -- must stand before the command"},
		{"serve dev/tcp/local/x cat", "serve: -- must stand before the command"},
		{"serve -- cat", "serve: the path is missing"},
		{"serve dev/tcp/local/x extra -- cat", "serve: one path only"},
		{"serve dev/tcp/local/x --", "serve: the command is missing"},
		{"serve --max 0 dev/tcp/local/x -- cat", "serve: --max is from 1 to 4096"},
		{"serve --max 5000 dev/tcp/local/x -- cat", "serve: --max is from 1 to 4096"},
		{"serve --grace -1 dev/tcp/local/x -- cat", "serve: --grace is from 0"},
		{"serve --grace NaN dev/tcp/local/x -- cat", "serve: --grace is from 0"},
		{"serve dev/tcp/local/x,test -- cat", "create contradicts test"},
		{"recv --fds 254 dev/fdp/local/x -- cat", "recv: --fds is from 1 to 253"},
		{"recv dev/fdp/local/x", "recv: -- must stand before the command"},
		{"send dev/fdp/local/x", "send: an argument is missing"},
		{"send dev/fdp/local/x stdin", `send: "stdin" is no number of a descriptor`},
		{"send dev/fdp/local/x -- -1", `send: "-1" is no number of a descriptor`},
		{"send --wait 0 dev/fdp/local/x 0", "send: --wait is above 0"},
		{"events snap", "events snap: not a kind of event"},
	} {
		got := convoke(t, tree, "", strings.Fields(tc.args)...)
		if got.status != 2 || !strings.Contains(got.stderr, tc.want) || !strings.HasPrefix(got.stderr, "convoke: ") || got.stdout != "" {
			t.Errorf("%q: got %+v, want 2 and %q", tc.args, got, tc.want)
		}
	}
}

func TestRun_HelpKnowsEveryCommand(t *testing.T) {
	all := convoke(t, "", "", "help")
	if all.status != 0 || all != convoke(t, "", "", "--help") {
		t.Errorf("help: got %+v", all)
	}
	for _, v := range verbs() {
		if !strings.Contains(all.stdout, "  "+v.synopsis()+" ") {
			t.Errorf("%s is not in the list:\n%s", v.name, all.stdout)
		}
		one := convoke(t, "", "", "help", v.name)
		if one.status != 0 || !strings.HasPrefix(one.stdout, "usage: convoke "+v.synopsis()+"\n\n"+v.short+".\n") {
			t.Errorf("help %s: got %+v", v.name, one)
		}
		if got := convoke(t, "", "", v.name, "--help"); got != one {
			t.Errorf("%s --help: got %+v, want %+v", v.name, got, one)
		}
	}
}

func TestRun_PackageDocListsEveryCommand(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verbs() {
		if !strings.Contains(string(doc), "\n//\t"+v.name+" ") {
			t.Errorf("doc.go says nothing of %s", v.name)
		}
	}
}

func TestExitStatus_TellsAScriptWhatToDo(t *testing.T) {
	wrap := func(errno syscall.Errno) error {
		return &rendezvous.Error{Op: "connect", Path: "dev/tcp/a/1", Err: fmt.Errorf("x: %w", errno)}
	}
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{wrap(syscall.ECONNREFUSED), 1},
		{wrap(syscall.EINVAL), 1},
		{usageError{"x"}, 2},
		{&rendezvous.Error{Op: "parse", Path: "x", Kind: rendezvous.Invalid}, 2},
		{wrap(syscall.EAGAIN), 75},
		{wrap(syscall.EMFILE), 75},
		{&rendezvous.Error{Op: "x", Kind: rendezvous.NoQuorum}, 75},
		{wrap(syscall.ENOKEY), 78},
		{hinted{wrap(syscall.EAGAIN), "wait"}, 75},
		{statusError{exitNotFound, wrap(syscall.ENOENT)}, 127},
		{statusError{3, nil}, 3},
	} {
		if got := exitStatus(tc.err); got != tc.want {
			t.Errorf("%v: got %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestRun_NoDaemonSaysHowToStartOne(t *testing.T) {
	var stderr bytes.Buffer
	c := &call{stderr: &stderr, locate: ipc.Locate}
	if status := run(c, []string{"--mount", t.TempDir(), "members"}); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	if !strings.Contains(stderr.String(), "start convoked, or give --mount DIR") {
		t.Errorf("got %q", stderr.String())
	}
}
