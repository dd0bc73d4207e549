package main

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

const testSize = 3<<20 + 7 // no multiple of a block

// The test program is also the client and the peer.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if f, ok := roles[os.Args[1]]; ok {
			work(f, os.Args[2:])
		}
	}
	os.Exit(m.Run())
}

func testPeer(t *testing.T) *peerProcess {
	t.Helper()
	p, err := startPeer(t.Context(), testSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

func TestPeer_CountsWhatClientsSendAndReceive(t *testing.T) {
	p := testPeer(t)
	for role, port := range map[string]int{"send": p.sink, "recv": p.source} {
		if _, _, err := runRole(t.Context(), role, fmt.Sprintf("tcp:%d", port), "65536", strconv.Itoa(testSize)); err != nil {
			t.Fatal(err)
		}
		n, nanos, err := p.bulk()
		if err != nil || n != testSize || nanos <= 0 {
			t.Errorf("%s: got %d bytes in %d ns, %v, want %d", role, n, nanos, err, testSize)
		}
	}
}

func TestClient_CountsTripsAndConnections(t *testing.T) {
	p := testPeer(t)
	n, nanos, err := runRole(t.Context(), "trips", fmt.Sprintf("tcp:%d", p.echo), "100")
	if err != nil || n != 100 || nanos <= 0 {
		t.Errorf("trips: got %d in %d ns, %v, want 100", n, nanos, err)
	}
	n, nanos, err = runRole(t.Context(), "conns", fmt.Sprintf("tcp:%d", p.connPort()), "100", "8")
	if err != nil || n != 96 || nanos <= 0 {
		t.Errorf("conns: got %d in %d ns, %v, want 96: 8 threads with 12 each", n, nanos, err)
	}
}

func TestClient_FailsWhereNothingListens(t *testing.T) {
	p := testPeer(t)
	port := p.echo
	p.stop()
	if _, _, err := runRole(t.Context(), "trips", fmt.Sprintf("tcp:%d", port), "1"); err == nil {
		t.Error("got no error from a port that is closed")
	}
}

func TestHold_KeepsItsReadsUntilItIsStopped(t *testing.T) {
	p := testPeer(t)
	c, err := startChild(t.Context(), "hold", fmt.Sprintf("tcp:%d", p.hold), "20", "1048576")
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := c.scan(&n); err != nil || n != 20 {
		t.Errorf("got %d, %v, want 20", n, err)
	}
	c.stop()
	if !c.cmd.ProcessState.Success() {
		t.Errorf("got %v, want success", c.cmd.ProcessState)
	}
}

func TestParallel_ShellsBeginTogether(t *testing.T) {
	b := &bench{}
	n, nanos, err := b.parallel(t.Context(), 3, 5, "sh", ":")
	if err != nil || n != 15 || nanos <= 0 {
		t.Errorf("got %d in %d ns, %v, want 15", n, nanos, err)
	}
	if _, _, err := b.parallel(t.Context(), 2, 1, "sh", "exit 3"); err == nil {
		t.Error("got no error from shells that fail")
	}
}

func TestQuote_MakesOneWord(t *testing.T) {
	if got, want := quote("a b'c"), `'a b'\''c'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
