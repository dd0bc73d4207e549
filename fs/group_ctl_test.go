package fs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/fs/kernel"
)

// saidGroups notes what it is asked for.
type saidGroups struct {
	Groups
	calls []string
}

func (s *saidGroups) Open(_ context.Context, name string, c group.Caller, open bool) error {
	s.calls = append(s.calls, fmt.Sprintf("%s %d open=%v", name, c.UID, open))
	return nil
}

func (s *saidGroups) NeedQuorum(_ context.Context, name string, c group.Caller, need bool) error {
	s.calls = append(s.calls, fmt.Sprintf("%s %d need=%v", name, c.UID, need))
	return nil
}

func (s *saidGroups) Evict(_ context.Context, name string, c group.Caller, p group.Process) error {
	s.calls = append(s.calls, fmt.Sprintf("%s %d evict %d:%d.%d", name, c.UID, p.Node, p.PID, p.N))
	return nil
}

// writeGroupCtl writes to the ctl of group g as uid 1000.
func writeGroupCtl(tr *Tree, s *saidGroups, text string) syscall.Errno {
	n := newCtl(tr, 0, 0, 0, "cluster/groups/g/ctl", groupVerbs(s, "g", group.Caller{UID: 1000}))
	return (&ctlFile{n, caller{uid: 1000}}).Write(context.Background(), []byte(text), 0)
}

func TestGroupCtl_AllLinesOrNone(t *testing.T) {
	tr, _ := bareTree(t)
	for _, c := range []struct {
		text  string
		errno syscall.Errno
		done  string
	}{
		{"mode open\n", 0, "g 1000 open=true"},
		{"mode  closed\n\nleave 3:4242", 0, "g 1000 open=false; g 1000 evict 3:4242.0"},
		{"quorum need\nquorum ignore\n", 0, "g 1000 need=true; g 1000 need=false"},
		{"quorum\n", syscall.EINVAL, ""},
		{"quorum no\n", syscall.EINVAL, ""},
		{"leave 4294967295:4294967295.2", 0, "g 1000 evict 4294967295:4294967295.2"},
		{"mode open\nleave 3", syscall.EINVAL, ""},
		{"mode", syscall.EINVAL, ""},
		{"mode open now", syscall.EINVAL, ""},
		{"leave 0:1", syscall.EINVAL, ""},
		{"leave 1:+1", syscall.EINVAL, ""},
		{"leave 1:4294967296", syscall.EINVAL, ""},
		{"leave 1:1.", syscall.EINVAL, ""},
		{"leave 1:1.01", syscall.EINVAL, ""},
		{"join", syscall.EINVAL, ""},
		{"", syscall.EINVAL, ""},
	} {
		s := &saidGroups{}
		if e := writeGroupCtl(tr, s, c.text); e != c.errno || strings.Join(s.calls, "; ") != c.done {
			t.Errorf("%q: got errno %d and %q, want %d and %q", c.text, e, s.calls, c.errno, c.done)
		}
	}
}

func FuzzGroupCtl(f *testing.F) {
	for _, s := range []string{"mode open\nleave 1:2", "leave 1:2.3", "mode closed\n", "quorum need", "leave 1:2.", "mode\x00"} {
		f.Add(s)
	}
	tr, _ := bareTree(f)
	f.Fuzz(func(t *testing.T, text string) {
		s := &saidGroups{}
		e := writeGroupCtl(tr, s, text)
		lines := 0
		for line := range strings.SplitSeq(text, "\n") {
			if len(strings.Fields(line)) > 0 {
				lines++
			}
		}
		if want := len(s.calls); e != 0 && want != 0 || e == 0 && (want == 0 || want != lines) {
			t.Errorf("%q: errno %v, %d lines, and %q", text, e, lines, s.calls)
		}
	})
}

func FuzzParseProcess(f *testing.F) {
	for _, s := range []string{"1:2", "1:2.3", "01:2", "1:2.0", "1", ":", "4294967295:4294967295.4294967295"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := parseProcess(s)
		if !ok {
			return
		}
		back := fmt.Sprintf("%d:%d", p.Node, p.PID)
		if p.N != 0 {
			back += fmt.Sprintf(".%d", p.N)
		}
		if p.Node == 0 || p.PID == 0 || back != s {
			t.Errorf("%q was read as %q", s, back)
		}
	})
}

func TestInOrder_HasABoundAndSaysWhatEndedIt(t *testing.T) {
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := inOrder(t.Context(), wait); errno(err) != syscall.ETIMEDOUT || time.Since(start) != orderTime {
			t.Errorf("after %v: %v, want ETIMEDOUT after %v", time.Since(start), err, orderTime)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(kernel.ErrInterrupted) })
		if err := inOrder(ctx, wait); errno(err) != syscall.EINTR {
			t.Errorf("a signal: %v, want EINTR", err)
		}
	})
	said := fmt.Errorf("join: %w", syscall.EACCES)
	if err := inOrder(t.Context(), func(context.Context) error { return said }); !errors.Is(err, said) || errno(err) != syscall.EACCES {
		t.Errorf("got %v, want what was said", err)
	}
	if err := inOrder(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}
