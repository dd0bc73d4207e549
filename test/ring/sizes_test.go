package ring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/test/daemon"
)

// maxFeedMessage is the largest message by one write(2) of the file feed.
const maxFeedMessage = 1_044_480

// client joins a group at a node in this process. The test ends when it cannot.
func (c *cluster) client(i int, group string) *ipc.Group {
	c.t.Helper()
	var g *ipc.Group
	var err error
	daemon.Within(c.t, daemon.Bound, "join", func() {
		var tree *ipc.Tree
		if tree, err = ipc.Locate(c.nodes[i].Mount); err != nil {
			return
		}
		var cl *ipc.Client
		if cl, err = tree.Dial(context.Background()); err != nil {
			return
		}
		defer cl.Close()
		g, err = cl.Join(context.Background(), group, ipc.JoinOpts{Create: true})
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { g.Close() })
	return g
}

// receive returns the next message of a member. The test ends when none comes.
func receive(t testing.TB, g *ipc.Group) ipc.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longTime)
	defer cancel()
	for {
		r, err := g.Receive(ctx)
		if err != nil {
			t.Fatalf("receive: %v", err)
		}
		if r.Kind == ipc.MessageRecord {
			return r
		}
	}
}

// mkdir makes a group that stays.
func (c *cluster) mkdir(i int, group string) {
	c.t.Helper()
	c.nodes[i].Want("mkdir cluster/groups/"+group, "")
}

func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestSize_LargestMessagesOfTheClient(t *testing.T) {
	t.Parallel()
	c := start(t, 2, clusterOpts{})
	a, b := c.client(0, "g"), c.client(1, "g")
	ctx, cancel := context.WithTimeout(t.Context(), longTime)
	defer cancel()
	for _, size := range []int{0, 1, 65_536, 65_537, ipc.MaxMessage - 1, ipc.MaxMessage} {
		want := pattern(size)
		if err := a.Send(ctx, want); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		for name, g := range map[string]*ipc.Group{"the sender": a, "the other": b} {
			if r := receive(t, g); r.From != a.ID() || !bytes.Equal(r.Data, want) {
				t.Errorf("%s: got %d bytes of %v, want %d of %v", name, len(r.Data), r.From, size, a.ID())
			}
		}
	}
	if err := a.Send(ctx, pattern(ipc.MaxMessage+1)); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("one byte more: got %v, want EMSGSIZE", err)
	}
	if err := a.Send(ctx, []byte("after")); err != nil {
		t.Fatal(err)
	}
	if r := receive(t, b); string(r.Data) != "after" {
		t.Errorf("got %d bytes, want what was sent after the one that is too large", len(r.Data))
	}
}

func TestSize_LargestMessagesOfTheFeed(t *testing.T) {
	t.Parallel()
	c := start(t, 2, clusterOpts{})
	c.mkdir(0, "g")
	f := c.nodes[0].MustOpen("cluster/groups/g/feed", unix.O_RDWR)
	reader := c.client(1, "g")
	// The kernel cuts a large write into pages, so where in its page the text begins makes a difference.
	room, err := unix.Mmap(-1, 0, 8<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON) // it begins with a page
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(room)
	for _, shift := range []int{0, 1, 2048, 4095} {
		for _, size := range []int{maxFeedMessage - 1, maxFeedMessage} {
			text := room[shift:][:size]
			copy(text, bytes.Repeat([]byte(fmt.Sprintf("%d %d ", shift, size)), 1+size/8))
			write(t, f, text, nil)
			if r := receive(t, reader); !bytes.Equal(r.Data, text) {
				t.Errorf("shift %d: got %d bytes, want the %d that were written", shift, len(r.Data), size)
			}
		}
		for _, size := range []int{maxFeedMessage + 1, maxFeedMessage + 4096, 4 << 20} {
			write(t, f, room[shift:][:size], unix.EMSGSIZE)
		}
	}
	write(t, f, []byte("after\n"), nil)
	if r := receive(t, reader); string(r.Data) != "after" {
		t.Errorf("got %d bytes, want what was written after those that are too large", len(r.Data))
	}
}

// write is one write(2), with the error that it is to have.
func write(t *testing.T, f *daemon.File, text []byte, want error) {
	t.Helper()
	var n int
	var err error
	daemon.Within(t, longTime, "write", func() { n, err = retry(func() (int, error) { return unix.Write(f.FD, text) }) })
	if !errors.Is(err, want) || want == nil && n != len(text) {
		t.Fatalf("write of %d bytes: got %d, %v, want %v", len(text), n, err, want)
	}
}

// A text by feed is one line whatever is in it, and what it was where the client receives it; printed it is the same line.
func TestFeed_EscapesWhatIsNoText(t *testing.T) {
	t.Parallel()
	c := start(t, 1, clusterOpts{})
	c.mkdir(0, "g")
	g := c.client(0, "g")
	out := c.nodes[0].Sh(`exec 9<>cluster/groups/g/feed; printf 'a\tb\nc\\\001\377\n' >&9; sed '/^msg/q' <&9 | grep msg`)
	if !strings.HasSuffix(out.Out, ` a\tb\nc\\\x01\xFF`+"\n") {
		t.Errorf("got %+v", out)
	}
	r := receive(t, g)
	if string(r.Data) != "a\tb\nc\\\x01\xff" {
		t.Errorf("the client got %q", r.Data)
	}
	if line := string(r.AppendText(nil)); line != out.Out {
		t.Errorf("printed it is %q, and by the file %q", line, out.Out)
	}
}
