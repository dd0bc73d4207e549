package group

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestJoin_Errors(t *testing.T) {
	w := newWorld(t, 1, 2)
	ctx := soon(t)
	join := func(id uint32, name string, c Caller, create bool) error {
		_, err := w.g(id).Join(ctx, name, c, JoinOpts{Create: create})
		return err
	}
	wantErr(t, "a group that is not there", join(1, "g", user(1, 1001), false), syscall.ENOENT)
	wantErr(t, "a name too long", join(1, strings.Repeat("x", MaxName+1), user(1, 1001), true), syscall.ENAMETOOLONG)
	wantErr(t, "the longest name", join(1, strings.Repeat("\xff", MaxName), user(1, 1001), true), 0)
	wantErr(t, "the empty name", join(1, "", user(1, 1001), true), 0)
	wantErr(t, "a new group", join(1, "g", user(1, 1001), true), 0)
	wantErr(t, "another user elsewhere", join(2, "g", user(1, 1002), true), syscall.EACCES)
	wantErr(t, "root elsewhere", join(2, "g", user(1, 0), false), 0)
	err := join(2, "g\n", user(1, 1002), false)
	if err == nil || !strings.Contains(err.Error(), "join group g%0A: ") {
		t.Errorf("got %v, want the name escaped", err)
	}
	if s := w.g(2).Stats(); s.Local != 1 {
		t.Errorf("node 2 has %d local members, want 1: refused joins are left behind", s.Local)
	}
	if n := len(w.g(2).feeds); n != 1 {
		t.Errorf("node 2 has %d feeds, want 1", n)
	}
}

// S18: modes are judged by the log, at each node alike.
func TestJoin_ModesHoldEverywhere(t *testing.T) {
	w := newWorld(t, 1, 2)
	ctx := soon(t)
	owner := user(1, 1001)
	wantErr(t, "mkdir", w.g(1).Mkdir(ctx, "g", owner), 0)
	wantErr(t, "chgrp", w.g(1).Change(ctx, "g", user(1, 0), Change{GID: ptr[uint32](500)}), 0)
	wantErr(t, "chmod", w.g(2).Change(ctx, "g", owner, Change{File: Feed, Mode: ptr[uint32](0o660)}), 0)
	_, err := w.g(2).Join(ctx, "g", user(1, 1002), JoinOpts{})
	wantErr(t, "not of the group", err, syscall.EACCES)
	m, err := w.g(2).Join(ctx, "g", user(1, 1002, 7, 500), JoinOpts{})
	wantErr(t, "of the group", err, 0)
	m.Leave(Leave)
	wantErr(t, "chmod folder", w.g(1).Change(ctx, "g", owner, Change{File: Folder, Mode: ptr[uint32](0o700)}), 0)
	_, err = w.g(2).Join(ctx, "g", user(1, 1002, 7, 500), JoinOpts{})
	wantErr(t, "folder closed", err, syscall.EACCES)
	wantErr(t, "open", w.g(1).Open(ctx, "g", owner, true), 0)
	_, err = w.g(2).Join(ctx, "g", user(1, 1003), JoinOpts{})
	wantErr(t, "open to all", err, 0)
	in, _ := w.g(2).Group("g")
	if in.Modes != openModes || in.UID != 1001 || in.GID != 500 || !in.Kept {
		t.Errorf("got %+v", in)
	}
	if len(in.Members) != 1 || in.Members[0].NodeName != "node2" || in.Members[0].UID != 1003 || in.Members[0].Joined == 0 {
		t.Errorf("members are %+v", in.Members)
	}
}

func TestJoin_LimitOfAUser(t *testing.T) {
	w := newWorld(t, 1, 2)
	ctx := soon(t)
	var last *Member
	for range maxLocals {
		last = w.join(1, "g", user(1, 1001))
	}
	_, err := w.g(1).Join(ctx, "g", user(1, 1001), JoinOpts{})
	wantErr(t, "one more", err, syscall.ENOSPC)
	w.join(1, "h", user(1, 1002))
	w.join(1, "h", user(1, 0))
	w.join(2, "g", user(1, 1001))
	last.Leave(Leave)
	w.join(1, "g", user(1, 1001))
}

// Who gives up leaves behind nothing, whenever the join is ordered.
func TestJoin_GivenUpIsNoGhost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2)
		a := w.join(2, "g", user(22, 1001))
		read(t, a)
		w.hold(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := w.g(1).Join(ctx, "g", user(11, 1001), JoinOpts{})
		wantErr(t, "cut off", err, syscall.ETIMEDOUT)
		if d := time.Since(start); d != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", d, err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Second)
			cancel()
		}()
		_, err = w.g(1).Join(ctx, "g", user(11, 1001), JoinOpts{})
		wantErr(t, "interrupted", err, syscall.EINTR)
		if s := w.g(1).Stats(); s.Local != 2 {
			t.Errorf("%d local members are on their way, want 2", s.Local)
		}
		w.install(1, 2)
		expect(t, a,
			"conf members=1:11,2:22 joined=1:11:JOIN left=-",
			"conf members=2:22 joined=- left=1:11:LEAVE",
			"conf members=1:11,2:22 joined=1:11:JOIN left=-",
			"conf members=2:22 joined=- left=1:11:LEAVE",
			"ring 2.1 members=1,2")
		if s := w.g(1).Stats(); s.Local != 0 || s.Queued != 0 {
			t.Errorf("left behind: %+v", s)
		}
		if n := len(w.g(1).feeds); n != 0 {
			t.Errorf("%d feeds are left behind", n)
		}
	})
}

func TestCalls_WaitForTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2)
		w.hold(1)
		done := make(chan error)
		go func() { done <- w.g(1).Mkdir(t.Context(), "g", user(1, 1001)) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("mkdir has returned %v", err)
		default:
		}
		// Another node has the name by then.
		wantErr(t, "mkdir", w.g(2).Mkdir(t.Context(), "g", user(1, 1002)), 0)
		w.install(1, 2)
		wantErr(t, "the later mkdir", <-done, syscall.EEXIST)

		w.hold(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, "cut off", w.g(1).Rmdir(ctx, "g", user(1, 1002)), syscall.ETIMEDOUT)
		w.install(1, 2)
		wantNames(t, w.g(2)) // it was carried out
		if n := len(w.g(1).calls) + len(w.g(1).asked); n != 0 {
			t.Errorf("%d calls are left behind", n)
		}
	})
}

func TestCalls_LimitOfAUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.hold(1)
		done, cancel := context.WithCancel(t.Context())
		cancel()
		for range maxAsked {
			wantErr(t, "given up", w.g(1).Rmdir(done, "g", user(1, 1001)), syscall.EINTR)
		}
		wantErr(t, "one more", w.g(1).Rmdir(t.Context(), "g", user(1, 1001)), syscall.EAGAIN)
		wantErr(t, "another user", w.g(1).Rmdir(done, "g", user(1, 1002)), syscall.EINTR)
		w.install(1)
		wantErr(t, "later", w.g(1).Rmdir(t.Context(), "g", user(1, 1001)), syscall.ENOENT)
	})
}

// The number of a call means nothing at other nodes.
func TestCalls_TakeTheirOwnAnswerOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2)
		w.hold(1)
		done := make(chan error, 1)
		go func() { done <- w.g(1).Mkdir(t.Context(), "g", user(1, 0)) }()
		synctest.Wait()
		for id := range uint32(10) {
			o := op{verb: verbRmdir, id: id, name: []byte("h"), cred: credFor(0)}
			w.mu.Lock()
			n := w.nodes[2]
			w.mu.Unlock()
			if err := n.Submit(KindGroup, o.append(KindGroup, nil)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if len(done) != 0 {
			t.Fatalf("mkdir has returned %v", <-done)
		}
		w.install(1, 2)
		wantErr(t, "mkdir", <-done, 0)
	})
}

func TestCalls_CheckWhatTheyAreGiven(t *testing.T) {
	w := newWorld(t, 1)
	ctx := soon(t)
	for _, name := range []string{"", ".x", "a/b", "a b", strings.Repeat("x", 128)} {
		wantErr(t, "mkdir "+name, w.g(1).Mkdir(ctx, name, user(1, 0)), syscall.EINVAL)
	}
	wantErr(t, "mkdir", w.g(1).Mkdir(ctx, strings.Repeat("x", 127), user(1, 0)), 0)
	wantErr(t, "rmdir", w.g(1).Rmdir(ctx, strings.Repeat("x", 129), user(1, 0)), syscall.ENAMETOOLONG)
	wantErr(t, "chmod", w.g(1).Change(ctx, "x", user(1, 0), Change{File: files, Mode: ptr[uint32](0)}), syscall.EINVAL)
	wantErr(t, "mode", w.g(1).Open(ctx, "x", user(1, 0), true), syscall.ENOENT)
}

// A join whose entry is ordered when its caller has been sent away, since Reset
// came in between, leaves no member behind whom nobody could ever let go.
func TestJoin_EntryWithoutItsMember(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.mu.Lock()
	n := w.nodes[1]
	w.mu.Unlock()
	o := op{id: 77, pid: 10, create: true, name: []byte("g")}
	if err := n.Submit(KindJoin, o.append(KindJoin, nil)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint32{1, 2} {
		if in, ok := w.g(id).Group("g"); ok {
			t.Errorf("node %d: group %+v, want none", id, in)
		}
	}
	if n.gone != 1 {
		t.Errorf("%d leaves, want 1", n.gone)
	}
}
