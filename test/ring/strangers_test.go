package ring

import (
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	clusterpkg "github.com/convoke-fs/convoke/cluster"
	"github.com/convoke-fs/convoke/test/daemon"
)

// sessionAddr is where a node listens for sessions.
func sessionAddr(t testing.TB, n *daemon.Node) string {
	t.Helper()
	host, port, err := net.SplitHostPort(n.Addr)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(host, strconv.Itoa(number+1))
}

// The daemons of another cluster, or with another key, find nobody, and nobody minds them.
func TestStranger_FindsNobody(t *testing.T) {
	t.Parallel()
	c := start(t, 2, clusterOpts{})
	before := c.quorum(0, "ring")
	for name, o := range map[string]daemon.Opts{
		"another key":     {KeyFile: daemon.NewKey(t)},
		"another cluster": {KeyFile: c.key, Cluster: "other"},
	} {
		o.Join = c.nodes
		stranger := daemon.Start(t, o)
		for _, n := range c.nodes {
			if r := stranger.Sh("echo join " + n.Addr + " >cluster/ctl"); r.Code == 0 {
				t.Errorf("%s: the stranger has joined", name)
			}
		}
		if got := stranger.Read("cluster/quorum"); field(got, "votes") != "1" {
			t.Errorf("%s: the stranger sees %s", name, got)
		}
		stranger.Stop()
	}
	c.sameRing(before)
}

// sameRing fails the test unless all nodes are in a ring still.
func (c *cluster) sameRing(ring string) {
	c.t.Helper()
	for i, n := range c.nodes {
		if now := c.quorum(i, "ring"); now != ring {
			c.t.Errorf("%s was in ring %s and is in %s\n%s", n.Name, ring, now, n.Log())
		}
	}
}

// Who knows the port of sessions and not the key is refused there, and that is logged.
func TestStranger_IsRefusedAtThePortOfSessions(t *testing.T) {
	t.Parallel()
	c := start(t, 2, clusterOpts{})
	before := c.quorum(0, "ring")
	at := sessionAddr(t, c.nodes[0])
	own, err := os.ReadFile(c.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, by := range map[string]struct {
		key     []byte
		cluster string
	}{
		"another key":     {clusterpkg.NewKey(), "convoke"},
		"another cluster": {own, "other"},
	} {
		key, err := clusterpkg.ParseKey(by.key)
		if err != nil {
			t.Fatal(err)
		}
		conf, err := key.SessionTLS(by.cluster, "n9")
		if err != nil {
			t.Fatal(err)
		}
		// That the client refuses the server says nothing of the server.
		conf.InsecureSkipVerify, conf.VerifyConnection = true, nil
		conn, err := net.DialTimeout("tcp", at, daemon.Bound)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, name, tls.Client(conn, conf))
	}
	daemon.Eventually(t, daemon.Bound, "cluster/log tells of who was refused", func() bool {
		return strings.Contains(c.nodes[0].Log(), "127.") && strings.Contains(c.nodes[0].Log(), "tls:")
	})
	c.sameRing(before)
}

// Garbage at the port of sessions ends the connection and nothing else.
func TestStranger_SaysGarbage(t *testing.T) {
	t.Parallel()
	c := start(t, 2, clusterOpts{})
	before := c.quorum(0, "ring")
	r := rand.New(rand.NewPCG(1, 3))
	garbage := make([]byte, 64<<10)
	for i := range garbage {
		garbage[i] = byte(r.Uint32())
	}
	hello := append([]byte{22, 3, 1, 255, 255, 1}, garbage...) // the beginning of a TLS handshake that does not end
	for name, text := range map[string][]byte{
		"nothing": nil, "noise": garbage, "http": []byte("GET / HTTP/1.1\r\n\r\n"), "a handshake": hello, "zeros": make([]byte, 1<<20),
		"a frame": {8, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8},
	} {
		for _, n := range c.nodes {
			conn, err := net.DialTimeout("tcp", sessionAddr(t, n), daemon.Bound)
			if err != nil {
				t.Fatal(err)
			}
			refused(t, name, conn, text...)
		}
	}
	c.sameRing(before)
}

// refused fails the test unless the other end closes the connection soon after it was told something. It may say
// something before, as TLS does.
func refused(t *testing.T, name string, conn net.Conn, text ...byte) {
	t.Helper()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(daemon.Bound))
	if t, ok := conn.(*tls.Conn); ok {
		if t.Handshake() != nil {
			return // closed within the handshake
		}
	}
	conn.Write(text) // it may be closed by then
	n, err := io.Copy(io.Discard, conn)
	if nerr, ok := err.(net.Error); ok && nerr.Timeout() || n > 1000 {
		t.Errorf("%s: got %d bytes, then %v; want an end", name, n, err)
	}
}
