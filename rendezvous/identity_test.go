package rendezvous

import (
	"os/exec"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDial_SocketCarriesTheCallersIDs(t *testing.T) {
	needRoot(t)
	_, to := listen(t, "127.0.0.1:0")
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			want := Creds{UID: uint32(i * 1000), GID: uint32(i * 2000)}
			c, err := dialTCP(t.Context(), DialOpts{Creds: want}, to)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(c.FD)
			var st unix.Stat_t
			if err := unix.Fstat(c.FD, &st); err != nil || st.Uid != want.UID || st.Gid != want.GID {
				t.Errorf("got %d:%d, %v, want %d:%d", st.Uid, st.Gid, err, want.UID, want.GID)
			}
		})
	}
	wg.Wait()
	checkIdentity(t)
}

// The filter looks at the credentials of the socket's file, which fchown(2) would not change.
func TestDial_PacketFilterSeesTheCaller(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		skip(t, "needs nft")
	}
	const rules = `add table inet t
add chain inet t out { type filter hook output priority 0; }
add rule inet t out meta skuid 1000 tcp flags syn / syn,ack reject with tcp reset
add rule inet t out meta skuid 1002 udp dport 9 reject`
	if out, err := exec.Command(nft, rules).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, to := listen(t, "127.0.0.1:0")
	_, err = dialTCP(t.Context(), DialOpts{Creds: Creds{UID: 1000, GID: 1000}}, to)
	wantErrno(t, err, unix.ECONNREFUSED)
	for _, c := range []Creds{{UID: 1001, GID: 1000}, self} {
		mustDial(t, DialOpts{Creds: c}, to)
	}
}

func TestDial_ThreadsKeepTheirIDsAfterFailures(t *testing.T) {
	needRoot(t)
	checkFDs(t)
	no := refused(t, "127.0.0.1")
	for range 32 {
		_, err := dialTCP(t.Context(), DialOpts{Creds: Creds{UID: 1000, GID: 1000}}, no)
		wantErrno(t, err, unix.ECONNREFUSED)
	}
	checkIdentity(t)
}

func TestIdentity_ThreadThatIsNotRestoredDies(t *testing.T) {
	for _, tt := range []struct{ took, restored bool }{{true, false}, {false, false}} {
		var tid int
		ran := false
		id := identity{
			take:    func(Creds) bool { tid = unix.Gettid(); return tt.took },
			restore: func() bool { return tt.restored },
		}
		got := id.run(Creds{}, func() { ran = true })
		if tid == unix.Getpid() {
			// The first thread of a process never ends; Go parks it for ever, so that the next one is another.
			got = id.run(Creds{}, func() { ran = true })
		}
		if got != tt.took || ran != tt.took {
			t.Errorf("took %v: got %v, ran %v", tt.took, got, ran)
		}
		if tid == unix.Getpid() {
			t.Fatalf("ran on the thread %d", tid)
		}
		pidfd, err := unix.PidfdOpen(tid, unix.O_EXCL) // PIDFD_THREAD
		if err == unix.ESRCH {
			continue // it is dead already
		}
		if err != nil {
			t.Skipf("needs pidfd_open(2) of a thread: %v", err)
		}
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 10000); n != 1 || err != nil {
			t.Errorf("thread %d lives on: %d, %v", tid, n, err)
		}
		unix.Close(pidfd)
	}
}

// On the caller's own goroutine the thread stays his until it has its ids back, or it is not used at all.
func TestIdentity_OwnGoroutineWaitsForItsIDs(t *testing.T) {
	tries, ran := 0, 0
	id := identity{
		take:    func(c Creds) bool { return c.UID != noID },
		restore: func() bool { tries++; return tries > 3 },
	}
	if !id.runHere(true, Creds{}, func() { ran++ }) || ran != 1 || tries != 4 {
		t.Errorf("ran %d times, restored at try %d", ran, tries)
	}
	if id.runHere(true, Creds{UID: noID}, func() { ran++ }) || ran != 1 || tries != 5 {
		t.Errorf("ids not taken: ran %d times, restored at try %d", ran, tries)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if own := unix.Gettid(); !id.runHere(false, Creds{}, func() { ran = unix.Gettid() }) || ran == own {
		t.Errorf("ran on the thread %d of the caller, where ids may not come back", own)
	}
}

func TestIdentity_WhatCannotBeTakenIsNotUsed(t *testing.T) {
	needRoot(t)
	// 2^32-1 is the one uid that no thread can take.
	for _, c := range []Creds{{UID: noID, GID: 5}, {UID: 5, GID: noID}} {
		for _, run := range []func(Creds, func()) bool{fsIdentity.run, runFS} {
			if run(c, func() { t.Errorf("%+v: ran", c) }) {
				t.Errorf("%+v: was taken", c)
			}
		}
	}
	groups := make([]uint32, 1<<16+1) // more than NGROUPS_MAX
	if effectiveIdentity().run(Creds{UID: 5, GID: 5, Groups: groups}, func() { t.Error("ran with too many groups") }) {
		t.Error("took too many groups")
	}
	checkIdentity(t)
}

func TestIdentity_EffectiveIsAllOfTheCaller(t *testing.T) {
	needRoot(t)
	want := Creds{UID: 1000, GID: 1001, Groups: []uint32{5000, 5001}}
	var status Caller
	var err error
	var uid, gid [3]uint32
	if !effectiveIdentity().run(want, func() {
		uid, gid = ids(unix.SYS_GETRESUID), ids(unix.SYS_GETRESGID)
		status, err = LookupCaller(unix.Gettid(), 0, 0)
	}) {
		t.Fatal("the ids cannot be taken")
	}
	// The capabilities are those that permissions of files go by: none.
	if uid != [3]uint32{0, 1000, 0} || gid[1] != 1001 || err != nil || len(status.Groups) != 2 || !status.In(5001) || status.Caps != 0 {
		t.Errorf("got uid %v, gid %v, %+v, %v", uid, gid, status, err)
	}
	checkIdentity(t)
}

func TestCreds_OwnNeedsNoSwitch(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		c    Creds
		want bool
	}{{self, true}, {Creds{UID: 1000, GID: self.GID}, false}, {Creds{UID: self.UID, GID: 7}, false}} {
		if got := tt.c.own(); got != tt.want {
			t.Errorf("%+v: got %v, want %v", tt.c, got, tt.want)
		}
	}
}
