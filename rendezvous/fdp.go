package rendezvous

import (
	"context"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unixListener accepts the clients of an announced FDP service. The kernel tells who they are; only for those that this
// process connects itself, for its callers, it says that it is this process. Those are known by the names to which
// their sockets are bound.
type unixListener struct {
	a     *Announcement
	file  *os.File
	conn  syscall.RawConn
	net   uint64 // the network namespace of the socket, which is this process's; see netOf
	ended chan struct{}

	mu     sync.Mutex
	claims map[string]*unixClaim // guarded by mu; by the abstract name of the client's socket. nil: ended
}

// A unixClaim is a connection that this process makes for a caller. It outlives no dial, and nobody else's socket has
// the pid of this process, so that its name proves whose it is.
type unixClaim struct {
	peer  Peer
	names []string  // guarded by unixListener.mu; a name for each attempt
	over  bool      // guarded by unixListener.mu; the dial has ended
	used  bool      // guarded by unixListener.mu; the connection was found
	done  chan bool // one value: whether the server has the connection
}

// interruptedBind is how long the making of a socket may go on after a signal.
const interruptedBind = time.Second

// socketName is the name of an announced service's socket in the folder of the sockets.
func (a *Announcement) socketName() string { return a.element + ",sock" }

// listenUnix makes the socket.
func (a *Announcement) listenUnix(ctx context.Context) error {
	if !validElement(a.socketName()) {
		return announceError(a.path, Invalid, unix.ENAMETOOLONG)
	}
	result := make(chan unixResult, 1)
	go func() {
		fd, err := a.bindUnix()
		result <- unixResult{fd, err}
	}()
	var r unixResult
	select {
	case r = <-result:
	case <-ctx.Done():
		select {
		case r = <-result:
			// It took no longer than the signal. To give it up now would only make the caller meet his own name when
			// he tries again.
		case <-time.After(interruptedBind):
			// The folder may be of a file system that does not answer. What comes of it goes again.
			go func() {
				if r := <-result; r.err == nil {
					unix.Close(r.fd)
					a.host.opts.Unlink(a.socketName())
				}
			}()
			return contextError(ctx, "announce", a.path.String())
		}
	}
	if r.err != nil {
		return announceError(a.path, KindOf(r.err), outOfFiles(r.err))
	}
	if a.opts.Raw {
		a.raw = []int{r.fd}
		return nil
	}
	l := &unixListener{a: a, ended: make(chan struct{}), claims: map[string]*unixClaim{}}
	var err error
	if l.net, err = netOf(r.fd); err != nil {
		unix.Close(r.fd)
		a.host.opts.Unlink(a.socketName())
		return announceError(a.path, KindOf(err), err)
	}
	if l.file, l.conn, err = waitable(r.fd, "listener"); err != nil {
		a.host.opts.Unlink(a.socketName())
		return announceError(a.path, KindOf(err), err)
	}
	a.local = l
	return nil
}

// bindUnix makes the socket as the announcer, so that he may and others see it: the name is his, and listen(2) writes
// into it whom a client sees.
func (a *Announcement) bindUnix() (fd int, err error) {
	dir, err := unix.Open(a.host.opts.SocketDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	fd, err = -1, unix.EPERM
	bind := func() { fd, err = a.bindUnixIn(dir) }
	if creds := a.caller.Creds(); creds.own() {
		bind()
	} else {
		effectiveIdentity().run(creds, bind) // if the ids cannot be taken, EPERM stays
	}
	return fd, err
}

func (a *Announcement) bindUnixIn(dir int) (int, error) {
	typ := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	if !a.opts.Raw {
		typ |= unix.SOCK_NONBLOCK
	}
	fd, err := unix.Socket(unix.AF_UNIX, typ, 0)
	if err != nil {
		return -1, err
	}
	// By the descriptor, for sun_path has room for 107 bytes, less than the folder may have.
	path := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + a.socketName()
	if len(path) > 107 {
		unix.Close(fd)
		return -1, unix.ENAMETOOLONG
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if err := a.openSocket(path, fd); err != nil {
		unix.Close(fd)
		a.host.opts.Unlink(a.socketName())
		return -1, err
	}
	return fd, nil
}

// openSocket lets those connect who may. Before listen(2) nobody could.
func (a *Announcement) openSocket(path string, fd int) error {
	mode, uid, gid := a.Mode()
	if uid != a.caller.UID || gid != a.caller.GID {
		if err := unix.Lchown(path, int(uid), int(gid)); err != nil {
			return err
		}
	}
	if err := unix.Chmod(path, mode); err != nil {
		return err
	}
	return unix.Listen(fd, backlog)
}

func (l *unixListener) close() {
	close(l.ended)
	l.file.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.claims {
		if !c.over {
			c.over = true
			c.done <- false
		}
	}
	l.claims = nil
}

func (l *unixListener) serve() {
	backOff(l.conn, l.ended, l.accept, func(err error) {
		l.a.host.opts.Log.Warn("clients cannot be accepted at present", "path", l.a.path.String(), "error", outOfFiles(err))
	})
}

func (l *unixListener) accept() error {
	for {
		var got []int
		var failure error
		err := l.conn.Control(func(fd uintptr) { got, failure = acceptUnix(int(fd)) })
		for _, fd := range got {
			l.arrive(fd)
		}
		switch {
		case err != nil:
			return err
		case failure != nil || len(got) < acceptBatch:
			return failure
		}
	}
}

func acceptUnix(l int) ([]int, error) {
	got, err := acceptAll(l)
	fds := make([]int, len(got))
	for i, x := range got {
		fds[i] = x.fd
	}
	return fds, err
}

// arrive takes a client that was accepted.
func (l *unixListener) arrive(fd int) {
	who, claim, err := l.who(fd)
	if claim != nil {
		ok := l.a.queue.put(&Client{Peer: claim.peer, FD: fd})
		if !ok {
			unix.Close(fd)
		}
		claim.done <- ok
		return
	}
	if err == nil {
		err = mayName("open", who, l.a.path)
	}
	if err == nil && !l.a.queue.hold() {
		err = errFull
	}
	if err != nil {
		unix.Close(fd)
		l.a.host.opts.Log.Debug("client refused", "path", l.a.path.String(), "pid", who.PID, "error", err)
		return
	}
	peer := l.a.host.peerOf(who, "local")
	if l.a.path.Options.Other {
		peer = unproved("local")
	}
	if !l.a.queue.put(&Client{Peer: peer, FD: fd}) {
		unix.Close(fd)
	}
}

// who asks the kernel, and for one whom this process has connected, the claims.
func (l *unixListener) who(fd int) (Caller, *unixClaim, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Caller{}, nil, err
	}
	c := Caller{PID: int(cred.Pid), TGID: int(cred.Pid), UID: cred.Uid, GID: cred.Gid}
	if c.PID == os.Getpid() {
		if claim := l.take(fd); claim != nil {
			return c, claim, nil
		}
		c.PID, c.TGID = 0, 0 // it is for a caller who is not waiting any more
	}
	if !l.a.host.opts.ForeignNet {
		net, err := netOf(fd)
		if err != nil {
			return c, nil, err
		}
		if net != l.net {
			return c, nil, denied("open", l.a.path, "the client is in another network namespace")
		}
	}
	if l.a.path.Options.Group != nil {
		if c.Groups, err = peerGroups(fd); err != nil {
			return c, nil, err
		}
	}
	return c, nil, nil
}

// netOf tells the network namespace of an AF_UNIX socket, by a number that no other one ever has; an accepted socket is
// in that of the client's (net/unix/af_unix.c, unix_stream_connect). This is as it was at connect(2), and known of a
// client that has ended as well, which /proc is not. A client has a socket of this namespace if he was here when he made
// it, or somebody who was has given it to him.
func netOf(fd int) (uint64, error) {
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}

// take finds the claim for an accepted connection, and uses it.
func (l *unixListener) take(fd int) *unixClaim {
	sa, err := unix.Getpeername(fd)
	name, ok := sa.(*unix.SockaddrUnix)
	if err != nil || !ok {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.claims[name.Name]
	if c != nil {
		c.used = true
		l.forget(c)
	}
	return c
}

// forget is called with l.mu held.
func (l *unixListener) forget(c *unixClaim) {
	for _, name := range c.names {
		delete(l.claims, name)
	}
	c.names = nil
}

// claim is called before connect(2), with the name of the client's socket.
func (l *unixListener) claim(c *unixClaim, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.over || l.claims == nil {
		return unix.ECONNREFUSED
	}
	c.names = append(c.names, name)
	l.claims[name] = c
	return nil
}

// unclaim ends a claim, and reports whether it was unused; else its connection is in the queue.
func (l *unixListener) unclaim(c *unixClaim) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.over = true
	l.forget(c)
	return !c.used
}

// dialUnix connects to an announced service of FDP. For the kernel the client is c, but with the pid of this process.
func (a *Announcement) dialUnix(ctx context.Context, c Caller, p Path, timeout time.Duration) (Conn, error) {
	conn := Conn{FD: -1, Node: a.host.opts.Self}
	l := a.local
	if l == nil {
		var err error
		conn.FD, err = DialUnix(ctx, a.host.opts.SocketDir, a.socketName(), c.Creds(), timeout)
		return conn, err
	}
	if !a.queue.hold() {
		return Conn{}, noClient(p, errFull)
	}
	peer := a.host.peerOf(c, "local")
	if p.Options.Other || a.path.Options.Other {
		peer = unproved(peer.Host)
	}
	claim := &unixClaim{peer: peer, done: make(chan bool, 1)}
	fd, err := dialUnix(ctx, a.host.opts.SocketDir, a.socketName(), c.Creds(), timeout, func(name string) error {
		return l.claim(claim, name)
	})
	if err == nil {
		l.accept() // what goes wrong here goes wrong in serve too, where it is logged
		if err = wait(ctx, claim.done, timeout, p); err == nil {
			conn.FD = fd
			return conn, nil
		}
	}
	if l.unclaim(claim) {
		a.queue.give()
	}
	if fd >= 0 {
		unix.Close(fd)
	}
	return Conn{}, err
}
