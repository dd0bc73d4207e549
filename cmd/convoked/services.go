package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/cluster"
	"github.com/convoke-fs/convoke/fs"
	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/rendezvous"
	"github.com/convoke-fs/convoke/rendezvous/launch"
)

// services is what this node offers to its users beside the tree: what is announced on it, the servers that it starts,
// and the daemon's socket.
type services struct {
	host     *rendezvous.Host
	node     *cluster.Node
	launcher *launch.Launcher
	server   *ipc.Server
	tree     *fs.Tree // set by serve, before anything is announced
	log      *slog.Logger
	runDir   string
	ended    chan error // of each listening socket that is served
	sockets  int
}

// socketName is the daemon's socket in the run folder and in dev/fdp/local.
const (
	runSocket  = "socket"
	treeSocket = "convoke"
)

func newServices(c *config, node *cluster.Node, mountDir string, limits *quota.Table, file *fs.Log, log *slog.Logger) *services {
	s := &services{node: node, log: log, runDir: c.runDir, ended: make(chan error, 2)}
	s.host = rendezvous.NewHost(rendezvous.HostOpts{
		Resolver:   &rendezvous.Resolver{Members: node},
		Log:        log,
		Addr:       func() netip.Addr { return announceAddr(c, node.Self().Addr.Addr()) },
		Self:       c.name,
		SocketDir:  filepath.Join(mountDir, "dev/fdp/local"),
		Unlink:     func(name string) { s.tree.UnlinkSocket(name) },
		Limits:     fs.HostLimits(limits),
		ForeignNet: c.foreignNet == "allow",
	})
	s.launcher = launch.New(launch.Opts{Host: s.host, Log: log, Dirs: c.lib, Self: c.name})
	s.host.SetLauncher(s.launcher)
	s.server = ipc.NewServer(s.host, ipc.ServerOpts{
		Take:    func(uid uint32) bool { return limits.Take(uid, quota.Sockets, 1) },
		Give:    func(uid uint32) { limits.Give(uid, quota.Sockets, 1) },
		Refused: file.Refuse,
		Log:     log,
		Groups:  &socketGroups{groups: node.Groups(), foreignNet: c.foreignNet == "allow"},
	})
	return s
}

// announceAddr is where services listen beside loopback. A node without a key has no network: what it announces is for
// this host.
func announceAddr(c *config, addr netip.Addr) netip.Addr {
	if c.keyFile == "" && !c.insecure && !addr.IsLoopback() {
		return netip.Addr{}
	}
	return addr
}

// canStart tells whether a path of fdp leads to a server that can be started.
func (s *services) canStart(p rendezvous.Path) bool {
	_, ok := s.launcher.Owner(p)
	return ok
}

func (s *services) metrics() []fs.Metric {
	started, served := s.launcher.Stats(), s.server.Stats()
	return append(ringMetrics(s.node.RingStatus(), s.node.Groups().Stats()), []fs.Metric{
		{Name: "convoke_server_starts_total", Kind: "counter", Help: "Servers started on demand.", Value: int64(started.Starts)},
		{Name: "convoke_server_failures_total", Kind: "counter", Help: "Starts that failed, and servers that ended badly.", Value: int64(started.Failures)},
		{Name: "convoke_servers", Kind: "gauge", Help: "Processes of started servers.", Value: int64(started.Running)},
		{Name: "convoke_socket_clients", Kind: "gauge", Help: "Clients of the daemon's socket.", Value: int64(served.Connections)},
		{Name: "convoke_socket_opens_total", Kind: "counter", Help: "Connections handed over by the daemon's socket.", Value: int64(served.Opens)},
		{Name: "convoke_socket_accepts_total", Kind: "counter", Help: "Waiting clients handed over by the daemon's socket.", Value: int64(served.Accepts)},
	}...)
}

// open serves the daemon's socket in the run folder and, through the mount, in the tree.
func (s *services) open(mountDir string) error {
	inRun := filepath.Join(s.runDir, runSocket)
	if err := os.Remove(inRun); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("run folder: %w", err) // of a daemon that was killed; ours is the lock
	}
	for _, at := range [][2]string{{s.runDir, runSocket}, {filepath.Join(mountDir, "dev/fdp/local"), treeSocket}} {
		fd, err := listenAt(at[0], at[1])
		if err != nil {
			return fmt.Errorf("the daemon's socket in %s: %w", at[0], err)
		}
		s.sockets++
		go func() { s.ended <- s.server.Serve(fd) }()
	}
	return nil
}

// close ends everything; started servers get a few seconds.
func (s *services) close() {
	s.server.Close()
	for range s.sockets {
		<-s.ended
	}
	s.launcher.Close()
	s.host.Close()
	_ = os.Remove(filepath.Join(s.runDir, runSocket))
}

// listenAt binds a socket for everybody. The folder is named by a descriptor, since a socket's path has at most 107
// bytes.
func listenAt(dir, name string) (fd int, err error) {
	folder, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(folder)
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	path := "/proc/self/fd/" + strconv.Itoa(folder) + "/" + name
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	if err == nil {
		err = unix.Chmod(path, 0o666)
	}
	if err == nil {
		err = unix.Listen(fd, 1024)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
