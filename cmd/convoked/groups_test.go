package main

import (
	"errors"
	"io"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/rendezvous"
)

// soleOrder is the order of a ring of one node.
type soleOrder struct {
	mu     sync.Mutex
	groups *group.Groups
	pos    uint64 // guarded by mu
}

func (o *soleOrder) Submit(kind ring.Kind, data []byte) error {
	o.mu.Lock()
	o.pos++
	o.groups.Deliver(ring.ID{Seq: 12, Rep: 1}, []ring.Message{{Origin: ring.NK{ID: 1, Boot: 1}, OSeq: o.pos, Pos: o.pos, Kind: kind, Data: data}})
	o.mu.Unlock()
	o.groups.Flush()
	return nil
}

func newSoleGroups() *socketGroups {
	o := &soleOrder{}
	o.groups = group.New(group.Config{Self: ring.NK{ID: 1, Boot: 1}, Order: o})
	o.groups.Install(ring.Install{
		View: ring.View{Ring: ring.ID{Seq: 12, Rep: 1}, Members: []ring.NK{{ID: 1, Boot: 1}}},
	})
	return &socketGroups{groups: o.groups}
}

// here is who this process is.
func here(t *testing.T) rendezvous.Caller {
	t.Helper()
	c, err := rendezvous.LookupCaller(os.Getpid(), uint32(os.Geteuid()), uint32(os.Getegid()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Clients of the socket and readers of the file read the same.
func TestSocketGroups_RecordsReadAsInTheFile(t *testing.T) {
	g := newSoleGroups()
	defer g.groups.Close()
	who := here(t)
	m, err := g.Join(t.Context(), "g", who, true)
	if err != nil {
		t.Fatal(err)
	}
	file, err := g.groups.Join(t.Context(), "g", group.Caller{PID: 77, UID: who.UID}, group.JoinOpts{})
	if err != nil {
		t.Fatal(err)
	}
	next := func() string {
		t.Helper()
		var r ipc.Record
		if err := m.Next(&r); err != nil {
			t.Fatal(err)
		}
		return string(r.AppendText(nil))
	}
	own := next() // before file was there
	ringLine := next()
	s, err := g.Sender("g", who)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var all []byte
	for c := range 256 {
		all = append(all, byte(c))
	}
	third, err := g.Join(t.Context(), "g", who, false)
	if err != nil || third.ID() != (ipc.Process{Node: 1, PID: uint32(os.Getpid()), N: 2}) {
		t.Fatalf("got %v, %v", third.ID(), err)
	}
	err = errors.Join(m.Send(all, false), s.Send(nil, false), third.Send([]byte("from the second"), false))
	if err != nil {
		t.Fatal(err)
	}
	third.Leave(ipc.Left)
	if !third.Ended() || m.Ended() {
		t.Error("who has ended is not known")
	}
	lines := 0
	for {
		r, err := file.Next()
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		want := string(r.AppendText(nil))
		if r.Kind == group.Ring {
			if ringLine != want {
				t.Errorf("got  %q\nwant %q", ringLine, want)
			}
			continue
		}
		if got := next(); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		lines++
	}
	if lines != 6 || len(own) == 0 {
		t.Errorf("%d records", lines)
	}
	var r ipc.Record
	if err := m.Next(&r); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("got %+v, %v, want nothing more", r, err)
	}
	m.Leave(ipc.Left)
	if err := m.Next(&r); err != io.EOF {
		t.Errorf("got %+v, %v, want the end", r, err)
	}
}

func TestSocketGroups_NamesStandInTheTreeAsTheTreeHasThem(t *testing.T) {
	names := []string{"", "chat", ".x", "a b", "%", "é", "a%20", string(make([]byte, 128))}
	for _, name := range names {
		if got, want := ipc.EscapeGroup(name), group.EscapeName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	for _, s := range append(names, "%00", "%0", "%61", "%2ex", "%2Ex") {
		got, ok := ipc.UnescapeGroup(s)
		want, wantOK := group.UnescapeName(s)
		if ok != wantOK || ok && got != want {
			t.Errorf("%q: got %q, %v, want %q, %v", s, got, ok, want, wantOK)
		}
	}
	if ipc.MaxMessage != group.MaxMessage {
		t.Errorf("messages have %d bytes at most, or %d", ipc.MaxMessage, group.MaxMessage)
	}
}

func TestSocketGroups_OtherNetworksTakeNoPart(t *testing.T) {
	g := newSoleGroups()
	defer g.groups.Close()
	who := here(t)
	if _, err := g.Join(t.Context(), "g", who, false); !errors.Is(err, unix.ENOENT) {
		t.Errorf("join of nothing: got %v", err)
	}
	if _, err := g.Sender("g", who); !errors.Is(err, unix.ENOENT) {
		t.Errorf("sender to nothing: got %v", err)
	}
	who.NetNS.Ino++
	if _, err := g.Join(t.Context(), "g", who, true); !errors.Is(err, unix.EACCES) {
		t.Errorf("join: got %v", err)
	}
	if _, err := g.Sender("g", who); !errors.Is(err, unix.EACCES) {
		t.Errorf("sender: got %v", err)
	}
	g.foreignNet = true
	m, err := g.Join(t.Context(), "g", who, true)
	if err != nil {
		t.Fatal(err)
	}
	m.Leave(ipc.ProcDown)
}
