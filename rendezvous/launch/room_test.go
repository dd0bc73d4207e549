package launch

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// waits fails the test if a client is served.
func waits(t *testing.T, what string, f *os.File) {
	t.Helper()
	_ = f.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := f.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: got %d, %v: it is served", what, n, err)
	}
}

func (w *world) openAs(uid uint32, path string) *os.File {
	w.t.Helper()
	return nonblocking(w.mustOpen(uid, path))
}

// Who takes all that he can get and holds it has half, in however many instances, and others are served beside him.
func TestInetd_OneUserHoldsHalfOfThePlaces(t *testing.T) {
	w := newWorld(t, Opts{MaxProcesses: 4})
	for _, proto := range []string{"tcp", "fdp"} {
		path := w.script(proto, "server.inetd", "echo on; exec cat")
		for range 2 {
			line(t, w.openAs(1000, path))
		}
		var waiting []*os.File
		for range 8 {
			waiting = append(waiting, w.openAs(1000, path), w.openAs(1000, path+",q"))
		}
		waits(t, "the third of uid 1000", waiting[0])
		other := w.openAs(1001, path)
		line(t, other)
		line(t, w.openAs(1002, path+",q"))
		waits(t, "the fourth of uid 1000", waiting[1])
		// When all are taken the next place is for who has fewest, not for who came first.
		last := w.openAs(1003, path)
		waits(t, "the fifth", last)
		other.Close()
		line(t, last)
	}
}

// Which one of those who wait is next depends on what the others of his uid have.
func TestRoom_NextIsWhoHasFewest(t *testing.T) {
	l := New(Opts{MaxProcesses: 8})
	m := l.room("server", 0)
	r, elsewhere := &running{l: l, room: m}, &running{l: l, room: l.room("another", 0)}
	guests := map[string]*guest{}
	for _, g := range []struct {
		name string
		r    *running
		uid  uint32
	}{{"elsewhere", elsewhere, 7}, {"a", r, 1000}, {"nobody", r, rendezvous.NoID}, {"b1", r, 1001}, {"c", r, 1002}, {"b2", r, 1001}} {
		guests[g.name] = &guest{r: g.r, client: &rendezvous.Client{Peer: rendezvous.Peer{UID: g.uid}}}
		l.lobby = append(l.lobby, guests[g.name])
		l.waits[g.uid]++
	}
	m.taken = map[uint32]int{1000: 4, rendezvous.NoID: 3, 1001: 1, 1002: 1}
	for _, want := range []string{"b1", "c", "b2", "nobody", ""} {
		got := l.following(m)
		if got != guests[want] {
			t.Fatalf("got %+v, want %q", got, want)
		}
		if got != nil {
			l.dismiss(got)
			m.taken[got.uid()]++
		}
	}
	if len(l.lobby) != 2 || len(l.waits) != 2 {
		t.Errorf("got %d, %v, want the two that have no place", len(l.lobby), l.waits)
	}
}

// When too many wait, those of who has most there go, the newest first.
func TestInetd_CrowdOfOneUserIsRefused(t *testing.T) {
	w := newWorld(t, Opts{MaxProcesses: 2})
	w.lobbySize = 3
	path := w.script("tcp", "server.inetd", "echo on; exec cat")
	first := []*os.File{w.openAs(1000, path), w.openAs(1001, path)}
	for _, f := range first {
		line(t, f)
	}
	var crowd []*os.File
	for range 5 {
		crowd = append(crowd, w.openAs(1000, path))
	}
	reset := func(f *os.File) {
		t.Helper()
		_ = f.SetReadDeadline(time.Now().Add(bound))
		if n, err := f.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("got %d, %v, want a reset", n, err)
		}
	}
	reset(crowd[4])
	reset(crowd[3])
	others := []*os.File{w.openAs(1001, path), w.openAs(1002, path)}
	reset(crowd[2])
	reset(crowd[1])
	for i, f := range append(others, crowd[0]) {
		waits(t, []string{"1001", "1002", "1000"}[i], f)
	}
	first[0].Close()
	line(t, crowd[0])
}

// Who waits for a place is let go of with the service.
func TestInetd_EndOfTheServiceResetsWhoWaits(t *testing.T) {
	w := newWorld(t, Opts{MaxProcesses: 1})
	path := w.script("tcp", "server.inetd", "echo on; exec cat")
	first := w.openAs(1000, path)
	line(t, first)
	second := w.openAs(1000, path)
	within(t, "close", w.Close)
	if got, err := io.ReadAll(second); len(got) > 0 || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("got %q, %v, want a reset", got, err)
	}
	if len(w.lobby) != 0 || len(w.waits) != 0 {
		t.Errorf("got %d, %v that wait still", len(w.lobby), w.waits)
	}
}
