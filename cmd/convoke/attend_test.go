package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// testTime is far more than anything here takes.
const testTime = 100 * time.Second

// fakeListener is an announced path that is an AF_UNIX socket of the test's.
// Its clients are user 1000.
type fakeListener struct {
	*net.UnixListener
	path string
}

func (l fakeListener) Addrs() []netip.AddrPort {
	return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:4711")}
}

func (l fakeListener) AcceptFD(ctx context.Context) (int, rendezvous.Peer, error) {
	stop := context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn, err := l.AcceptUnix()
	if err != nil {
		return -1, rendezvous.Peer{}, err
	}
	defer conn.Close()
	fd, err := dupConn(conn)
	return fd, rendezvous.Peer{Host: "local", PID: 42, UID: 1000, GID: rendezvous.NoID}, err
}

// dupConn returns a descriptor of its own for a connection.
func dupConn(conn *net.UnixConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	controlErr := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 3) })
	return fd, errors.Join(err, controlErr)
}

// announce makes a listener.
func announce(t *testing.T) fakeListener {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return fakeListener{l, path}
}

// dialTo connects to it.
func (l fakeListener) dialTo(t *testing.T) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: l.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(testTime))
	return conn
}

// attended is an attendant that runs.
type attended struct {
	*attendant
	l       fakeListener
	signals chan os.Signal
	stderr  *syncBuffer
	ended   chan error
}

// syncBuffer is a buffer that may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// serving runs serve or recv with a command, until the test's end.
func serving(t *testing.T, opts attendOpts, how func(*attendant) func(context.Context) error, argv ...string) *attended {
	t.Helper()
	if opts.most == 0 {
		opts.most = defaultMax
	}
	crew, err := newCrew(argv, opts.most)
	if err != nil {
		t.Fatal(err)
	}
	l := announce(t)
	s := &attended{l: l, signals: make(chan os.Signal, 4), stderr: &syncBuffer{}, ended: make(chan error, 1)}
	s.attendant = &attendant{c: &call{stderr: s.stderr}, opts: opts, crew: crew, l: l}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ended <- s.run(s.signals, how(s.attendant))
	}()
	t.Cleanup(func() {
		for range 2 {
			select {
			case s.signals <- syscall.SIGTERM:
			default:
			}
		}
		within(t, done, "the end")
	})
	return s
}

// stop sends a signal.
func (s *attended) stop() { s.signals <- syscall.SIGTERM }

// end returns how it ended.
func (s *attended) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(testTime):
		t.Fatal("it has not ended")
		return nil
	}
}

// within waits for c to be closed.
func within(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(testTime):
		t.Fatalf("%s has not come", what)
	}
}

func TestSplitCommand_NeedsOnePathAndACommand(t *testing.T) {
	for _, tc := range []struct {
		args string
		dash int
		want string
	}{
		{"p c -x", 1, ""},
		{"p c", -1, "-- must stand"},
		{"c", 0, "path is missing"},
		{"p q c", 2, "one path only"},
		{"p", 1, "command is missing"},
	} {
		path, argv, err := splitCommand(strings.Fields(tc.args), tc.dash)
		switch {
		case tc.want == "" && (err != nil || path != "p" || len(argv) != 2):
			t.Errorf("%q: got %q, %q, %v", tc.args, path, argv, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%q: got %v, want %q", tc.args, err, tc.want)
		}
	}
}

func TestAnnouncePath_RefusesWhatCannotBeServed(t *testing.T) {
	for path, want := range map[string]error{
		"dev/tcp/local/x":           nil,
		"/dev/tcp/local/x/create":   nil,
		"dev/tcp/local/x,user=1000": nil,
		"dev/udp/local/x":           syscall.EOPNOTSUPP,
		"dev/fdp/local/x":           nil,
	} {
		p, err := announcePath(path, rendezvous.TCP, rendezvous.FDP)
		if !errors.Is(err, want) || err == nil && p.Options.Create {
			t.Errorf("%s: got %v, %v, want %v", path, p, err, want)
		}
	}
	_, err := announcePath("dev/tcp/local/x", rendezvous.FDP)
	if !errors.Is(err, syscall.EOPNOTSUPP) || !strings.Contains(explain(err), "dev/fdp/local") {
		t.Errorf("descriptors by tcp: got %v, %q", err, explain(err))
	}
	if _, err := announcePath("dev/tcp/local/x,now", rendezvous.TCP); exitStatus(err) != exitUsage {
		t.Errorf("now: got %v, want wrong usage", err)
	}
}

func TestExplainAnnounce_SaysWhatToDo(t *testing.T) {
	p, err := rendezvous.Parse("dev/tcp/web2/x,nightly")
	if err != nil {
		t.Fatal(err)
	}
	for errno, want := range map[syscall.Errno]string{
		syscall.EADDRINUSE: "see ls dev/tcp/local",
		syscall.EROFS:      "dev/tcp/local/x,nightly",
		syscall.ENOSPC:     "",
	} {
		got := explainAnnounce(p, fmt.Errorf("x: %w", errno))
		if !errors.Is(got, errno) || !strings.Contains(explain(got), want) {
			t.Errorf("%v: got %v, %q", errno, got, explain(got))
		}
	}
}

func TestAnnounced_ServiceZeroTellsItsPort(t *testing.T) {
	for path, want := range map[string]string{"dev/tcp/local/0,nightly": "dev/tcp/local/4711,nightly\n", "dev/tcp/local/x": ""} {
		p, err := rendezvous.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		a := &attendant{c: &call{stdout: &stdout, stderr: &stderr}, opts: attendOpts{verbose: true}, l: fakeListener{}}
		if err := a.announced(p); err != nil || stdout.String() != want || !strings.HasSuffix(stderr.String(), " at 127.0.0.1:4711\n") {
			t.Errorf("%s: got %v, %q, %q", path, err, &stdout, &stderr)
		}
	}
}

func TestOwnEnv_SaysNothingOfAnotherClient(t *testing.T) {
	t.Setenv("CONVOKE_PEER_UID", "0")
	t.Setenv("CONVOKE_FDS", "3")
	t.Setenv("CONVOKE_MOUNT", "/here")
	env := strings.Join(ownEnv(), "\n")
	if strings.Contains(env, "CONVOKE_PEER") || strings.Contains(env, "CONVOKE_FDS") || !strings.Contains(env, "CONVOKE_MOUNT=/here") {
		t.Errorf("got %s", env)
	}
}
