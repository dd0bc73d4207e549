package sessions

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/test/daemon"
)

// examples is what the examples of convokefs(4) print, in their order; lines as in a session. The last one waits for a
// member that goes, and is run apart.
var examples = []string{
	"ID {{ *}}NAME {{.*}}\n{{\\d+ +}}web1 {{.*}} alive in {{.*}}",
	"...", // the server is in the background, and may tell of its clients at any time
	"...\nHTTP/1.0 200 OK\r\n...\n\r\n...",
	"...\n{{\\d+}} open dev/tcp/local/7007 uid={{\\d+}} pid={{\\d+}} in=0 out=11 age={{.*}}\napple\npear\n...",
	"...\nhello, echo\n...",
	"...\nuid {{\\d+}} of web1 asks: one two \n...",
	"...\nhello\n...",
	"1 {{\\S+}} SNAP {{\\d+}} web1 alive in ring={{\\S+}}\n2 {{\\S+}} SNAPEND ring={{\\S+}}",
	"web2 is gone since ring=",
}

func TestExamplesOfTheManual_WorkAsPasted(t *testing.T) {
	daemon.Need(t, "fuse", "root", "netns", "python3", "socat", "ss")
	blocks := literals(section(t, "EXAMPLES"))
	if len(blocks) != len(examples) {
		t.Fatalf("convokefs(4) has %d examples, here are %d", len(blocks), len(examples))
	}
	var steps []step
	for i, text := range blocks[:len(blocks)-1] {
		steps = append(steps, step{line: i + 1, command: text, want: strings.Split(examples[i], "\n")})
	}
	for shell, argv := range shells {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			daemon.Need(t, argv[0])
			n := daemon.Start(t, daemon.Opts{Name: "web1", Host: daemon.NewNet(t, 1).Hosts[0]})
			check(t, "convokefs(4), example", shell, steps, nil, runScript(t, n, argv, nil, at(n.Mount, script(steps))))
		})
	}
}

// at puts a mount point in for the one that the pages use. Nothing may be mounted at /n for a test.
func at(mount, script string) string {
	return regexp.MustCompile(`(^|[^\w/])/n/`).ReplaceAllString(script, "${1}"+mount+"/")
}

func TestExampleOfTheManual_TellsWhoIsGone(t *testing.T) {
	daemon.Need(t, "fuse", "dash")
	blocks := literals(section(t, "EXAMPLES"))
	key := daemon.NewKey(t)
	n := daemon.Start(t, daemon.Opts{Name: "web1", KeyFile: key})
	other := daemon.Start(t, daemon.Opts{Name: "web2", KeyFile: key, Join: []*daemon.Node{n}})
	n.WaitAlive("web1", "web2")

	out := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := n.Command(daemon.Root, "dash", "-c", at(n.Mount, blocks[len(blocks)-1]))
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	daemon.Eventually(t, daemon.Bound, "the example has opened its file", func() bool {
		stdin, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", cmd.Process.Pid))
		return stdin == n.Path("cluster/events,MEMBER_LEFT")
	})
	other.Stop()
	var got []byte
	daemon.Eventually(t, daemon.Bound, "the example says something", func() bool {
		got, _ = os.ReadFile(out)
		return strings.HasSuffix(string(got), "\n")
	})
	if want := examples[len(examples)-1]; !strings.HasPrefix(string(got), want) {
		t.Errorf("got %q, want %q and the ring's name", got, want)
	}
}

// literals returns the literal displays of a piece of mdoc, as a reader sees them.
func literals(mdoc string) []string {
	var blocks []string
	for _, m := range regexp.MustCompile(`(?ms)^\.Bd -literal[^\n]*\n(.*?)\n\.Ed$`).FindAllStringSubmatch(mdoc, -1) {
		blocks = append(blocks, strings.NewReplacer(`\e`, `\`, `\&`, ``, `\-`, `-`).Replace(m[1]))
	}
	return blocks
}

// readme is what the five minutes of README print, as in a session.
const readme = `...
cluster convoke, this node me, convoked {{.*}}
quorate=yes votes=1 expected=1 ring={{.*}}
ID {{ *}}NAME {{.*}}
{{\d+ +}}me {{.*}} alive in {{.*}}
...
{{\d+}} open dev/tcp/local/8000 127.0.0.1!{{\d+}} 127.0.0.1!8000 {{.*}}
...
HTTP/1.0 200 OK` + "\r" + `
...
cat: {{.*}}/n/dev/tcp/local/9: Connection refused
...
hello, echo
...
HELLO, SERVE
...
hello, run
...
hello
...
1 {{\S+}} SNAP {{\d+}} me alive in ring={{\S+}}
2 {{\S+}} SNAPEND ring={{\S+}}
...
msg {{\d+}} {{\d+}}.0 hello from outside
...
conf members={{\d+}}:{{\d+}} joined={{\d+}}:{{\d+}}:JOIN left=-
ring {{\S+}} members={{\d+}}
conf members={{\S+}},{{\S+}} joined={{\d+}}:{{\d+}}:JOIN left=-
msg {{\d+}} {{\d+}} hello, group
conf members={{\d+}}:{{\d+}} joined=- left={{\d+}}:{{\d+}}:LEAVE
msg {{\d+}} {{\d+}}.0 hello from outside
...`

func TestReadme_TakesFiveMinutesAtMost(t *testing.T) {
	daemon.Need(t, "fuse", "root", "netns", "python3", "perl")
	text, err := os.ReadFile("../../README")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "\nFive minutes\n")
	part, _, more := strings.Cut(after, "\nRead on\n")
	if !ok || !more {
		t.Fatal("README has no part between Five minutes and Read on")
	}
	var lines []string
	for line := range strings.Lines(part) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			lines = append(lines, code)
		}
	}
	steps := []step{{line: 1, command: strings.Join(lines, ""), want: strings.Split(readme, "\n")}}
	top := copySource(t)
	host := daemon.NewNet(t, 1).Hosts[0]
	for shell, argv := range shells {
		t.Run(shell, func(t *testing.T) {
			daemon.Need(t, argv[0])
			tmp, err := os.MkdirTemp("", "cvr") // short: a socket's path has at most 107 bytes
			if err != nil {
				t.Fatal(err)
			}
			defer removeAll(t, tmp)
			file := filepath.Join(t.TempDir(), "readme")
			if err := os.WriteFile(file, []byte("cd "+top+"\n"+script(steps)), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := host.Command(argv[0], append(argv[1:len(argv):len(argv)], file)...)
			cmd.Env = append(os.Environ(), "LC_ALL=C", "TMPDIR="+tmp, "GOFLAGS=-buildvcs=false")
			check(t, "README", shell, steps, nil, runCommand(t, cmd))
			if t.Failed() {
				return
			}
			left, err := os.ReadDir(tmp)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range left {
				t.Errorf("%s is left", e.Name())
			}
		})
	}
}

// removeAll removes the folder of a README, in which a failure may have left a mount.
func removeAll(t *testing.T, tmp string) {
	t.Helper()
	entries, err := os.ReadDir(tmp)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if n := filepath.Join(tmp, e.Name(), "n"); daemon.Mounted(t, n) {
			if err := syscall.Unmount(n, syscall.MNT_DETACH); err != nil {
				t.Fatalf("unmount %s: %v", n, err) // nothing may be removed below it
			}
		}
	}
	if err := os.RemoveAll(tmp); err != nil {
		t.Error(err)
	}
}

// copySource copies what README builds, since its commands leave programs in the top folder.
func copySource(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	for _, name := range []string{"cluster", "cmd", "fs", "ipc", "rendezvous"} {
		if err := os.CopyFS(filepath.Join(top, name), os.DirFS("../../"+name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Now the commands find it built, and a session's time is enough for them.
	build := exec.Command("go", "build", "-o", "bin/", "./cmd/convoke", "./cmd/convoked")
	build.Dir = top
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", build.Args, err, out)
	}
	return top
}
