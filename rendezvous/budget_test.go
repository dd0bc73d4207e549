package rendezvous

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestBudget_UsersLeaveRootAndEachOtherRoom(t *testing.T) {
	b := newBudget(1000, 500)
	fill := func(uid uint32) (n int) {
		for b.take(uid, 1) {
			n++
		}
		return n
	}
	for _, tt := range []struct {
		uid  uint32
		want int
	}{{1000, 500}, {1001, 250}, {1002, 0}, {0, 250}} {
		if got := fill(tt.uid); got != tt.want {
			t.Errorf("uid %d: got %d, want %d", tt.uid, got, tt.want)
		}
	}
	b.give(1000, 500)
	b.give(0, 250)
	if got := fill(0); got != 750 {
		t.Errorf("root alone: got %d, want 750", got)
	}
	b.give(0, 750)
	b.give(1001, 250)
	if b.all != 0 || len(b.byUser) != 0 {
		t.Errorf("still counted: %d, %v", b.all, b.byUser)
	}
}

func TestBudget_OneUsersClientsAreHalfOfAll(t *testing.T) {
	for _, files := range []uint64{1024, 1 << 20} {
		b := newWaitingBudget(files)
		if want := min(4*MaxWaiting, int(files)/8); b.mostUser != want || b.mostAll != int(files)/4 {
			t.Errorf("of %d descriptors: got %d for all, %d for a user", files, b.mostAll, b.mostUser)
		}
	}
}

// Clients that wait are counted where all that costs descriptors is, and are refused when nothing is left.
func TestHost_WaitingClientsAreCountedWithTheRest(t *testing.T) {
	limits := &counts{held: map[Limit]map[uint32]int{}}
	h := newHost(t, func(o *HostOpts) { o.Limits = limits })
	c := me(t)
	held := func() int {
		limits.mu.Lock()
		defer limits.mu.Unlock()
		return limits.held[WaitLimit][c.UID]
	}
	for i, path := range []string{"dev/tcp/local/0,create", "dev/udp/local/0,create", "dev/fdp/local/s,create"} {
		a := mustAnnounce(t, h, c, path)
		open := a.Path().String()
		one := mustOpen(t, h, c, open)
		if i == 1 {
			send(t, one.FD, "hello")
		}
		more := make(chan struct{}, 1)
		a.Notify(func() { more <- struct{}{} })
		<-more
		a.Notify(nil)
		if held() != 1 {
			t.Errorf("%s: %d are counted while one waits", path, held())
		}
		if i != 1 {
			_, err := h.Open(t.Context(), c, parsed(t, open))
			wantHost(t, path+" one more", err, unix.ECONNREFUSED)
		}
		next(t, a)
		if held() != 0 {
			t.Errorf("%s: %d are counted when none waits", path, held())
		}
		if i != 1 {
			mustOpen(t, h, c, open)
		}
		a.Close()
		if held() != 0 || h.waiting.all != 0 {
			t.Errorf("%s: %d are counted after its end", path, held())
		}
	}
}
