package group

import (
	"context"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// A daemon that is killed and comes back at once: its processes are gone, and
// who joins there now is somebody else.
func TestInstall_RestartedNodeInheritsNothing(t *testing.T) {
	w := newWorld(t, 1, 2)
	a := w.join(1, "g", user(11, 0))
	old := w.join(2, "g", user(22, 0))
	read(t, a)
	old.g.Close()
	w.start(2, 2)
	w.install(1, 2)
	b := w.join(2, "g", user(22, 0))
	send(t, b, "again")
	expect(t, a,
		"conf members=1:11 joined=- left=2:22:NODEDOWN",
		"ring 2.1 members=1,2",
		"conf members=1:11,2:22 joined=2:22:JOIN left=-",
		"msg 2 22 again")
	expect(t, old, "EOF")
}

// A node that went on in a ring of its own and is back with the next one.
func TestInstall_NodeLeavesAndReturnsInOneChange(t *testing.T) {
	w := newWorld(t, 1, 2)
	a := w.join(1, "g", user(11, 0))
	b := w.join(2, "g", user(22, 0))
	read(t, a)
	read(t, b)
	w.install(2)
	w.install(1, 2)
	expect(t, a,
		"conf members=1:11 joined=- left=2:22:NODEDOWN",
		"conf members=1:11,2:22 joined=2:22:NODEUP left=-",
		"ring 3.1 members=1,2")
	expect(t, b,
		"conf members=2:22 joined=- left=1:11:NODEDOWN",
		"ring 2.2 members=2",
		"conf members=1:11,2:22 joined=1:11:NODEUP left=-",
		"ring 3.1 members=1,2")
}

func TestInstall_SameMembersSeeTheRingOnly(t *testing.T) {
	w := newWorld(t, 1, 2)
	a := w.join(1, "g", user(11, 0))
	w.join(2, "g", user(22, 0))
	read(t, a)
	w.install(1, 2)
	expect(t, a, "ring 2.1 members=1,2")
}

// What is on its way when the ring ends, is delivered in the old ring: also a
// join, which is then a member in the new one.
func TestInstall_TailComesFirst(t *testing.T) {
	w := newWorld(t, 1, 2)
	a := w.join(1, "g", user(11, 0))
	read(t, a)
	w.hold(1, 2)
	send(t, a, "late")
	joined := make(chan *Member)
	go func() {
		m, err := w.g(2).Join(context.Background(), "g", user(22, 0), JoinOpts{})
		if err != nil {
			t.Error(err)
		}
		joined <- m
	}()
	poll(t, "the join is on its way", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.nodes[2].pend) == 1
	})
	w.install(1, 2)
	b := <-joined
	expect(t, a,
		"msg 1 11 late",
		"conf members=1:11,2:22 joined=2:22:JOIN left=-",
		"ring 2.1 members=1,2")
	expect(t, b,
		"conf members=1:11,2:22 joined=2:22:JOIN left=-",
		"ring 1.1 members=1,2",
		"ring 2.1 members=1,2")
}

// S18: two groups of one name meet. Who has no right in the older one is out
// before any message, and is not told who is in it.
func TestInstall_LosersOfAMergeLeaveFirst(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.install(1)
	w.install(2)
	a := w.join(1, "g", user(11, 1001))
	soonAfter(t) // the group on the other side is younger
	b := w.join(2, "g", user(22, 1002))
	r := w.join(2, "g", user(33, 0))
	read(t, a)
	read(t, b)
	read(t, r)
	w.hold(1, 2)
	send(t, a, "in the old ring")
	w.install(1, 2)
	send(t, a, "secret")
	expect(t, a,
		"msg 1 11 in the old ring",
		"conf members=1:11,2:33 joined=2:33:NODEUP left=-",
		"ring 4.1 members=1,2",
		"msg 1 11 secret")
	expect(t, b,
		"conf members=2:33 joined=- left=2:22:PROCDOWN",
		"EOF")
	expect(t, r,
		"conf members=2:33 joined=- left=2:22:PROCDOWN",
		"conf members=1:11,2:33 joined=1:11:NODEUP left=-",
		"ring 4.1 members=1,2",
		"msg 1 11 secret")
	wantErr(t, "send of who is out", b.Send([]byte("x"), false), syscall.EPIPE)
	if got := w.g(2).Stats().Local; got != 1 {
		t.Errorf("node 2 has %d local members, want 1", got)
	}
}

// A ring says of this node what is not so: the process is no ghost for ever.
func TestInstall_DisownsWhatIsNotItsOwn(t *testing.T) {
	w := newWorld(t, 1)
	a := w.join(1, "g", user(11, 0))
	read(t, a)
	tab := w.g(1).table.clone()
	tab.put(t, nk1, KindJoin, joinOp(77, 99, "g", credFor(0)))
	n := w.nodes[1]
	w.mu.Lock()
	n.g.Install(ring.Install{
		View:         ring.View{Ring: ring.ID{Seq: 5, Rep: 1}, Members: []ring.NK{nk1}},
		Transitional: []ring.NK{nk1},
		States:       []ring.NodeState{tab.stated(nk1, 1, true)},
	})
	w.mu.Unlock()
	n.g.Flush()
	expect(t, a,
		"conf members=1:11,1:99 joined=1:99:NODEUP left=-",
		"ring 5.1 members=1",
		"conf members=1:11 joined=- left=1:99:PROCDOWN")
}
