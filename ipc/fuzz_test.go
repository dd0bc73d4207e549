package ipc

import (
	"bytes"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// FuzzServer_Frames gives the server whatever may come from a client: frames, each behind its length. The server must
// answer every request but CANCEL once, with nothing but what the protocol has, and leave nothing behind.
func FuzzServer_Frames(f *testing.F) {
	frame := func(op uint16, tag uint32, body []byte) []byte {
		b := append(appendHeader(nil, header{op: op, tag: tag}), body...)
		return append([]byte{byte(len(b)), byte(len(b) >> 8)}, b...)
	}
	number := []byte{1, 0, 0, 0}
	f.Add(bytes.Join([][]byte{
		frame(opOpen, 1, appendString(nil, "dev/tcp/web/echo")), frame(opOpen, 2, appendString(nil, "dev/tcp/web/other")),
		frame(opAnnounce, 3, appendString(nil, "dev/tcp/local/echo")), frame(opAccept, 4, number), frame(opCancel, 0, []byte{4, 0, 0, 0}),
		frame(opAccept, 5, number), frame(opWithdraw, 6, number),
	}, nil))
	f.Add(bytes.Join([][]byte{
		frame(opOpen, 1, appendString(nil, "dev/tcp/web/slow")), frame(opCancel, 0, number), frame(99, 1, nil), frame(opHello, 1, nil),
		frame(opAnnounce, 2, appendString(nil, "dev/udp/local/0,user,x")), {0, 0}, {255, 255, 1, 2},
	}, nil))
	f.Add(frame(opAccept, 4, nil))
	f.Add(bytes.Join([][]byte{
		frame(opSender, 1, joinRequest{"g", 0}.append(nil)), frame(opJoin, 2, joinRequest{"g", joinCreate}.append(nil)),
		frame(opSender, 3, joinRequest{"g", 0}.append(nil)), frame(opJoin, 4, joinRequest{"mine", 0}.append(nil)),
		frame(opJoin, 5, joinRequest{"slow", 0}.append(nil)), frame(opCancel, 0, []byte{5, 0, 0, 0}), frame(opJoin, 6, []byte{1, 0, 'g'}),
	}, nil))
	f.Fuzz(func(t *testing.T, input []byte) {
		if bytes.Contains(input, []byte("stuck")) {
			t.Skip("a service of the tests that never answers")
		}
		h, groups := newFakeHost(), newFakeGroups()
		s := newServer(h, ServerOpts{Groups: groups}, func(int) (rendezvous.Caller, error) { return rendezvous.Caller{UID: 1}, nil })
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(fds[1], true); err != nil {
			t.Fatal(err)
		}
		s.admit(fds[1])
		var answers sync.WaitGroup
		answers.Go(func() {
			buf, rights := make([]byte, maxFrame+1), make([]byte, 512)
			for {
				n, oobn, flags, _, err := unix.Recvmsg(fds[0], buf, rights, unix.MSG_CMSG_CLOEXEC)
				if err == unix.EINTR {
					continue
				}
				if err != nil || n == 0 {
					return
				}
				a, err := parseAnswer(buf[:n], rights[:oobn], flags)
				if err != nil || a.op&opAnswer == 0 {
					t.Errorf("got %x, %v", buf[:n], err)
				}
				a.close()
			}
		})
		unix.Write(fds[0], helloRequest{1, 1}.append(appendHeader(nil, header{op: opHello})))
		for len(input) >= 2 {
			n := min(int(input[0])|int(input[1])<<8, len(input)-2)
			frame := input[2 : 2+n]
			input = input[2+n:]
			if len(frame) > 0 && unix.Sendto(fds[0], frame, unix.MSG_NOSIGNAL, nil) != nil {
				break // the server has ended the connection
			}
		}
		unix.Shutdown(fds[0], unix.SHUT_WR)
		s.Close()
		answers.Wait()
		unix.Close(fds[0])
		for {
			select {
			case fd := <-h.opened:
				unix.Close(fd)
				continue
			default:
			}
			break
		}
		if len(h.announced) > 0 {
			t.Errorf("still announced: %v", h.announced)
		}
		for name, g := range groups.groups {
			if len(g.members) > 0 {
				t.Errorf("still members of %q: %d", name, len(g.members))
			}
		}
	})
}

// FuzzParseAnswer takes whatever may come from a daemon for an answer.
func FuzzParseAnswer(f *testing.F) {
	for op, body := range map[uint16][]byte{
		opHello:    helloAnswer{1, 1, 64, 16}.append(nil),
		opOpen:     opened{four, six, "web2"}.append(nil),
		opAnnounce: announced{9, nil, "dev/tcp/local/echo"}.append(nil),
		opAccept:   accepted{rendezvous.Peer{Host: "127.0.0.1", Node: "web1", PID: 42}, four, six}.append(nil),
		opJoin:     joined{1, 4242, 1}.append(nil),
	} {
		f.Add(append(appendHeader(nil, header{op: op | opAnswer, tag: 1}), body...), false)
	}
	f.Add(appendString(appendHeader(nil, header{op: opOpen | opAnswer, errno: 13}), "why\x1b"), false)
	f.Add(appendHeader(nil, header{op: opOpen | opAnswer, count: 1}), true)
	f.Fuzz(func(t *testing.T, frame []byte, cut bool) {
		flags := 0
		if cut {
			flags = unix.MSG_CTRUNC
		}
		a, err := parseAnswer(frame, nil, flags)
		if err != nil {
			return
		}
		if err := a.failure(); err != nil {
			for _, c := range []byte(err.Error()) {
				if c < ' ' || c > '~' {
					t.Errorf("%q is not fit for a terminal", err.Error())
				}
			}
		}
		decodeHelloAnswer(a.body)
		decodeAccepted(a.body)
		decodeJoined(a.body)
		if m, err := decodeOpened(a.body); err == nil {
			if again, err := decodeOpened(m.append(nil)); err != nil || again != m {
				t.Errorf("got %+v, %v, want %+v", again, err, m)
			}
		}
		if m, err := decodeAnnounced(a.body); err == nil && len(m.addrs)*addrSize > len(a.body) {
			t.Errorf("%d addresses in %d bytes", len(m.addrs), len(a.body))
		}
	})
}
