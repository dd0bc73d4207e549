package group

import (
	"errors"
	"syscall"
	"testing"
)

func TestQuorum_GroupThatNeedsOneStopsWithout(t *testing.T) {
	g := newWorld(t, 1).nodes[1].g
	root := Caller{PID: 1}
	ctx := t.Context()
	m, err := g.Join(ctx, "g", root, JoinOpts{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	send := func() error { return m.Send([]byte("x"), false) }
	cast := func() error {
		s, err := g.Sender("g", root)
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Send([]byte("x"), false)
	}
	join := func() error {
		m, err := g.Join(ctx, "g", Caller{PID: 2}, JoinOpts{})
		if err == nil {
			m.Leave(Leave)
		}
		return err
	}
	all := map[string]func() error{"send": send, "cast": cast, "join": join}
	want := func(when string, errno syscall.Errno) {
		t.Helper()
		for name, f := range all {
			if err := f(); errno == 0 && err != nil || errno != 0 && !errors.Is(err, errno) {
				t.Errorf("%s %s: %v, want %v", name, when, err, errno)
			}
		}
	}
	g.SetQuorate(false)
	want("in a group that needs none", 0)
	if err := g.NeedQuorum(ctx, "g", Caller{UID: 1000}, true); !errors.Is(err, syscall.EACCES) {
		t.Errorf("set by a stranger: %v, want EACCES", err)
	}
	if err := g.NeedQuorum(ctx, "g", root, true); err != nil {
		t.Fatal(err)
	}
	if in, _ := g.Group("g"); !in.Need {
		t.Error("the group does not say that it needs a quorum")
	}
	want("without a quorum", syscall.ENETDOWN)
	g.SetQuorate(true)
	want("with one", 0)
	g.SetQuorate(false)
	if err := g.NeedQuorum(ctx, "g", root, false); err != nil {
		t.Fatal(err)
	}
	want("when it needs none again", 0)
}
