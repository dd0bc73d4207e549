package ipc

import (
	"context"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// atDefault makes tree the default mount of this test.
func atDefault(t *testing.T, tree *Tree) {
	t.Helper()
	t.Setenv(MountEnv, tree.Dir)
	old := shared.locate
	shared.locate = func(mount string) (*Tree, error) { return &Tree{Dir: mount}, nil }
	t.Cleanup(func() {
		shared.locate = old
		if c, ok := shared.byDir.LoadAndDelete(tree.Dir); ok {
			c.(*Client).Close()
		}
	})
}

func TestOpen_SharesOneConnectionAndMakesItAgain(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	d := startDaemon(t, h, ServerOpts{})
	atDefault(t, d.Tree)
	talk := func() {
		t.Helper()
		conn, err := Open(soon(t), "dev/tcp/web/echo")
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		unix.Close(<-h.opened)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(talk)
	}
	all.Wait()
	if n := d.Stats().Connections; n != 1 {
		t.Errorf("got %d connections, want one", n)
	}
	for range 3 { // the daemon is restarted
		d.Server.Close()
		_, err := Open(soon(t), "dev/tcp/web/echo")
		if rendezvous.KindOf(err) != rendezvous.Unavailable {
			t.Errorf("without a daemon: got %v", err)
		}
		d = startDaemonAt(t, d.Tree, h, ServerOpts{})
		talk()
		l, err := Announce(soon(t), "dev/tcp/local/echo")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if n := d.Stats().Connections; n != 1 {
			t.Errorf("after a restart: got %d connections, want one", n)
		}
	}
}

func TestOpen_WhatIsNoPathAsksNobody(t *testing.T) {
	t.Setenv(MountEnv, "/nowhere")
	if _, err := Open(context.Background(), "dev/tcp"); rendezvous.KindOf(err) != rendezvous.Invalid {
		t.Errorf("got %v, want Invalid", err)
	}
}
