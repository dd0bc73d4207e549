package supervisor

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const status = "Name:\tx\\nUid:\\t0\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t77\nNgid:\t0\nPid:\t77\nPPid:\t1\nTracerPid:\t0\n" +
	"Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nFDSize:\t64\nGroups:\t4 24 1000 \nNStgid:\t77\nNSpid:\t77\n" +
	"VmPeak:\t10 kB\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000002\n" +
	"CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000003\nNoNewPrivs:\t1\nSeccomp:\t2\n"

func TestCredentials_HoldAllThatCounts(t *testing.T) {
	base, ok := credentials(nil, []byte(status))
	if !ok {
		t.Fatal("not read")
	}
	for _, change := range []struct {
		from, to string
		counts   bool
	}{
		{"Uid:\t1000\t1000\t1000\t1000\nG", "Uid:\t1000\t1000\t1000\t0\nG", true},
		{"Gid:\t1000\t1000", "Gid:\t1000\t0", true},
		{"Groups:\t4 24", "Groups:\t4", true},
		{"CapInh:\t0000000000000000", "CapInh:\t0000000000000001", true},
		{"CapPrm:\t0000000000000001", "CapPrm:\t0000000000000000", true},
		{"CapEff:\t0000000000000002", "CapEff:\t0000000000000000", true},
		{"CapBnd:\t000001ff", "CapBnd:\t000000ff", true},
		{"CapAmb:\t0000000000000003", "CapAmb:\t0000000000000000", true},
		{"FDSize:\t64", "FDSize:\t128", false},
		{"VmPeak:\t10", "VmPeak:\t11", false},
		{"Name:\tx", "Name:\ty", false},
	} {
		changed := strings.Replace(status, change.from, change.to, 1)
		if changed == status {
			t.Fatalf("%q is not in the status", change.from)
		}
		got, ok := credentials(nil, []byte(changed))
		if !ok || (string(got) != string(base)) != change.counts {
			t.Errorf("%q to %q: got %q, %v; counts: want %v", change.from, change.to, got, ok, change.counts)
		}
	}
	for _, key := range []string{"\nUid:", "\nGroups:", "\nCapInh:", "\nNoNewPrivs:"} {
		if got, ok := credentials(nil, []byte(strings.Replace(status, key, "\nX:", 1))); ok {
			t.Errorf("without %q: got %q, want it refused", key, got)
		}
	}
	if innerPIDs([]byte(status)) || !innerPIDs([]byte(strings.Replace(status, "NStgid:\t77", "NStgid:\t77\t1", 1))) {
		t.Error("pid namespaces are not told apart")
	}
}

// sleeper starts a child that waits, set up by attr, and returns its number.
func sleeper(t *testing.T, attr *syscall.SysProcAttr) uint32 {
	t.Helper()
	cmd := exec.Command("/bin/cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return uint32(cmd.Process.Pid)
}

func TestWho_ChildOfTheSameAndOfOthers(t *testing.T) {
	var scratch []byte
	var own identity
	if err := own.who(uint32(os.Getpid()), &scratch); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what string
		attr *syscall.SysProcAttr
		same bool
	}{
		{"plain", nil, true},
		{"another uid", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: uint32(os.Getgid()), NoSetGroups: true}}, false},
		{"another group", &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{12345}}}, false},
		{"network", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}, false},
		{"mounts", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}, false},
		{"users", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}, false},
		{"pids", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			if os.Getuid() != 0 && !tc.same {
				t.Skip("needs root")
			}
			var its identity
			err := its.who(sleeper(t, tc.attr), &scratch)
			if got := err == nil && its.same(&own); got != tc.same {
				t.Errorf("got %v (%v), want %v:\n%s\n%s", got, err, tc.same, its.text, own.text)
			}
		})
	}
}
