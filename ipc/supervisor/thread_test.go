package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const status = "Name:\tx\\nUid:\\t0\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t77\nNgid:\t0\nPid:\t77\nPPid:\t1\nTracerPid:\t0\n" +
	"Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nFDSize:\t64\nGroups:\t4 24 1000 \nNStgid:\t77\nNSpid:\t77\n" +
	"VmPeak:\t10 kB\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000002\n" +
	"CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000003\nNoNewPrivs:\t1\nSeccomp:\t2\n"

func TestRights_HoldAllThatCounts(t *testing.T) {
	var base identity
	var err error
	if base.groups, err = base.parse([]byte(status)); err != nil {
		t.Fatal(err)
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
		{"CapBnd:\t000001ff", "CapBnd:\t000000ff", false}, // says what a later execve(2) can give
		{"FDSize:\t64", "FDSize:\t128", false},
		{"VmPeak:\t10", "VmPeak:\t11", false},
		{"Name:\tx", "Name:\ty", false},
	} {
		changed := strings.Replace(status, change.from, change.to, 1)
		if changed == status {
			t.Fatalf("%q is not in the status", change.from)
		}
		var got identity
		if got.groups, err = got.parse([]byte(changed)); err != nil || got.same(&base, true) == change.counts {
			t.Errorf("%q to %q: got %+v, %v; counts: want %v", change.from, change.to, got, err, change.counts)
		}
	}
	for _, key := range []string{"\nUid:", "\nGid:", "\nGroups:", "\nCapInh:", "\nCapPrm:", "\nCapEff:"} {
		if _, err := new(rights).parse([]byte(strings.Replace(status, key, "\nX:", 1))); err == nil {
			t.Errorf("without %q: want it refused", key)
		}
	}
	for _, bad := range []string{"Uid:\t1000\t1000\t1000\n", "Uid:\t1000\t1000\t1000\tx\n", "Uid:\t1\t2\t3\t4294967296\n"} {
		if _, err := new(rights).parse([]byte(strings.Replace(status, "Uid:\t1000\t1000\t1000\t1000\n", bad, 1))); err == nil {
			t.Errorf("%q: want it refused", bad)
		}
	}
}

// Both ways to ask must give the same, for who this process is is asked in one and who a thread is in the other.
func TestRights_QuickAsTheStatus(t *testing.T) {
	var quick, slow rights
	if !quick.quick(uint32(os.Getpid())) {
		t.Skip("needs Linux 6.13")
	}
	for _, attr := range []*syscall.SysProcAttr{
		nil,
		{Credential: &syscall.Credential{Uid: 1000, Gid: 1001}},
		{Credential: &syscall.Credential{Uid: 1000, Gid: 1001}, AmbientCaps: []uintptr{unix.CAP_NET_BIND_SERVICE, unix.CAP_CHECKPOINT_RESTORE}},
	} {
		if attr != nil && os.Getuid() != 0 {
			continue
		}
		tid := sleeper(t, attr)
		var scratch []byte
		text, err := readStatus(fmt.Sprintf("/proc/%d/status", tid), &scratch)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := slow.parse(text); err != nil {
			t.Fatal(err)
		}
		if !quick.quick(tid) || quick != slow {
			t.Errorf("got %+v\nwant %+v", quick, slow)
		}
	}
	if quick.quick(1 << 30) {
		t.Error("a thread that is not there was found")
	}
}

func TestNumber_OfANamespace(t *testing.T) {
	if n, err := number([]byte("net:[4026531840]")); n != 4026531840 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	for _, bad := range []string{"", "net", "net:[]", "net:[x]", "net:[1", "1]"} {
		if n, err := number([]byte(bad)); err == nil {
			t.Errorf("%q: got %d", bad, n)
		}
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
	if err := own.who(uint32(os.Getpid()), true, &scratch); err != nil {
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
			tid := sleeper(t, tc.attr)
			for _, groups := range []bool{true, false} {
				var its identity
				err := its.who(tid, groups, &scratch)
				want := tc.same || tc.what == "another group" && !groups
				if got := err == nil && own.same(&its, groups); got != want {
					t.Errorf("groups %v: got %v (%v), want %v:\n%+v\n%+v", groups, got, err, want, its, own)
				}
			}
		})
	}
}
