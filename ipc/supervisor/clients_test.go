package supervisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// session is a Client of a daemon that can be ended.
type session struct {
	open   func(ctx context.Context, path string) (int, error)
	closed atomic.Bool
}

func (s *session) OpenFD(ctx context.Context, path string) (int, error) {
	if s.closed.Load() {
		panic("used after Close")
	}
	return s.open(ctx, path)
}

func (s *session) Close() error { s.closed.Store(true); return nil }

func unavailable(errno unix.Errno) error {
	return &rendezvous.Error{Op: "open", Kind: rendezvous.Unavailable, Err: errno}
}

func TestClients_DaemonStartedAgainIsFound(t *testing.T) {
	dials := 0
	var first, second *session
	first = &session{open: func(context.Context, string) (int, error) { return -1, unavailable(unix.ECONNRESET) }}
	second = &session{open: func(context.Context, string) (int, error) { return 42, nil }}
	c := &clients{dial: func(context.Context) (Client, error) {
		dials++
		return []*session{first, second}[dials-1], nil
	}}
	for range 3 {
		if got := c.open(t.Context(), "x"); got != (result{fd: 42}) {
			t.Errorf("got %+v", got)
		}
	}
	if dials != 2 || !first.closed.Load() || second.closed.Load() {
		t.Errorf("%d dials, closed %v %v", dials, first.closed.Load(), second.closed.Load())
	}
}

func TestClients_NoDaemonIsLeftToTheKernel(t *testing.T) {
	c := &clients{dial: func(context.Context) (Client, error) { return nil, unavailable(unix.ECONNREFUSED) }}
	if got := c.open(t.Context(), "x"); got != (result{fd: noFD}) {
		t.Errorf("got %+v", got)
	}
}

func TestClients_ManyAtOnceGetMoreConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var mu sync.Mutex
		var sessions []*session
		most := 0
		c := &clients{dial: func(context.Context) (Client, error) {
			busy := 0
			s := &session{open: func(context.Context, string) (int, error) {
				mu.Lock()
				busy++
				most = max(most, busy)
				mu.Unlock()
				<-release
				mu.Lock()
				busy--
				mu.Unlock()
				return 42, nil
			}}
			mu.Lock()
			sessions = append(sessions, s)
			mu.Unlock()
			return s, nil
		}}
		var all sync.WaitGroup
		for range 5 * maxBusy {
			all.Go(func() {
				if got := c.open(t.Context(), "x"); got.fd != 42 {
					t.Errorf("got %+v", got)
				}
			})
		}
		synctest.Wait()
		if len(sessions) != 5 || most != maxBusy {
			t.Errorf("%d sessions with up to %d at a time, want 5 with %d", len(sessions), most, maxBusy)
		}
		close(release)
		all.Wait()
		open := 0
		for _, s := range sessions {
			if !s.closed.Load() {
				open++
			}
		}
		if open != 1 || len(c.all) != 1 {
			t.Errorf("%d sessions stay open, %d known, want 1", open, len(c.all))
		}
	})
}

func TestErrno_OfTheDaemonsAnswer(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want unix.Errno
	}{
		{&rendezvous.Error{Kind: rendezvous.Refused, Err: unix.ECONNREFUSED}, unix.ECONNREFUSED},
		{fmt.Errorf("x: %w", &rendezvous.Error{Kind: rendezvous.Permission, Err: errors.New("no")}), unix.EACCES},
		{&rendezvous.Error{Kind: rendezvous.NotExist}, unix.ENOENT},
		{&rendezvous.Error{Kind: rendezvous.Timeout}, unix.ETIMEDOUT},
		{&rendezvous.Error{Kind: rendezvous.Invalid}, unix.EINVAL},
		{&rendezvous.Error{Kind: rendezvous.Busy}, unix.EBUSY},
		{errors.New("x"), unix.EIO},
	} {
		if got := errnoOf(tc.err); got != tc.want {
			t.Errorf("%v: got %v, want %v", tc.err, got, tc.want)
		}
	}
}
