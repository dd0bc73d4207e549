package group

import (
	"syscall"
	"testing"
)

func TestSender_IsInTheOrderAndNoMember(t *testing.T) {
	w := newWorld(t, 1, 2)
	a := w.join(1, "g", user(11, 1001))
	read(t, a)
	_, err := w.g(2).Sender("h", user(22, 1001))
	wantErr(t, "no group", err, syscall.ENOENT)
	_, err = w.g(2).Sender("g", user(22, 1002))
	wantErr(t, "another user", err, syscall.EACCES)
	s, err := w.g(2).Sender("g", user(22, 1001))
	wantErr(t, "the owner", err, 0)
	wantErr(t, "too long", s.Send(make([]byte, MaxMessage+1), false), syscall.EMSGSIZE)
	wantErr(t, "send", s.Send([]byte("hello"), false), 0)
	wantErr(t, "send", s.Send(nil, false), 0)
	big := make([]byte, MaxMessage, MaxMessage+Overhead)
	wantErr(t, "the longest", s.Send(big, true), 0)
	expect(t, a, "msg 2 22.0 hello", "msg 2 22.0 ", "msg 2 22.0 "+string(appendEscaped(nil, make([]byte, MaxMessage))))
	s.Close()
	wantErr(t, "after close", s.Send([]byte("x"), false), syscall.EPIPE)
	if !s.Room() {
		t.Error("a closed sender would block")
	}
}

// S18: a message is judged where it is delivered, not where it is sent.
func TestSender_IsJudgedByTheLog(t *testing.T) {
	w := newWorld(t, 1, 2)
	ctx := soon(t)
	owner := user(11, 1001)
	a := w.join(1, "g", owner)
	wantErr(t, "open", w.g(1).Open(ctx, "g", owner, true), 0)
	s, err := w.g(2).Sender("g", user(22, 1002, 500))
	wantErr(t, "open to all", err, 0)
	read(t, a)
	wantErr(t, "send", s.Send([]byte("one"), false), 0)
	wantErr(t, "close", w.g(1).Open(ctx, "g", owner, false), 0)
	wantErr(t, "send", s.Send([]byte("two"), false), 0)
	_, err = w.g(2).Sender("g", user(22, 1002, 500))
	wantErr(t, "closed", err, syscall.EACCES)
	wantErr(t, "chgrp", w.g(1).Change(ctx, "g", user(1, 0), Change{GID: ptr[uint32](500), File: Send, Mode: ptr[uint32](0o220)}), 0)
	wantErr(t, "send", s.Send([]byte("three"), false), 0)
	expect(t, a, "msg 2 22.0 one", "msg 2 22.0 three")
}

// A node that forges messages of another's member only sends what nobody reads.
func TestMulticast_OfNoMemberIsDropped(t *testing.T) {
	w := newWorld(t, 1, 2)
	a := w.join(1, "g", user(11, 0))
	b := w.join(1, "g", user(12, 0))
	read(t, a)
	w.mu.Lock()
	n := w.nodes[2]
	w.mu.Unlock()
	for _, payload := range [][]byte{
		le.AppendUint32([]byte("forged"), a.inc), {1, 2}, nil,
	} {
		if err := n.Submit(KindMulticast, payload); err != nil {
			t.Fatal(err)
		}
	}
	for _, payload := range [][]byte{{1}, nil, {0xff, 0xff}, {0, 0}, {1, 2, 3, 4, 4, 0}} {
		if err := n.Submit(KindSend, payload); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, a)
	// One who has left in the order is none either, whatever it has in flight.
	b.Leave(Leave)
	w.mu.Lock()
	n = w.nodes[1]
	w.mu.Unlock()
	if err := n.Submit(KindMulticast, le.AppendUint32([]byte("late"), b.inc)); err != nil {
		t.Fatal(err)
	}
	expect(t, a, "conf members=1:11 joined=- left=1:12:LEAVE")
}
