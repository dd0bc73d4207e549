package rendezvous

import (
	"context"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// starter is a Launcher that has one server, of uid 1000.
type starter struct {
	service  string
	start    func(c Caller, p Path) error
	accepted error
	calls    []string
}

func (s *starter) Owner(p Path) (uint32, bool) { return 1000, p.Service == s.service }

func (s *starter) Start(_ context.Context, c Caller, p Path) error {
	s.calls = append(s.calls, "start "+p.Element())
	return s.start(c, p)
}

func (s *starter) Accepted(_ context.Context, p Path) error {
	s.calls = append(s.calls, "accepted "+p.Element())
	return s.accepted
}

func TestHost_StartsWhatNobodyAnnounces(t *testing.T) {
	needRoot(t)
	checkFDs(t)
	h := newHost(t)
	var a *Announcement
	s := &starter{service: "cold"}
	s.start = func(_ Caller, p Path) (err error) {
		p.Host = "local"
		a, err = h.Announce(t.Context(), callerOf(t, 1000), p, AnnounceOpts{Raw: true, Server: true})
		return err
	}
	h.SetLauncher(s)
	open := func(path string, want unix.Errno) {
		t.Helper()
		conn, err := h.Open(t.Context(), callerOf(t, 1001), parsed(t, path))
		if want != 0 {
			wantHost(t, path, err, want)
			return
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		unix.Close(conn.FD)
	}
	wantCalls := func(want ...string) {
		t.Helper()
		if !slices.Equal(s.calls, want) {
			t.Errorf("got %q, want %q", s.calls, want)
		}
		s.calls = nil
	}
	for path, cold := range map[string]unix.Errno{
		"dev/tcp/local/cold": unix.ECONNREFUSED, "dev/tcp/share/cold": unix.ENOENT, "dev/fdp/local/cold": unix.ENOENT,
		"dev/udp/local/cold": 0, // nobody is asked until a datagram is sent
	} {
		open(path+",test", cold)
		wantCalls()
		open(path, 0)
		wantCalls("start cold", "accepted cold")
		open(path, 0) // it is announced now
		wantCalls()
		a.Close()
	}
	open("dev/tcp/local/warm", unix.ECONNREFUSED)
	open("dev/udp/127.0.0.9/cold", 0) // another host's, for all that is known here
	wantCalls()
	open("dev/tcp/local/cold,night", 0)
	wantCalls("start cold,night", "accepted cold,night")
	a.Close()

	s.accepted = &Error{Op: "start", Kind: Refused, Err: unix.ECONNREFUSED}
	open("dev/tcp/local/cold", unix.ECONNREFUSED)
	a.Close()
	s.accepted = nil
	s.start = func(Caller, Path) error { return nil } // and ends at once
	open("dev/tcp/local/cold", unix.ECONNREFUSED)
	s.start = func(Caller, Path) error { return &Error{Op: "start", Kind: NotExist} }
	open("dev/tcp/local/cold", unix.ECONNREFUSED) // what the computed port says
	open("dev/tcp/local/cold,night", unix.ENOENT)
	open("dev/fdp/local/cold", unix.ENOENT)
	s.start = func(Caller, Path) error { return &Error{Op: "start", Kind: Permission, Err: unix.EACCES} }
	open("dev/tcp/local/cold", unix.EACCES)

	// A socket that a server has bound by itself needs no start, and one that a server has left does not hold it up.
	s.calls = nil
	l := listenUnix(t, h.opts.SocketDir, "cold", unix.SOCK_STREAM, 5)
	open("dev/fdp/local/cold", 0)
	wantCalls()
	unix.Shutdown(l, unix.SHUT_RD)
	open("dev/fdp/local/cold", unix.EACCES)
	wantCalls("start cold")
}

// The name of a server that can be started is its owner's.
func TestHost_NamesOfServersAreTheirOwners(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	h.SetLauncher(&starter{service: "cold"})
	ssh := newHost(t)
	ssh.SetLauncher(&starter{service: "submission"}) // port 587
	for _, tt := range []struct {
		h    *Host
		path string
		by   Caller
		o    AnnounceOpts
		want unix.Errno
	}{
		{h, "dev/tcp/local/cold", callerOf(t, 1001), AnnounceOpts{}, unix.EACCES},
		{h, "dev/tcp/local/cold,night", callerOf(t, 1001), AnnounceOpts{Server: true}, unix.EACCES},
		{h, "dev/tcp/local/cold", callerOf(t, 1000), AnnounceOpts{}, 0},
		{h, "dev/tcp/local/cold", me(t), AnnounceOpts{}, 0},
		{h, "dev/fdp/local/cold", callerOf(t, 1000), AnnounceOpts{Server: true}, 0},
		{ssh, "dev/tcp/local/submission,night", callerOf(t, 1000), AnnounceOpts{}, unix.EACCES},
		{ssh, "dev/tcp/local/submission,night", callerOf(t, 1000), AnnounceOpts{Server: true}, 0},
		{ssh, "dev/tcp/local/submission", callerOf(t, 1000), AnnounceOpts{Server: true}, unix.EACCES}, // for its port
		{ssh, "dev/tcp/local/ssh,night", callerOf(t, 1000), AnnounceOpts{Server: true}, unix.EACCES},
	} {
		a, err := tt.h.Announce(t.Context(), tt.by, parsed(t, tt.path), tt.o)
		if err == nil {
			a.Close()
		}
		if tt.want != 0 || err != nil {
			wantHost(t, tt.path, err, tt.want)
		}
	}
}

func TestHost_RawSocketsAreHandedOver(t *testing.T) {
	checkFDs(t)
	h := newHost(t)
	c := me(t)
	for _, proto := range []string{"tcp", "udp"} {
		a, err := h.Announce(t.Context(), c, parsed(t, "dev/"+proto+"/local/convoke-test,create"), AnnounceOpts{Raw: true})
		if err != nil {
			t.Fatal(err)
		}
		conn := mustOpen(t, h, c, "dev/"+proto+"/local/convoke-test")
		if len(a.Listeners()) != 1 || len(a.Addrs()) != 1 {
			t.Fatalf("%s: got %v at %v", proto, a.Listeners(), a.Addrs())
		}
		fd := a.Listeners()[0]
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("%s: flags %#x, %v, want a blocking one", proto, flags, err)
		}
		if proto == "tcp" {
			exchange(t, conn.FD, accept(t, fd))
		} else {
			send(t, conn.FD, "hello")
			if got := readSome(t, fd); got != "hello" {
				t.Errorf("got %q", got)
			}
		}
		if a.Ready() || a.Waiting() > 0 {
			t.Errorf("%s: a raw one has clients", proto)
		}
		for _, option := range []string{"user", "group"} {
			_, err = h.Announce(t.Context(), c, parsed(t, "dev/"+proto+"/local/own,create,"+option), AnnounceOpts{Raw: true})
			wantHost(t, option, err, unix.EOPNOTSUPP)
		}
		a.Close()
		if _, err := a.Next(); err == unix.EAGAIN || !a.Ready() {
			t.Errorf("after Close: got %v", err)
		}
	}
}
