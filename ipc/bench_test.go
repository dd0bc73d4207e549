package ipc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// typical measures open, which returns a connected socket, and reports its usual time, without what follows: accept is
// called for each.
func typical(b *testing.B, open func() (int, error), accept func()) {
	times := make([]time.Duration, 0, b.N)
	for b.Loop() {
		begin := time.Now()
		fd, err := open()
		times = append(times, time.Since(begin))
		if err != nil {
			b.Fatal(err)
		}
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // no TIME_WAIT
		unix.Close(fd)
		accept()
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "ns/median")
}

// listenTCP listens on loopback, and accepts and closes a client at each call of accept.
func listenTCP(b *testing.B) (port int, accept func()) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	return l.Addr().(*net.TCPAddr).Port, func() {
		raw.Control(func(fd uintptr) {
			if peer, _, err := unix.Accept(int(fd)); err == nil {
				unix.Close(peer)
			}
		})
	}
}

// BenchmarkConnect is what BenchmarkOpenFD is to be compared with.
func BenchmarkConnect(b *testing.B) {
	port, accept := listenTCP(b)
	to := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	typical(b, func() (int, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		return fd, unix.Connect(fd, to)
	}, accept)
}

// BenchmarkOpenFD has the daemon in another process. "outside" is a service that is not announced, "announced" one that
// a third connection accepts.
func BenchmarkOpenFD(b *testing.B) {
	c := startOther(b)
	b.Run("outside", func(b *testing.B) {
		port, accept := listenTCP(b)
		path := "dev/tcp/127.0.0.1/" + strconv.Itoa(port)
		typical(b, func() (int, error) { return c.OpenFD(context.Background(), path) }, accept)
	})
	b.Run("announced", func(b *testing.B) {
		server, err := c.tree.Dial(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		defer server.Close()
		l, err := server.Announce(b.Context(), "dev/tcp/local/0")
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			for {
				fd, _, err := l.AcceptFD(context.Background())
				if err != nil {
					return // the server's connection has ended
				}
				unix.Close(fd)
			}
		}()
		typical(b, func() (int, error) { return c.OpenFD(context.Background(), l.Path()) }, func() {})
	})
}

// BenchmarkRoundTrip is a request to which there is nothing to do.
func BenchmarkRoundTrip(b *testing.B) {
	c := startOther(b)
	for b.Loop() {
		_, err := c.request(context.Background(), nil, func(tag uint32) []byte {
			return appendHeader(nil, header{op: 99, tag: tag})
		}, nil, nil)
		if !errors.Is(err, unix.ENOSYS) {
			b.Fatal(err)
		}
	}
}

// BenchmarkFdp is a connection without the daemon, "plain" one without this package too.
func BenchmarkFdp(b *testing.B) {
	dir := b.TempDir()
	tree := &Tree{Dir: dir}
	if err := os.MkdirAll(tree.path("dev/fdp/local"), 0o755); err != nil {
		b.Fatal(err)
	}
	path := tree.path("dev/fdp/local/echo,sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	raw, err := l.(*net.UnixListener).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	accept := func() {
		raw.Control(func(fd uintptr) {
			if peer, _, err := unix.Accept(int(fd)); err == nil {
				unix.Close(peer)
			}
		})
	}
	b.Run("plain", func(b *testing.B) {
		to := &unix.SockaddrUnix{Name: path}
		typical(b, func() (int, error) {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return -1, err
			}
			return fd, unix.Connect(fd, to)
		}, accept)
	})
	b.Run("open", func(b *testing.B) {
		c := &Client{tree: tree}
		typical(b, func() (int, error) { return c.OpenFD(context.Background(), "dev/fdp/local/echo") }, accept)
	})
}

// startOther starts a daemon in another process, and connects to it.
func startOther(b *testing.B) *Client {
	dir := b.TempDir()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDaemonOfBenchmarks$")
	cmd.Env = append(os.Environ(), "IPC_BENCH_TREE="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	c, err := (&Tree{Dir: dir}).Dial(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// TestDaemonOfBenchmarks is that process, until its input ends.
func TestDaemonOfBenchmarks(t *testing.T) {
	dir := os.Getenv("IPC_BENCH_TREE")
	if dir == "" {
		t.Skip("is a part of the benchmarks")
	}
	sockets := filepath.Join(dir, "dev/fdp/local")
	h := rendezvous.NewHost(rendezvous.HostOpts{
		Resolver: &rendezvous.Resolver{}, Log: slog.New(slog.DiscardHandler), SocketDir: sockets, Unlink: func(string) {},
	})
	s := NewServer(h, ServerOpts{Groups: newFakeGroups()})
	go s.Serve(listenUnix(t, sockets, "convoke", unix.SOCK_SEQPACKET, 16))
	os.Stdout.WriteString("x")
	os.Stdin.Read(make([]byte, 1))
	s.Close()
	h.Close()
}
