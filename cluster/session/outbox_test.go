package session

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// lonePeer gives a session of which no goroutine takes care, and its other end.
func lonePeer(t *testing.T, encrypted bool) (*Peer, *link) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	ma, mb := &Manager{start: time.Now()}, &Manager{start: time.Now()}
	if encrypted {
		au := newAuthority(t)
		ma.tls, mb.tls = au.config(t, "node1"), au.config(t, "node2")
	}
	la, lb := ma.newLink(a, true), mb.newLink(b, false)
	lb.in.max = ring.MaxBody
	greeted := make(chan error)
	go func() { greeted <- lb.greet() }()
	if err := la.greet(); err != nil {
		t.Fatal(err)
	}
	if err := <-greeted; err != nil {
		t.Fatal(err)
	}
	p := newPeer(ma, &node{m: ma, id: 2}, la, &hello{nk: nk(2, 1)})
	p.wire.hold()
	return p, lb
}

// What the socket takes is with the kernel when Flush returns: no other
// goroutine has to run for it.
func TestTCP_FlushWritesItself(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		p, other := lonePeer(t, encrypted)
		other.conn.SetDeadline(time.Now().Add(patience))
		n := 0
		for round := range 100 {
			first := n
			for range 1 + round%5 {
				p.Send(numbered(n, n%3000))
				n++
			}
			if p.Backlog() == 0 {
				t.Fatal("nothing waits before the flush")
			}
			p.Flush()
			if p.Backlog() != 0 {
				t.Fatalf("%d bytes wait after the flush", p.Backlog())
			}
			for i := first; i < n; i++ {
				if _, _, body, err := other.in.next(); err != nil || !bytes.Equal(body, numbered(i, i%3000)[ring.HeaderSize:]) {
					t.Fatalf("frame %d: %v", i, err)
				}
			}
		}
		if len(p.out.wake) != 0 {
			t.Error("the writer is woken")
		}
	})
}

// A full socket ends the flush, and everything from there on is the writer's,
// who begins in the middle of a frame.
func TestTCP_FlushLeavesTheRestToTheWriter(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		p, other := lonePeer(t, encrypted)
		other.conn.SetDeadline(time.Now().Add(patience))
		n := 0
		for len(p.out.wake) == 0 {
			p.Send(numbered(n, 100_000))
			p.Flush()
			if n++; n > 1000 {
				t.Fatal("the socket takes 100 MB")
			}
		}
		for range 5 { // finds it busy
			p.Send(numbered(n, 100_000))
			p.Flush()
			n++
		}
		if p.Backlog() < 5*100_000 {
			t.Errorf("%d bytes wait", p.Backlog())
		}
		writer := make(chan struct{})
		go func() { p.write(); close(writer) }()
		for i := range n {
			if _, _, body, err := other.in.next(); err != nil || !bytes.Equal(body, numbered(i, 100_000)[ring.HeaderSize:]) {
				t.Fatalf("frame %d: %v", i, err)
			}
		}
		await(t, "an empty queue", func() bool { return p.Backlog() == 0 })
		p.Send(numbered(n, 10)) // the flush after it writes itself again
		await(t, "a writer that rests", func() bool { p.out.mu.Lock(); defer p.out.mu.Unlock(); return !p.out.busy })
		p.Flush()
		if p.Backlog() != 0 {
			t.Errorf("%d bytes wait after the flush", p.Backlog())
		}
		p.fail(errClosed, false)
		<-writer
	})
}

// A peer that does not read fills the socket: Flush does not wait, what is left
// is counted, and goes out when the peer reads again.
func TestTCP_FullSocket(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		a, b := newRecorder(t), newRecorder(t)
		o := &inOrder{t: t, gate: newGate()}
		defer o.gate.open()
		b.onFrame = o.frame
		ma, _ := meetTCP(t, encrypted, a, b)
		p := a.peer(2)
		const frames, size = 48, 1 << 20
		for i := range frames {
			p.Send(numbered(i, size))
			p.Flush() // returns although nobody reads
		}
		if n := p.Backlog(); n < frames*size/3 {
			t.Errorf("%d bytes wait, want most of %d", n, frames*size)
		}
		// Nobody is judged by what the kernel still holds.
		look := func() (unread bool) { unread, _ = look(b.peer(1).raw); return unread }
		await(t, "bytes in the socket", look)
		o.gate.open()
		await(t, "all frames", func() bool { return o.count() == frames })
		await(t, "an empty queue", func() bool { return p.Backlog() == 0 })
		if st := ma.Stats(); st.Breaks != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}
