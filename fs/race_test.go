package fs

import (
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// Of many threads that open one name at the same moment each gets a connection of its own, for not much more than if
// they came one after the other: some ten requests each, not some hundred.
func TestStream_ManyOpenOneNameAtOnce(t *testing.T) {
	m := mountTree(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	const threads = 200
	before := m.server.Stats().Requests
	m.wantPython("200 200\n", fmt.Sprintf(`
import os, threading
gate, fds = threading.Barrier(%[1]d), []
def f():
    gate.wait()
    fds.append(os.open('dev/tcp/127.0.0.1/%[2]d', os.O_RDWR))
threading.stack_size(256 * 1024)
ts = [threading.Thread(target=f) for i in range(%[1]d)]
for t in ts: t.start()
for t in ts: t.join()
print(len(fds), len({os.fstat(fd).st_ino for fd in fds}))
`, threads, l.Addr().(*net.TCPAddr).Port))
	if n := m.server.Stats().Requests - before; n > 40*threads {
		t.Errorf("%d opens took %d requests", threads, n)
	}
}

func TestInodes_ACrowdIsToldOneNumberUntilItHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab, root := newTestInodes()
		look := func(pid uint32) *inode {
			return tab.lookup(root, "80", nil, caller{pid: pid}, true, true)
		}
		a := look(1)
		for pid := range uint32(crowd) {
			look(2 + pid)
		}
		if _, ok := tab.take(a, caller{pid: 1}); !ok {
			t.Fatal("the first open was refused")
		}
		if got := look(99); got != a {
			t.Error("a name on which many are about to open led to another number after the first open")
		}
		time.Sleep(crowdTime)
		if got := look(99); got == a {
			t.Error("a name led to a taken number when nobody had looked it up for a while")
		}
	})
}

func TestInodes_WhoLostARaceComesAgainOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab, root := newTestInodes()
		a := tab.lookup(root, "80", nil, caller{pid: 1}, true, true)
		tab.take(a, caller{pid: 1})
		told := make(chan uint32, 10)
		lose := func(ctx context.Context, pid uint32) {
			tab.take(a, caller{pid: pid})
			go func() {
				tab.await(ctx, a, caller{pid: pid})
				told <- pid
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		for pid := uint32(2); pid < 5; pid++ {
			lose(t.Context(), pid)
		}
		lose(ctx, 5)
		other := caller{pid: 6, uid: 7}
		tab.take(a, other)
		tab.await(t.Context(), a, other) // another user waits for none of them
		if n := len(told); n != 1 || <-told != 2 {
			t.Fatalf("%d of four were told at once, want the first", n)
		}
		// The first opens his own number: it is the second one's turn.
		mine := tab.lookup(root, "80", nil, caller{pid: 2}, true, true)
		tab.take(mine, caller{pid: 2})
		synctest.Wait()
		if n := len(told); n != 1 || <-told != 3 {
			t.Fatalf("%d were told next, want the second", n)
		}
		// The fourth is interrupted, and the second was killed and does not come.
		cancel()
		synctest.Wait()
		if n := len(told); n != 1 || <-told != 5 {
			t.Fatalf("%d were told, want him who was interrupted", n)
		}
		time.Sleep(maxTurn)
		synctest.Wait()
		if n := len(told); n != 1 || <-told != 4 {
			t.Fatalf("%d were told when the time of one had passed, want the third", n)
		}
		time.Sleep(2 * maxTurn)
		synctest.Wait()
		if len(tab.turns) != 0 {
			t.Errorf("%d turns are left", len(tab.turns))
		}
	})
}
