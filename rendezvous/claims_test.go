package rendezvous

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// claimWorld is a kernel with few ports, clients that come through the Host and others that do not, in any order that
// can be.
type claimWorld struct {
	t     *testing.T
	rand  *rand.Rand
	s     *claims
	conns []*worldConn          // by number; the descriptors of its ends are 2n for the server's and 2n+1 for the client's
	ports map[uint16]*worldConn // who has a port now
	queue []*worldConn          // connected and not accepted
	dials []*worldDial          // going on
}

type worldConn struct {
	n       int
	port    uint16
	owner   uint32 // NoID: an outsider
	alive   bool
	decided int
}

type worldDial struct {
	uid   uint32
	claim *claim
	conn  *worldConn
	step  int
	over  bool
}

func (w *claimWorld) established(fd int) bool { return w.conns[fd/2].alive }

// connect is connect(2), nil where no port is left.
func (w *claimWorld) connect(owner uint32) *worldConn {
	port := uint16(1 + w.rand.IntN(4))
	if w.ports[port] != nil {
		return nil
	}
	c := &worldConn{n: len(w.conns), port: port, owner: owner, alive: true}
	w.conns = append(w.conns, c)
	w.ports[port] = c
	w.queue = append(w.queue, c)
	return c
}

// close resets a connection, so that its port is free.
func (w *claimWorld) close(c *worldConn) {
	if c.alive {
		c.alive = false
		delete(w.ports, c.port)
	}
}

func worldAddr(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

func (w *claimWorld) judge(verdicts []verdict) {
	for _, v := range verdicts {
		c := w.conns[v.fd/2]
		c.decided++
		switch {
		case v.claim != nil:
			if c.owner != v.claim.peer.UID || v.dead {
				w.t.Errorf("connection %d of %d is taken for one of %d", c.n, c.owner, v.claim.peer.UID)
			}
			v.claim.done <- true
		case c.owner != NoID && c.alive && w.dialling(c):
			w.t.Errorf("connection %d of %d is taken for an outsider's (dead: %v)", c.n, c.owner, v.dead)
		}
	}
}

// dialling tells whether the client still waits for c.
func (w *claimWorld) dialling(c *worldConn) bool {
	return slices.ContainsFunc(w.dials, func(d *worldDial) bool { return d.conn == c && !d.over })
}

func (w *claimWorld) step(what int) {
	switch what {
	case 0:
		uid := uint32(1000 + w.rand.IntN(5))
		w.dials = append(w.dials, &worldDial{uid: uid, claim: w.s.begin(Peer{UID: uid})})
	case 1: // an outsider, mostly one who is gone at once
		if c := w.connect(NoID); c != nil && w.rand.IntN(3) > 0 {
			w.close(c)
		}
	case 2: // an outsider goes
		for _, c := range w.ports {
			if c.owner == NoID {
				w.close(c)
				break
			}
		}
	case 3:
		if len(w.queue) > 0 {
			c := w.queue[0]
			w.queue = w.queue[1:]
			w.judge(w.s.arrive(2*c.n, worldAddr(c.port)))
		}
	default:
		if len(w.dials) > 0 {
			i := w.rand.IntN(len(w.dials))
			if w.advance(w.dials[i]) {
				w.dials = slices.Delete(w.dials, i, i+1)
			}
		}
	}
}

// advance takes a dial one step further, and reports whether it is over.
func (w *claimWorld) advance(d *worldDial) bool {
	end := func() bool {
		d.over = true
		verdicts, unused := w.s.end(d.claim)
		w.judge(verdicts)
		if d.conn != nil {
			w.close(d.conn)
		}
		if !unused && len(d.claim.done) == 0 {
			w.t.Error("a used claim has no result")
		}
		return true
	}
	if w.rand.IntN(20) == 0 {
		return end() // interrupted
	}
	switch d.step {
	case 0:
		if d.conn = w.connect(d.uid); d.conn == nil {
			return end()
		}
	case 1:
		w.judge(w.s.tell(d.claim, worldAddr(d.conn.port)))
	case 2:
		w.judge(w.s.connected(d.claim, 2*d.conn.n+1))
	case 3:
		if w.rand.IntN(10) == 0 {
			w.close(d.conn) // the server's kernel resets it; the port is free, while the dial goes on
		}
	default:
		select {
		case ok := <-d.claim.done:
			if ok && d.conn.decided != 1 {
				w.t.Errorf("the client of connection %d is told that it was accepted", d.conn.n)
			}
			if !ok && d.conn.alive {
				w.t.Errorf("the client of connection %d is refused", d.conn.n)
			}
			verdicts, _ := w.s.end(d.claim)
			w.judge(verdicts)
			w.close(d.conn)
			return true
		default:
			if !d.conn.alive {
				return end() // else for ever
			}
		}
		return false
	}
	d.step++
	return false
}

func TestClaims_NoOrderOfEventsMixesUpClients(t *testing.T) {
	for seed := range uint64(400) {
		w := &claimWorld{t: t, rand: rand.New(rand.NewPCG(seed, 0)), s: newClaims(), ports: map[uint16]*worldConn{}}
		w.s.established = w.established
		for range 500 {
			w.step(w.rand.IntN(6))
		}
		// At the end all dials end, and all is accepted.
		for len(w.dials) > 0 || len(w.queue) > 0 {
			w.step(2 + w.rand.IntN(4))
		}
		for _, c := range w.conns {
			if c.decided != 1 {
				t.Errorf("seed %d: connection %d was decided %d times", seed, c.n, c.decided)
			}
		}
		if len(w.s.known) > 0 || len(w.s.early) > 0 || len(w.s.told) > 0 || w.s.low != w.s.begun {
			t.Errorf("seed %d: left over: %v %v %v", seed, w.s.known, w.s.early, w.s.told)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// Clients of several users and outsiders come at once, in a network namespace with so few ports that each is used by many
// of them. Everybody says who he is; the server compares that with what it is told.
func TestHost_IdentitiesAreNeverMixedUp(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	checkFDs(t)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40031"), 0); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	a := mustAnnounce(t, h, callerOf(t, 1000), "dev/tcp/local/7000,create")
	to := a.Addrs()[0]
	const clients = 3000
	proved, outsiders := 0, 0
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := nextOf(context.Background(), a)
			if err != nil {
				return
			}
			said := readWhole(c.FD)
			reset(c.FD)
			if said == "" {
				continue // was gone before it said anything
			}
			want := fmt.Sprintf("%d %d", c.UID, c.PID)
			switch {
			case c.PID != 0:
				proved++
			case c.UID == NoID: // root, or one that was gone when the kernel was asked
				outsiders++
				want, _, _ = strings.Cut(said, " ")
				said, _, _ = strings.Cut(said, " ")
				if want != "outsider" {
					t.Errorf("%q is shown as %+v", said, c.Peer)
				}
			default:
				outsiders++
				want = fmt.Sprintf("outsider %d", c.UID)
			}
			if said != want {
				t.Errorf("%q is shown as %+v", said, c.Peer)
			}
		}
	}()
	var wg sync.WaitGroup
	next := make(chan uint64)
	for range 12 {
		wg.Go(func() {
			for seed := range next {
				r := rand.New(rand.NewPCG(seed, 1))
				uid := uint32(1000 + r.IntN(5))
				if r.IntN(2) == 0 {
					outsider(t, r, uid, to)
					continue
				}
				who := callerOf(t, uid)
				who.TGID = int(seed + 1)
				conn, err := h.Open(context.Background(), who, parsed(t, "dev/tcp/local/7000"))
				if err != nil {
					continue // no port is free
				}
				unix.Write(conn.FD, fmt.Appendf(nil, "%d %d", uid, who.TGID))
				unix.Shutdown(conn.FD, unix.SHUT_WR)
				readWhole(conn.FD)
				reset(conn.FD)
			}
		})
	}
	for seed := range uint64(clients) {
		next <- seed
	}
	close(next)
	wg.Wait()
	a.Close()
	<-served
	t.Logf("%d proved, %d not", proved, outsiders)
	if proved < clients/20 || outsiders < clients/20 {
		t.Errorf("too few have come through: %d proved and %d not", proved, outsiders)
	}
}

// outsider comes by itself, says so and mostly resets the connection at once, so that somebody else has its port soon.
func outsider(t *testing.T, r *rand.Rand, uid uint32, to netip.AddrPort) {
	said := "outsider " + strconv.Itoa(int(uid))
	if r.IntN(4) == 0 {
		uid, said = 0, "outsider 0"
	}
	conn, err := dialTCP(context.Background(), DialOpts{Creds: Creds{UID: uid, GID: uid}}, to)
	if err != nil {
		return
	}
	unix.Write(conn.FD, []byte(said))
	if r.IntN(3) > 0 {
		unix.Shutdown(conn.FD, unix.SHUT_WR)
		readWhole(conn.FD)
	}
	reset(conn.FD)
}

// readWhole reads up to the end.
func readWhole(fd int) string {
	var all []byte
	buf := make([]byte, 256)
	for {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds[:], 10000); err == unix.EINTR {
			continue
		} else if n != 1 {
			return "nothing came"
		}
		n, err := unix.Read(fd, buf)
		if n <= 0 || err != nil {
			return string(all)
		}
		all = append(all, buf[:n]...)
	}
}
