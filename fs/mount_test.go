package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster"
	"github.com/convoke-fs/convoke/cluster/watch"
	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous"
)

// fakeCluster is a cluster of as many members as a test wants.
type fakeCluster struct {
	mu      sync.Mutex
	members []cluster.Member // guarded by mu
	calls   []string         // guarded by mu: what ctl asked for
	fail    error            // guarded by mu: what every command returns
	tagged  chan string      // told of each tag command: how a child says that it has come so far
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{tagged: make(chan string, 100), members: []cluster.Member{
		{ID: 1, Name: "web1", Addr: netip.MustParseAddrPort("127.0.0.1:7946"), State: cluster.Alive, In: true, Boot: 3, Version: "devel"},
		{ID: 2, Name: "web2", Addr: netip.MustParseAddrPort("127.0.0.2:7946"), State: cluster.Failed, Boot: 1, Tags: map[string]string{"rack": "b", "os": "linux"}},
	}}
}

func (f *fakeCluster) Self() cluster.Member { return f.Members()[0] }

func (f *fakeCluster) Members() []cluster.Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.members)
}

func (f *fakeCluster) Member(name string) (netip.Addr, bool) {
	for _, m := range f.Members() {
		if m.Name == name {
			return m.Addr.Addr(), true
		}
	}
	return netip.Addr{}, false
}

func (f *fakeCluster) call(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.fail
}

func (f *fakeCluster) Join(_ context.Context, addrs []string) (int, error) {
	return len(addrs), f.call("join %v", addrs)
}
func (f *fakeCluster) Leave(context.Context) error                 { return f.call("leave") }
func (f *fakeCluster) Remove(_ context.Context, name string) error { return f.call("remove %s", name) }
func (f *fakeCluster) SetTag(_ context.Context, key, value string) error {
	f.tagged <- key + "=" + value
	return f.call("tag %s=%s", key, value)
}

func (f *fakeCluster) done() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.calls, "; ")
}

// mounted is a tree at a mount point of its own, served by this process. Only children may use it: a system call of
// this process on its own mount could wait for itself.
type mounted struct {
	t       *testing.T
	dir     string
	tree    *Tree
	server  *kernel.Server
	cluster *fakeCluster
	watch   *watch.Hub
	quota   *quota.Table
	host    *rendezvous.Host
}

// mountTree mounts a tree for the test; change may alter its options.
func mountTree(t *testing.T, change ...func(*Opts)) *mounted {
	t.Helper()
	needFuse(t)
	m := &mounted{t: t, dir: t.TempDir(), cluster: newFakeCluster(), watch: watch.NewHub(), quota: quota.New(1 << 20)}
	log := NewLog(slog.LevelDebug)
	log.Report(slog.New(log))
	fd, mp, err := kernel.Mount(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	m.server, err = kernel.NewServer(fd, kernel.Options{Log: slog.New(log), Quota: m.quota})
	if err != nil {
		t.Fatal(err)
	}
	var in []watch.Member
	for _, w := range m.cluster.members {
		known := watch.Member{ID: w.ID, Name: w.Name, State: w.State.String(), Boot: w.Boot}
		m.watch.Update(known)
		if w.In {
			in = append(in, known)
		}
	}
	m.watch.Ring("12.1", in)
	o := Opts{Dir: mp.Dir, Server: m.server, Cluster: m.cluster, Watch: m.watch, Log: log, Quota: m.quota, Name: "test", Version: "devel"}
	for _, f := range change {
		f(&o)
	}
	m.host = rendezvous.NewHost(rendezvous.HostOpts{
		Resolver: &rendezvous.Resolver{Members: m.cluster}, Log: slog.New(log), Self: "web1", Addr: func() netip.Addr { return netip.MustParseAddr("127.0.0.1") },
		SocketDir: filepath.Join(mp.Dir, "dev/fdp/local"), Unlink: func(name string) { m.tree.UnlinkSocket(name) },
		Limits: HostLimits(m.quota), ForeignNet: o.ForeignNet, DialTimeout: 5 * time.Second,
	})
	o.Host = m.host
	m.tree = New(o)
	m.server.SetTree(m.tree)
	served := make(chan error, 1)
	go func() { served <- m.server.Serve() }()
	t.Cleanup(func() {
		if err := mp.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the server did not end after its tree was unmounted")
		}
		m.host.Close()
		m.tree.Close()
		if t.Failed() {
			t.Logf("cluster/log:\n%s", log.shared.text)
		}
	})
	return m
}

// onTag runs f when a child writes `tag X=Y` to cluster/ctl.
func (m *mounted) onTag(f func()) {
	go func() {
		select {
		case <-m.cluster.tagged:
			f()
		case <-m.t.Context().Done():
		}
	}()
}

// onTags runs functions, each when a child writes `tag X=Y` to cluster/ctl, by Y.
func (m *mounted) onTags(by map[string]func()) {
	go func() {
		for {
			select {
			case tag := <-m.cluster.tagged:
				_, what, _ := strings.Cut(tag, "=")
				by[what]()
			case <-m.t.Context().Done():
				return
			}
		}
	}()
}

// needRoot skips a test that acts as several users, or as root, where nobody else can.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

// needFuse skips a test where nothing can be mounted; in CI that is a failure.
func needFuse(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil {
		f.Close()
		return
	}
	skip(t, "needs /dev/fuse: %v", err)
}

// skip skips a test whose needs this machine has not; in CI that is a failure.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// result is what a child process did.
type result struct {
	out, err string
	code     int
	took     time.Duration
}

// sh runs a script under /bin/sh in the mount point, and kills it after a minute.
func (m *mounted) sh(script string, args ...string) result {
	m.t.Helper()
	return m.run(nil, append([]string{"sh", "-c", script, "sh"}, args...)...)
}

// run runs a program in the mount point.
func (m *mounted) run(change func(*exec.Cmd), argv ...string) result {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `cd "$0" && exec "$@"`, m.dir}, argv...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	if change != nil {
		change(cmd)
	}
	start := time.Now()
	err := cmd.Run()
	r := result{out.String(), errs.String(), 0, time.Since(start)}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		m.t.Errorf("%q hung; stdout %q, stderr %q", argv, r.out, r.err)
		r.code = -1
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		m.t.Fatalf("%q: %v", argv, err)
	}
	return r
}

// want fails the test unless the script printed just that, with status 0.
func (m *mounted) want(script, out string) {
	m.t.Helper()
	if r := m.sh(script); r.out != out || r.code != 0 {
		m.t.Errorf("%s\ngot  %q (status %d, stderr %q)\nwant %q", script, r.out, r.code, r.err, out)
	}
}

// wantErr fails the test unless the script failed and said that on stderr.
func (m *mounted) wantErr(script, text string) {
	m.t.Helper()
	if r := m.sh(script); r.code == 0 || !strings.Contains(r.err, text) {
		m.t.Errorf("%s\ngot status %d, stdout %q, stderr %q\nwant failure with %q", script, r.code, r.out, r.err, text)
	}
}

// listen serves each TCP connection on a loopback port with f, and returns the port.
func listen(t *testing.T, f func(*net.TCPConn)) int {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[*net.TCPConn]bool{}
	wg.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			wg.Go(func() {
				f(c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}
