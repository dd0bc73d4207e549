package rendezvous

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// child starts a process that waits until the test ends.
func child(t *testing.T, attr *syscall.SysProcAttr) int {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	return cmd.Process.Pid
}

func TestLookupCaller_AThreadIsPartOfItsProcess(t *testing.T) {
	tid := make(chan int)
	end := make(chan struct{})
	defer close(end)
	for range 2 { // two that are locked at once: at least one is not the first thread
		go func() {
			fsIdentity.run(self, func() {
				tid <- unix.Gettid()
				<-end
			})
		}()
	}
	a, b := <-tid, <-tid
	for _, pid := range []int{a, b} {
		c, err := LookupCaller(pid, 12, 34)
		if err != nil {
			t.Fatal(err)
		}
		if c.PID != pid || c.TGID != os.Getpid() || c.UID != 12 || c.GID != 34 || c.NetNS == (Namespace{}) {
			t.Errorf("got %+v, want process %d", c, os.Getpid())
		}
		if same, err := SameNetNS(pid); !same || err != nil {
			t.Errorf("network namespace: got %v, %v", same, err)
		}
	}
	if a == b {
		t.Errorf("both are thread %d", a)
	}
}

func TestLookupCaller_ReadsGroupsAndCapabilities(t *testing.T) {
	needRoot(t)
	var many []uint32
	for i := range uint32(5000) {
		many = append(many, 100000+i)
	}
	for _, groups := range [][]uint32{nil, {5, 6000}, many} {
		pid := child(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1001, Groups: groups}})
		c, err := LookupCaller(pid, 1000, 1001)
		if err != nil || !slices.Equal(c.Groups, groups) || c.Caps != 0 || c.TGID != pid {
			t.Errorf("got %+v, %v, want groups %v and no capability", c, err, groups)
		}
		if c.Has(unix.CAP_NET_BIND_SERVICE) || !c.In(1001) || c.In(4) {
			t.Errorf("%d groups: Has or In is wrong", len(groups))
		}
		for _, g := range groups {
			if !c.In(g) {
				t.Errorf("is not in group %d", g)
			}
		}
		if got := c.Creds(); got.UID != 1000 || got.GID != 1001 || !slices.Equal(got.Groups, groups) {
			t.Errorf("got %+v", got)
		}
	}
	pid := child(t, nil)
	c, err := LookupCaller(pid, 0, 0)
	if err != nil || !c.Has(unix.CAP_SETUID) || c.Has(63) || c.Has(64) || c.Has(-1) {
		t.Errorf("root: got %+v, %v", c, err)
	}
}

func TestLookupCaller_CapabilitiesOfAForeignUserNamespaceDoNotCount(t *testing.T) {
	needRoot(t)
	pid := child(t, &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}},
	})
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	var raw Caller
	if _, err := raw.parseStatus(status); err != nil || raw.Caps == 0 {
		t.Fatalf("the child has no capabilities in its namespace: %+v, %v", raw, err)
	}
	c, err := LookupCaller(pid, 1000, 1000)
	if err != nil || c.Caps != 0 {
		t.Errorf("got capabilities %#x, %v, want none", c.Caps, err)
	}
}

func TestSameNetNS_OtherNamespaceIsSeen(t *testing.T) {
	needRoot(t)
	pid := child(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET})
	if same, err := SameNetNS(pid); same || err != nil {
		t.Errorf("got %v, %v, want false", same, err)
	}
	c, err := LookupCaller(pid, 0, 0)
	mine, err2 := LookupCaller(os.Getpid(), 0, 0)
	if err != nil || err2 != nil || c.NetNS == mine.NetNS || c.NetNS.Ino == 0 {
		t.Errorf("got %+v, %v and %+v, %v", c, err, mine, err2)
	}
	if same, err := SameNetNS(child(t, nil)); !same || err != nil {
		t.Errorf("a child of this namespace: got %v, %v", same, err)
	}
}

func TestLookupCaller_WhoCannotBeSeenIsRefused(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		pid  int
		want unix.Errno
	}{{0, unix.EACCES}, {-1, unix.EINVAL}, {cmd.Process.Pid, unix.ESRCH}, {1 << 30, unix.ESRCH}} {
		c, err := LookupCaller(tt.pid, 0, 0)
		same, err2 := SameNetNS(tt.pid)
		for _, err := range []error{err, err2} {
			if !strings.Contains(err.Error(), tt.want.Error()) || KindOf(err) != errnoKind(tt.want) {
				t.Errorf("pid %d: got %v, want %v", tt.pid, err, tt.want)
			}
		}
		if same || c.TGID != 0 {
			t.Errorf("pid %d: got %+v, %v", tt.pid, c, same)
		}
	}
}

// A process without descriptors does not know who calls; it must not say that he may not.
func TestCaller_LookingWithoutDescriptorsIsNoRefusal(t *testing.T) {
	if !inNetNS(t) { // for a process of its own
		return
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	none := before
	none.Cur = 3 // new descriptors must be below it
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, lookup := LookupCaller(os.Getpid(), self.UID, self.GID)
	_, socket := SocketCaller(pair[0])
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	wantHost(t, "LookupCaller", lookup, unix.EMFILE)
	wantHost(t, "SocketCaller", socket, unix.EMFILE)
	if c, err := SocketCaller(pair[0]); err != nil || c.TGID != os.Getpid() {
		t.Errorf("afterwards: got %+v, %v", c, err)
	}
}

func TestOnceSeen_OnlyAnAnswerIsRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "net")
	see := onceSeen(path)
	if _, err := see(); err != unix.ENOENT {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ns, err := see()
	if err != nil || ns.Ino == 0 {
		t.Errorf("got %v, %v", ns, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if again, err := see(); err != nil || again != ns {
		t.Errorf("got %v, %v, want %v", again, err, ns)
	}
}

func TestParseStatus_TakesWholeLinesOnly(t *testing.T) {
	const good = "Name:\tx\\nTgid:\t1\nTgid:\t7\nNgid:\t0\nUid:\t5\t6\t7\t8\nGroups:\t4 24 \nCapEff:\t0000000000000400\n"
	var c Caller
	if u, err := c.parseStatus([]byte(good)); err != nil || u != (uids{5, 6, 7, 8}) || c.TGID != 7 || !slices.Equal(c.Groups, []uint32{4, 24}) || !c.Has(10) {
		t.Errorf("got %+v, %v", c, err)
	}
	for _, bad := range []string{
		"", "Tgid:\t7\n", strings.Replace(good, "4 24", "4 x", 1), strings.Replace(good, "4 24", "4 -1", 1),
		strings.Replace(good, "\nTgid:\t7", "\nTgid:\tx", 1), strings.Replace(good, "0400", "04g0", 1),
		strings.Replace(good, "Groups", "Group", 1), strings.Replace(good, "7\n", "7\nTgid:\t8\n", 1),
		strings.Replace(good, "\t8\n", "\n", 1), strings.Replace(good, "\t8\n", "\t-1\n", 1),
	} {
		if _, err := c.parseStatus([]byte(bad)); err == nil {
			t.Errorf("%q was taken: %+v", bad, c)
		}
	}
}

func BenchmarkLookupCaller(b *testing.B) {
	for b.Loop() {
		if _, err := LookupCaller(os.Getpid(), 0, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSameNetNS(b *testing.B) {
	for b.Loop() {
		if same, err := SameNetNS(os.Getpid()); !same || err != nil {
			b.Fatal(err)
		}
	}
}
