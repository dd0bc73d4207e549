package rendezvous

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// starter is a Launcher that has one server.
type starter struct {
	service  string
	owner    uint32
	start    func(c Caller, p Path) error
	accepted error
	calls    []string
}

func (s *starter) Owner(p Path) (uint32, bool) { return s.owner, p.Service == s.service }

func (s *starter) Start(_ context.Context, c Caller, p Path) error {
	s.calls = append(s.calls, "start "+p.Element())
	return s.start(c, p)
}

func (s *starter) Accepted(_ context.Context, p Path) error {
	s.calls = append(s.calls, "accepted "+p.Element())
	return s.accepted
}

// A server that was started may not have accepted yet when others find its announcement.
func TestHost_WaitsForTheFirstAccept(t *testing.T) {
	needRoot(t)
	checkFDs(t)
	h := newHost(t)
	refused := &Error{Op: "start", Kind: Refused, Err: unix.ECONNREFUSED}
	s := &starter{service: "cold", owner: 1000, accepted: refused}
	h.SetLauncher(s)
	for _, proto := range []string{"tcp", "fdp"} {
		p := parsed(t, "dev/"+proto+"/local/cold,night")
		a, err := h.Announce(t.Context(), callerOf(t, 1000), p, AnnounceOpts{Raw: true, Server: true})
		if err != nil {
			t.Fatal(err)
		}
		paths := []string{p.String()}
		if proto == "tcp" {
			paths = append(paths, "dev/tcp/local/"+strconv.Itoa(int(a.Addrs()[0].Port())))
		}
		open := func(path string, want unix.Errno, calls ...string) {
			t.Helper()
			s.calls = nil
			conn, err := h.Open(t.Context(), callerOf(t, 1001), parsed(t, path))
			if want == 0 && err == nil {
				unix.Close(conn.FD)
			} else {
				wantHost(t, path, err, want)
			}
			if !slices.Equal(s.calls, calls) {
				t.Errorf("%s: got calls %q, want %q", path, s.calls, calls)
			}
		}
		for _, path := range paths {
			s.accepted = refused
			open(path+",now", 0) // nothing is waited for, and nothing learnt
			open(path, unix.ECONNREFUSED, "accepted cold,night")
			open(path, unix.ECONNREFUSED, "accepted cold,night")
		}
		s.accepted = nil
		open(paths[len(paths)-1], 0, "accepted cold,night")
		s.accepted = refused
		open(paths[0], 0)
		a.Close()
	}
}

// What a client meets depends on when exactly the listening socket goes; it is told the same.
func TestHost_ServerThatEndsDuringTheConnect(t *testing.T) {
	h := newHost(t)
	c := me(t)
	p := parsed(t, "dev/tcp/local/convoke-test")
	a, err := h.Announce(t.Context(), c, p, AnnounceOpts{Raw: true, Server: true})
	if err != nil {
		t.Fatal(err)
	}
	dial := func(errno unix.Errno) error { return &Error{Op: "dial", Kind: errnoKind(errno), Err: errno} }
	for _, errno := range []unix.Errno{unix.ECONNRESET, unix.ENOENT} {
		_, err := h.served(t.Context(), p, a, Conn{}, dial(errno))
		wantHost(t, errno.Error(), err, unix.ECONNREFUSED)
		if !errors.Is(err, errServerEnded) {
			t.Errorf("%v: got %v", errno, err)
		}
	}
	for _, errno := range []unix.Errno{unix.EINTR, unix.ETIMEDOUT, unix.EMFILE, unix.ECONNREFUSED} {
		if _, err := h.served(t.Context(), p, a, Conn{}, dial(errno)); !errors.Is(err, errno) || errors.Is(err, errServerEnded) {
			t.Errorf("%v: got %v", errno, err)
		}
	}
	a.Close()
	if _, err := h.served(t.Context(), p, a, Conn{}, dial(unix.ECONNREFUSED)); !errors.Is(err, errServerEnded) {
		t.Errorf("after Close: got %v", err)
	}
}

// The instances of root's server run as their users, and the name stays root's.
func TestHost_InstancesOfRootsServer(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	s := &starter{service: "submission"} // in the system's table
	h.SetLauncher(s)
	for _, proto := range []string{"tcp", "fdp"} {
		for _, tt := range []struct {
			path string
			uid  uint32
			o    AnnounceOpts
			want unix.Errno
		}{
			{"submission,user=1001", 1001, AnnounceOpts{Server: true}, 0},
			{"submission,user=1002", 1002, AnnounceOpts{Server: true}, 0},
			{"submission,user=1001", 1001, AnnounceOpts{Server: true}, unix.EADDRINUSE},
			{"submission,night", 0, AnnounceOpts{Server: true}, 0},
			{"submission,user=1003", 1003, AnnounceOpts{Server: true}, 0},
			{"submission,user=1004", 1004, AnnounceOpts{}, unix.EACCES},
			{"submission,user=1001,day", 1001, AnnounceOpts{}, unix.EACCES},
			{"submission,day", 1001, AnnounceOpts{Server: true}, unix.EACCES},
			{"submission,group=1001", 1001, AnnounceOpts{Server: true}, unix.EACCES},
			{"submission,user=1001,day", 1002, AnnounceOpts{Server: true}, unix.EACCES},
		} {
			s.owner = 0
			path := "dev/" + proto + "/local/" + tt.path
			a, err := h.Announce(t.Context(), callerOf(t, tt.uid), parsed(t, path), tt.o)
			if tt.want != 0 {
				wantHost(t, path, err, tt.want)
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			t.Cleanup(a.Close)
			if got := a.Caller().UID; got != tt.uid {
				t.Errorf("%s: it is announced as uid %d", path, got)
			}
			for _, l := range a.listeners {
				var st unix.Stat_t
				if err := unix.Fstat(int(l.file.Fd()), &st); err != nil || st.Uid != tt.uid {
					t.Errorf("%s: the socket is of uid %d, %v", path, st.Uid, err)
				}
			}
		}
		// A user's own server is nobody else's, whatever instance is asked for.
		s.owner = 1000
		path := "dev/" + proto + "/local/submission,user=1005"
		_, err := h.Announce(t.Context(), callerOf(t, 1005), parsed(t, path), AnnounceOpts{Server: true})
		wantHost(t, path, err, unix.EACCES)
	}
}

func TestHost_StartsWhatNobodyAnnounces(t *testing.T) {
	needRoot(t)
	checkFDs(t)
	h := newHost(t)
	var a *Announcement
	s := &starter{service: "cold", owner: 1000}
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
	h.SetLauncher(&starter{service: "cold", owner: 1000})
	ssh := newHost(t)
	ssh.SetLauncher(&starter{service: "submission", owner: 1000}) // port 587
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
