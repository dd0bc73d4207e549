package ring

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/test/daemon"
)

// A member that reads nothing is put out when too much waits for it, and nobody else waits for it or loses anything.
func TestSlow_WhoReadsNothingIsPutOut(t *testing.T) {
	t.Parallel()
	c := start(t, 2, clusterOpts{plain: true})
	c.mkdir(0, "g")
	sender, reader := c.client(0, "g"), c.client(1, "g")
	byFile := c.nodes[1].MustOpen("cluster/groups/g/feed", unix.O_RDWR)
	byClient := c.client(1, "g")
	ctx, cancel := context.WithTimeout(t.Context(), longTime)
	defer cancel()

	const most = 1000 // messages of 256 KiB, far more than may wait
	text := pattern(256 << 10)
	sent := make(chan error, 1)
	enough := make(chan struct{})
	go func() {
		for n := range most {
			select {
			case <-enough:
				sent <- nil
				return
			default:
			}
			text[0] = byte(n)
			if err := sender.Send(ctx, text); err != nil {
				sent <- err
				return
			}
			if _, err := drain(ctx, sender); err != nil {
				sent <- err
				return
			}
		}
		sent <- errors.New("nobody is put out")
	}()
	out := map[ipc.Process]bool{}
	for next := byte(0); len(out) < 2; {
		r, err := reader.Receive(ctx)
		if err != nil {
			t.Fatalf("%d are put out: %v", len(out), err)
		}
		switch r.Kind {
		case ipc.MessageRecord:
			if r.Data[0] != next || len(r.Data) != len(text) {
				t.Fatalf("got message %d of %d bytes, want %d", r.Data[0], len(r.Data), next)
			}
			next++
		case ipc.ConfRecord:
			for _, l := range r.Left {
				if l.Reason != ipc.ProcDown {
					t.Errorf("%v left with %v, want PROCDOWN", l.Process, l.Reason)
				}
				out[l.Process] = true
			}
		}
	}
	close(enough)
	if err := daemon.Wait(t, longTime, "the sender", sent); err != nil {
		t.Fatal(err)
	}
	if !out[byClient.ID()] || out[reader.ID()] || out[sender.ID()] {
		t.Errorf("%v were put out, want %v and the file's", out, byClient.ID())
	}
	// What was put out reads an end.
	if got := daemon.Wait(t, daemon.Bound, "read of who is put out", byFile.Read(4096)); got.Err != nil || got.N != 0 {
		t.Errorf("the file: got %d bytes %.40q, %v, want the end of the file", got.N, got.Data, got.Err)
	}
	if err := last(ctx, byClient); !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client: got %v, want EPIPE", err)
	}
	if log := c.nodes[1].Log(); !strings.Contains(log, "slow") && !strings.Contains(log, "put out") {
		t.Errorf("cluster/log does not tell of it:\n%s", log)
	}
	if mb := c.nodes[1].RSS() >> 20; mb > 400 {
		t.Errorf("the daemon has %d MiB", mb)
	}
}

// drain takes what has come for a member without waiting.
func drain(ctx context.Context, g *ipc.Group) (n int, err error) {
	for {
		if _, err := g.Receive(ctx); err != nil {
			return n, err
		}
		if n++; !g.Buffered() {
			return n, nil
		}
	}
}

// last reads until a member's end.
func last(ctx context.Context, g *ipc.Group) error {
	for {
		if _, err := g.Receive(ctx); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}
