package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/cluster"
	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous"
)

// bareTree is a tree without a mount.
func bareTree(t testing.TB) (*Tree, *fakeCluster) {
	cl := newFakeCluster()
	log := NewLog(slog.LevelInfo)
	log.Report(slog.New(log))
	tr := New(Opts{Cluster: cl, Log: log, Quota: quota.New(1 << 20), Name: "test", Host: rendezvous.NewHost(rendezvous.HostOpts{Resolver: &rendezvous.Resolver{Members: cl}, Log: slog.New(log)})})
	return tr, cl
}

func writeCtl(tr *Tree, text string) syscall.Errno {
	n, _ := tr.clusterDir().(folder).child("ctl")
	f := &ctlFile{n.(*ctlNode), caller{uid: 1000, pid: 1}}
	return f.Write(context.Background(), []byte(text), 0)
}

func TestCtl_AllLinesOrNone(t *testing.T) {
	for _, c := range []struct {
		text  string
		errno syscall.Errno
		done  string
	}{
		{"tag a=1\n", 0, "tag a=1"},
		{"tag a=1", 0, "tag a=1"},
		{"\n tag  a=1\t\n\ntag b=\n", 0, "tag a=1; tag b="},
		{"join 10.0.0.1 db:7946 [::1]:7 ::1\nleave", 0, "join [10.0.0.1 db:7946 [::1]:7 ::1]; leave"},
		{"remove web2", 0, "remove web2"},
		{"remove nobody", syscall.ENOENT, ""},
		{"", syscall.EINVAL, ""},
		{"\n\n", syscall.EINVAL, ""},
		{"tag a=1\nrubbish\n", syscall.EINVAL, ""},
		{"tag a=1\ntag a\n", syscall.EINVAL, ""},
		{"tag a=1\nleave now\n", syscall.EINVAL, ""},
		{"tag =1", syscall.EINVAL, ""},
		{"join", syscall.EINVAL, ""},
		{"join a b:0", syscall.EINVAL, ""},
		{"join a:99999", syscall.EINVAL, ""},
		{"join a:b:c", syscall.EINVAL, ""},
		{"join 'a b'", syscall.EINVAL, ""},
		{"tag a=\x00", syscall.EINVAL, ""},
		{"leave\x00", syscall.EINVAL, ""},
		{strings.Repeat("tag a=1\n", maxCtl/8+1), syscall.EMSGSIZE, ""},
	} {
		tr, cl := bareTree(t)
		if e := writeCtl(tr, c.text); e != c.errno {
			t.Errorf("%.60q: got errno %d (%v), want %d", c.text, e, e, c.errno)
		}
		if got := cl.done(); got != c.done {
			t.Errorf("%.60q: carried out %q, want %q", c.text, got, c.done)
		}
	}
}

func TestErrno_EveryKindAndClusterErrorHasItsNumber(t *testing.T) {
	for k := rendezvous.Other; k <= rendezvous.Busy; k++ {
		if kinds[k] == 0 {
			t.Errorf("kind %v has no errno", k)
		}
		err := fmt.Errorf("context: %w", &rendezvous.Error{Op: "dial", Kind: k, Err: errors.New("cause")})
		if got := errno(err); got != kinds[k] {
			t.Errorf("kind %v: got %v, want %v", k, got, kinds[k])
		}
	}
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{errors.New("who knows"), syscall.EIO},
		{&rendezvous.Error{Kind: rendezvous.Timeout, Err: syscall.EHOSTUNREACH}, syscall.EHOSTUNREACH},
		{fmt.Errorf("%w: %w", syscall.EINTR, &rendezvous.Error{Kind: rendezvous.Timeout}), syscall.EINTR},
		{context.Canceled, syscall.EINTR},
		{fmt.Errorf("join: %w", cluster.ErrNoKey), syscall.ENOKEY},
		{fmt.Errorf("join: %w: %w", cluster.ErrNoAnswer, syscall.ECONNREFUSED), syscall.ECONNREFUSED},
		{fmt.Errorf("join: %w", cluster.ErrNoAnswer), syscall.EHOSTUNREACH},
		{fmt.Errorf("join: %w: %w", cluster.ErrForeign, syscall.ECONNRESET), syscall.EKEYREJECTED},
		{cluster.ErrNameTaken, syscall.EEXIST},
		{cluster.ErrAlive, syscall.EBUSY},
		{cluster.ErrInUse, syscall.EBUSY},
		{cluster.ErrUnknownMember, syscall.ENOENT},
		{cluster.ErrInvalid, syscall.EINVAL},
		{cluster.ErrTooLarge, syscall.EMSGSIZE},
		{cluster.ErrClosed, syscall.ESHUTDOWN},
		{&reason{"elsewhere", syscall.ENOENT}, syscall.EACCES},
	} {
		if got := errno(c.err); got != c.want {
			t.Errorf("%v: got %v, want %v", c.err, got, c.want)
		}
	}
}

func TestLog_AUserFillsItOnlySoFast(t *testing.T) {
	g := NewLog(slog.LevelInfo)
	g.Report(slog.New(g))
	now := int64(1000)
	spend := func(uid uint32, want bool, wantDropped int) {
		t.Helper()
		if ok, dropped := g.shared.spend(uid, now); ok != want || dropped != wantDropped {
			t.Errorf("uid %d at %d: got %v, %d; want %v, %d", uid, now, ok, dropped, want, wantDropped)
		}
	}
	for range perUser {
		spend(1000, true, 0)
	}
	spend(1000, false, 0)
	spend(1000, false, 0)
	spend(1001, true, 0)
	now++
	spend(1000, true, 2)
	spend(1000, true, 0)
	for uid := range uint32(5000) {
		g.shared.spend(2000+uid, now+int64(uid))
	}
	if n := len(g.shared.users); n > 1100 {
		t.Errorf("%d users are remembered", n)
	}
}

func TestLog_ForeignTextIsEscapedAndTheSizeBounded(t *testing.T) {
	g := NewLog(slog.LevelInfo)
	g.Report(slog.New(g))
	g.refused(caller{uid: 7}, "open dev/tcp/a\x1b[2J\nlevel=ERROR fake", errors.New("</script>\n\x07"))
	text := string(g.shared.text)
	if strings.Count(text, "\n") != 1 || strings.ContainsAny(text, "\x1b\x07") {
		t.Errorf("the log holds foreign control characters: %q", text)
	}
	for i := range 20000 {
		slog.New(g).Info("line", "number", i, "pad", strings.Repeat("x", 60))
	}
	b := make([]byte, 200)
	if n := g.shared.size(); n > maxLog || n < maxLog/4 {
		t.Errorf("the log holds %d bytes", n)
	}
	if n := g.shared.readAt(b, 0); !strings.HasPrefix(string(b[:n]), "time=") {
		t.Errorf("the log begins in the middle of a line: %q", b[:n])
	}
	last := g.shared.readAt(b, int64(g.shared.size())-50)
	if g.shared.readAt(b, int64(g.shared.size())) != 0 || g.shared.readAt(b, -1) != 0 || last != 50 {
		t.Error("reading at the end or beyond gives something")
	}
}

func FuzzCtl(f *testing.F) {
	for _, s := range []string{"tag a=1\nleave", "join a:1 [::1]:2", "remove web2\n", "rubbish", "tag a=\x00"} {
		f.Add(s)
	}
	tr, cl := bareTree(f)
	f.Fuzz(func(t *testing.T, text string) {
		before := len(cl.calls)
		e := writeCtl(tr, text)
		for len(cl.tagged) > 0 {
			<-cl.tagged
		}
		if done := len(cl.calls) - before; e != 0 && done != 0 || e == 0 && done == 0 {
			t.Errorf("%q: errno %v, and %d commands were carried out", text, e, done)
		}
		cl.calls = nil
	})
}
