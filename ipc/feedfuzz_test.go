package ipc

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// wantFromClient is what the daemon must make of a client's stream: the messages, and what the membership ends with.
func wantFromClient(b []byte) (messages [][]byte, reason Reason, errno unix.Errno) {
	for {
		if len(b) < feedHeader {
			return messages, ProcDown, 0
		}
		size, kind := uint64(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint16(b[4:])
		switch {
		case size < feedHeader, kind != feedMessage && kind != feedLeave:
			return messages, ProcDown, unix.EPROTO
		case kind == feedMessage && size > feedHeader+MaxMessage:
			return messages, ProcDown, unix.EMSGSIZE
		case kind == feedLeave && size > maxFrame:
			return messages, ProcDown, unix.EPROTO
		}
		whole := (size + 7) / 8 * 8
		if whole > uint64(len(b)) {
			return messages, ProcDown, 0
		}
		if kind == feedLeave {
			return messages, Left, 0
		}
		messages = append(messages, b[feedHeader:size])
		b = b[whole:]
	}
}

// FuzzFeed_FromClient gives the daemon whatever may come on the stream of a membership, cut in two anywhere.
func FuzzFeed_FromClient(f *testing.F) {
	leave := pad(appendFeedHeader(nil, feedHeader, feedLeave), feedHeader)
	f.Add(append(appendMessage(appendMessage(nil, []byte("hello")), nil), leave...), 3)
	f.Add(appendMessage(appendFeedHeader(nil, 7, feedMessage), nil), 0)
	f.Add(appendFeedHeader(nil, feedHeader+MaxMessage+1, feedMessage), 8)
	f.Add(append(appendMessage(nil, make([]byte, 100)), 9, 0, 0, 0, 9, 0, 0, 0), 100)
	f.Add(append(leave, 1), 1)
	f.Fuzz(func(t *testing.T, input []byte, cut int) {
		fake := newFakeGroups()
		m, err := fake.Join(context.Background(), "g", rendezvous.Caller{PID: 1}, true)
		if err != nil {
			t.Fatal(err)
		}
		witness, err := fake.Join(context.Background(), "g", rendezvous.Caller{PID: 2}, true)
		if err != nil {
			t.Fatal(err)
		}
		s := newServer(newFakeHost(), ServerOpts{Groups: fake}, nil)
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(pair[1], true); err != nil {
			t.Fatal(err)
		}
		feed, err := newFeed(s, pair[1], 1000, m)
		if err != nil {
			t.Fatal(err)
		}
		feed.start()
		ended := make(chan unix.Errno, 1)
		go func() {
			var all []byte
			buf := make([]byte, 64<<10)
			for {
				n, err := readNow(pair[0], buf)
				if n <= 0 || err != nil {
					break
				}
				all = append(all, buf[:n]...)
			}
			last := unix.Errno(0)
			for len(all) > 0 {
				size, kind, ok := feedFrame(all)
				if !ok || padded(size) > len(all) {
					t.Errorf("the daemon's stream ends with %x", all)
					break
				}
				var r Record
				end, errno, err := r.decode(kind, all[:size])
				if err != nil {
					t.Errorf("%v: %x", err, all[:size])
				}
				if all = all[padded(size):]; end {
					last = errno
				}
			}
			ended <- last
		}()
		first := max(0, min(cut, len(input)))
		for _, part := range [][]byte{input[:first], input[first:]} {
			for len(part) > 0 {
				n, err := unix.SendmsgN(pair[0], part, nil, nil, unix.MSG_NOSIGNAL)
				if err == unix.EINTR {
					continue
				}
				if err != nil {
					break // the daemon has ended it
				}
				part = part[n:]
			}
		}
		unix.Shutdown(pair[0], unix.SHUT_WR)
		messages, reason, errno := wantFromClient(input)
		var got [][]byte
		var left Reason
		for end := time.Now().Add(deadline); left == 0; {
			var r Record
			switch err := witness.Next(&r); {
			case err == unix.EAGAIN:
				if time.Now().After(end) {
					t.Fatal("the membership does not end")
				}
				time.Sleep(10 * time.Microsecond)
			case err != nil:
				t.Fatal(err)
			case r.Kind == MessageRecord:
				got = append(got, r.Data)
			case len(r.Left) > 0:
				left = r.Left[0].Reason
			}
		}
		// Who has only shut down his side may be told that he is out.
		if last := <-ended; last != errno && (errno != 0 || reason != ProcDown || last != unix.EPIPE) {
			t.Errorf("ended with %v, want %v", last, errno)
		}
		if left != reason || len(got) != len(messages) || !bytes.Equal(bytes.Join(got, []byte{0}), bytes.Join(messages, []byte{0})) {
			t.Errorf("got %d messages and %v, want %d and %v", len(got), left, len(messages), reason)
		}
		s.Close()
		unix.Close(pair[0])
	})
}

// FuzzFeed_FromDaemon gives a client whatever may come from a daemon, cut in two anywhere.
func FuzzFeed_FromDaemon(f *testing.F) {
	all := appendRecord(appendRecord(appendRecord(nil, &confOf), &msgOf), &ringOf)
	f.Add(appendEnd(all, 0), 50)
	f.Add(appendEnd(nil, unix.EPIPE), 3)
	f.Add(all[:len(all)-5], 0)
	f.Add(appendFeedHeader(nil, maxFeedRecord+1, feedMsg), 0)
	f.Add(appendFeedHeader(nil, 1, feedMsg), 0)
	f.Fuzz(func(t *testing.T, input []byte, cut int) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(pair[1], false); err != nil {
			t.Fatal(err)
		}
		g := &Group{id: Process{1, 4242, 1}}
		if err := g.open(pair[0], "g"); err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		g.in.own = g.id
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			defer unix.Close(pair[1])
			first := max(0, min(cut, len(input)))
			for _, part := range [][]byte{input[:first], input[first:]} {
				for len(part) > 0 {
					n, err := unix.SendmsgN(pair[1], part, nil, nil, unix.MSG_NOSIGNAL)
					if err == unix.EINTR {
						continue
					}
					if err != nil {
						return
					}
					part = part[n:]
				}
			}
		}()
		rest := input
		for {
			r, err := g.Receive(context.Background())
			if err != nil {
				if err != io.EOF {
					wantErrnoAny(t, err)
				}
				if _, again := g.Receive(context.Background()); again == nil {
					t.Error("a record after the end")
				}
				break
			}
			// Each record is one of the input's, in their order.
			for {
				size, kind, ok := feedFrame(rest)
				if !ok || padded(size) > len(rest) {
					t.Fatalf("got %+v, which is not in the input", r)
				}
				var want Record
				_, _, err := want.decode(kind, rest[:size])
				rest = rest[padded(size):]
				if err == nil && want.Kind != 0 {
					if !bytes.Equal(want.AppendText(nil), r.AppendText(nil)) || want.Pos != r.Pos || want.Ring != r.Ring {
						t.Fatalf("got %+v, want %+v", r, want)
					}
					break
				}
			}
			r.MarshalJSON()
		}
		g.Close()
		<-sent
	})
}

// wantErrnoAny fails unless err has an errno.
func wantErrnoAny(t *testing.T, err error) {
	t.Helper()
	if errnoOf(err) == unix.EIO {
		t.Errorf("got %v, without an errno", err)
	}
}

// FuzzUnescapeGroup takes whatever may be given as the name of a group.
func FuzzUnescapeGroup(f *testing.F) {
	for _, s := range []string{"chat", "%", "a%20b", "%2Ex", "%61", "a%", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, ok := UnescapeGroup(s); ok && EscapeGroup(name) != s {
			t.Errorf("%q is %q, which is %q", s, name, EscapeGroup(name))
		}
		if len(s) <= maxGroupName {
			if name, ok := UnescapeGroup(EscapeGroup(s)); !ok || name != s {
				t.Errorf("%q is %q and back %q, %v", s, EscapeGroup(s), name, ok)
			}
		}
	})
}
