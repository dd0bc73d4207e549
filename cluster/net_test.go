package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/watch"
)

// onLoopback is a configuration with real ports, on an address that no other
// test uses.
func onLoopback(t *testing.T, name, addr string) Config {
	return Config{Name: name, Bind: netip.AddrPortFrom(netip.MustParseAddr(addr), 0), Key: testKey,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Watch: watch.NewHub()}
}

// next waits for a record of the kind.
func next(t *testing.T, wake <-chan struct{}, r *watch.Reader) {
	t.Helper()
	for buf := make([]byte, 200); ; {
		if _, ok := r.Read(buf); ok {
			return
		}
		select {
		case <-wake:
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is told for 20 s")
		}
	}
}

func follower(n *Node, kind watch.Kind) (<-chan struct{}, *watch.Reader) {
	wake := make(chan struct{}, 1)
	r := n.hub.Open([]watch.Kind{kind}, 0)
	r.Notify(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	return wake, r
}

func TestNode_OverRealPorts(t *testing.T) {
	for _, ip := range []string{"127.3.7.1", "::1"} {
		t.Run(ip, func(t *testing.T) {
			one, err := Start(t.Context(), onLoopback(t, "one", ip))
			if errors.Is(err, syscall.EADDRNOTAVAIL) && ip == "::1" {
				t.Skip("this host has no IPv6 loopback")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer one.Close()
			joined, rj := follower(one, watch.MemberJoined)
			left, rl := follower(one, watch.MemberLeft)
			two := start(t, onLoopback(t, "two", ip))
			if n, err := two.Join(t.Context(), []string{one.Self().Addr.String()}); n != 1 || err != nil {
				t.Fatalf("Join = %d, %v", n, err)
			}
			next(t, joined, rj)
			if got, ok := one.Member("two"); !ok || got != netip.MustParseAddr(ip) {
				t.Errorf("Member(two) = %v, %v", got, ok)
			}

			// The port is this node's, and free again when it has left.
			addr := two.Self().Addr
			c := onLoopback(t, "three", ip)
			c.Bind = addr
			if _, err := Start(t.Context(), c); err == nil {
				t.Errorf("a second node starts at %s", addr)
			}
			if err := two.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
			next(t, left, rl)
			if conn, err := net.Dial("tcp", addr.String()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("dial after Leave: %v, want ECONNREFUSED", err)
				if err == nil {
					conn.Close()
				}
			}
			if _, err := two.Join(t.Context(), []string{one.Self().Addr.String()}); err != nil {
				t.Fatal(err)
			}
			next(t, joined, rj)
			if now := two.Self().Addr; now != addr {
				t.Errorf("address %v after the second join, want %v as before", now, addr)
			}
		})
	}
}

func TestNode_JoinOfAMutePeer(t *testing.T) {
	n := start(t, onLoopback(t, "one", "127.3.7.2"))
	// It accepts, and closes at once.
	l, err := net.Listen("tcp", "127.3.7.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	if _, err := n.Join(t.Context(), []string{l.Addr().String()}); !errors.Is(err, ErrForeign) {
		t.Errorf("one that hangs up: %v, want ErrForeign", err)
	}
	// It accepts, and says nothing; the caller gives up.
	mute, err := net.Listen("tcp", "127.3.7.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := n.Join(ctx, []string{mute.Addr().String()}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that says nothing: %v, want the context's end", err)
	}
	if _, err := n.Join(t.Context(), []string{mute.Addr().String()}); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("one that says nothing: %v, want ErrNoAnswer", err)
	}
}

func TestStart_TakenPort(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.3.7.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.3.7.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, taken := range []net.Addr{tcp.Addr(), udp.LocalAddr()} {
		c := onLoopback(t, "one", "127.3.7.3")
		c.Bind = netip.MustParseAddrPort(taken.String())
		n, err := Start(t.Context(), c)
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s port: %v, want EADDRINUSE", taken.Network(), err)
		}
		if err == nil {
			n.Close()
		}
	}
}
