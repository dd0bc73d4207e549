package sessions

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestMain(m *testing.M) {
	// With the race detector each program, so each command of a session too, would otherwise sleep a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=10 "+os.Getenv("GORACE"))
	os.Exit(daemon.Main(m))
}

// shells are those that every session is run under.
var shells = map[string][]string{
	"dash":    {"dash"},
	"bash":    {"bash", "--norc"},
	"busybox": {"busybox", "sh"},
}

// ofRoot are the sessions in which root and another user meet.
var ofRoot = []string{"announce.txt", "fdp.txt", "udp.txt"}

// sessionTime is far above what a session takes, for machines that are busy.
const sessionTime = 30 * time.Second

// The sessions of this folder, each under each shell and with daemons of its own. Their variables:
//
//	PORT_*          the ports of the servers in servers_test.go
//	N1 N2 N3        the mount points of the members web1, web2 and web3 in a session whose name begins with "cluster";
//	                the others have N1 only, and it is a cluster of one. The session is run in N1.
//	ADDR1 ADDR2 ADDR3  their addresses, where there are three
//	TMP             an empty folder
//
// The command convoke is in the PATH and finds N1.
func TestSessions_PrintWhatTheySay(t *testing.T) {
	daemon.Need(t, "fuse")
	files, err := filepath.Glob("*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("there are no sessions")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := parse(string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for shell, argv := range shells {
			t.Run(strings.TrimSuffix(file, ".txt")+"/"+shell, func(t *testing.T) {
				t.Parallel()
				daemon.Need(t, argv[0])
				if slices.Contains(ofRoot, file) {
					daemon.Need(t, "root")
				}
				n, vars := start(t, strings.HasPrefix(file, "cluster"))
				maps.Copy(vars, servers(t))
				check(t, file, shell, steps, vars, runScript(t, n, argv, vars, script(steps)))
			})
		}
	}
}

// start starts the daemons of a session.
func start(t *testing.T, three bool) (*daemon.Node, map[string]string) {
	t.Helper()
	vars := map[string]string{"TMP": t.TempDir()}
	if !three {
		n := daemon.Start(t, daemon.Opts{Name: "web1"})
		vars["N1"] = n.Mount
		return n, vars
	}
	key := daemon.NewKey(t)
	var first *daemon.Node
	for i := 1; i <= 3; i++ {
		n := daemon.Start(t, daemon.Opts{Name: fmt.Sprintf("web%d", i), KeyFile: key})
		vars[fmt.Sprintf("N%d", i)], vars[fmt.Sprintf("ADDR%d", i)] = n.Mount, n.Addr
		if i == 1 {
			first = n
		}
	}
	return first, vars
}

// mark parts the outputs of the commands, and comes with the exit status of the one before it.
const mark = "\x1e"

// script is the session as one shell script.
func script(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "%s\nprintf '\\036%%s\\n' $?\n", s.command)
	}
	return b.String()
}

// runScript runs a shell script in the mount point of n, and returns what it prints on both outputs. Nothing that it
// starts outlives it.
func runScript(t *testing.T, n *daemon.Node, shell []string, vars map[string]string, script string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "session")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := n.Command(daemon.Root, append(slices.Clone(shell), file)...)
	path := filepath.Dir(daemon.Convoke(t)) + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin"
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "ENV=", "PATH="+path, "CONVOKE_MOUNT="+n.Mount)
	for name, value := range vars {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return runCommand(t, cmd)
}

// runCommand runs cmd with both outputs together, and ends all that it has started.
func runCommand(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	daemon.Finish(t, cmd, sessionTime)
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // ESRCH when nothing is left, as it should be
	return out.String()
}

// check compares what the commands of a session have printed with what they should.
func check(t *testing.T, file, shell string, steps []step, vars map[string]string, output string) {
	t.Helper()
	for _, s := range steps {
		text, rest, _ := strings.Cut(output, mark)
		status, rest, goesOn := strings.Cut(rest, "\n")
		output = rest
		var got []string
		if text != "" {
			got = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		}
		switch {
		case !goesOn:
			got = append(got, "[end]")
		case status != "0":
			got = append(got, "["+status+"]")
		}
		if d := diff(s.expected(shell, vars), got); d != "" {
			t.Errorf("%s:%d: under %s\n  $ %s\n%s", file, s.line, shell, strings.ReplaceAll(s.command, "\n", "\n  > "), d)
		}
		if !goesOn {
			return
		}
	}
}
