package group

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// All that may be called from any goroutine is, while the order goes on. Each
// message that a member of the quiet pair sends reaches the other.
func TestGroups_ManyGoroutines(t *testing.T) {
	w := newWorld(t, 1, 2)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	loop := func(f func(i int)) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f(i)
				}
			}
		})
	}
	for _, id := range []uint32{1, 2} {
		g := w.g(id)
		loop(func(i int) {
			m, err := g.Join(ctx, "busy", user(i, 0), JoinOpts{Create: true})
			if err != nil {
				t.Errorf("join: %v", err)
				return
			}
			m.Notify(func() {})
			wg.Go(func() { m.Leave(ProcDown) })
			for range 5 {
				if err := m.Send([]byte("x"), false); err != nil && err != syscall.EPIPE {
					t.Errorf("send: %v", err)
				}
				m.Ready()
				m.Room()
				if _, err := m.Next(); err != nil && err != syscall.EAGAIN && err != io.EOF {
					t.Errorf("next: %v", err)
				}
			}
			m.Leave(Leave)
		})
		loop(func(i int) {
			in, ok := g.Group("busy")
			if ok && len(in.Members) == 0 {
				t.Errorf("a group without members: %+v", in)
			}
			g.List()
			g.Stats()
			g.Hash()
			g.Room()
			g.Flush()
			g.scanSlow()
			if s, err := g.Sender("busy", user(i, 0)); err == nil {
				if err := s.Send([]byte("s"), false); err != nil {
					t.Errorf("send: %v", err)
				}
				s.Close()
			}
			name := fmt.Sprint("kept", i%3)
			if err := g.Mkdir(ctx, name, user(1, 0)); err != nil && ctx.Err() != nil {
				t.Errorf("mkdir: %v", err)
			}
			g.Rmdir(ctx, name, user(1, 0))
		})
	}

	const n = 2000
	a, b := w.join(1, "quiet", user(1, 0)), w.join(2, "quiet", user(2, 0))
	var got atomic.Int32
	ready := make(chan struct{}, 1)
	b.Notify(func() {
		select {
		case ready <- struct{}{}:
		default:
		}
	})
	wg.Go(func() {
		for got.Load() < n {
			r, err := b.Next()
			switch {
			case err == syscall.EAGAIN:
				select {
				case <-ready:
				case <-ctx.Done():
					t.Errorf("has read %d messages of %d, and is told of no more", got.Load(), n)
					return
				}
			case err != nil:
				t.Errorf("next: %v", err)
				return
			case r.Kind == Msg:
				if want := fmt.Sprint(got.Load()); string(r.Data) != want {
					t.Errorf("read %q, want %q", r.Data, want)
					return
				}
				got.Add(1)
			}
		}
	})
	for i := range n {
		send(t, a, fmt.Sprint(i))
	}
	poll(t, "all is read", func() bool { return got.Load() == n || t.Failed() })
	close(stop)
	wg.Wait()
}
