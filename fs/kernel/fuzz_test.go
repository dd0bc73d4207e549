package kernel

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/fs/quota"
)

// FuzzDispatch feeds the server with requests of any form. Each that has a number and an opcode of its own gets one
// answer, at the latest when its stream is hung up, and none gets two.
func FuzzDispatch(f *testing.F) {
	f.Add([]byte{opRead, 0, 0, opWrite, 4, 1, opPoll, 0, 1, opInterrupt, 1, 0, opRelease, 0, 0, 1, 5, 0})
	f.Add([]byte{opOpen, 2, 0, opRead, 1, 3, opRead, 2, 3, opInterrupt, 2, 2, opFlush, 0, 0, 26, 0, 0, 28, 9, 9})
	f.Add([]byte{opMkdir, 90, 0, opMkdir, 2, 0, opRmdir, 9, 0, opSetAttr, 200, 0, opSetAttr, 3, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		h := newHarness(t)
		p, e := h.pipe(3)
		h.open(e, syscall.O_RDWR)
		h.open(e, syscall.O_RDONLY)
		h.tree.open = func(context.Context, *fuse.OpenIn) (Opened, syscall.Errno) {
			if !e.Hold(false) {
				return Opened{}, syscall.EIO
			}
			return Opened{Endpoint: e}, 0
		}
		seen, silent := map[string]int{}, map[uint64]bool{}
		collect := func() {
			for _, r := range h.got() {
				unique, _, _ := strings.Cut(r, " ")
				if unique != "notify" {
					seen[unique]++
				}
			}
		}
		var sent []uint64
		for ; len(ops) >= 3 && len(sent) < 200; ops = ops[3:] {
			op, size, arg := uint32(ops[0]), int(ops[1]), uint64(ops[2])
			var body [256]byte
			b := body[:]
			h.next++
			head := as[fuse.InHeader](b)
			head.Unique, head.Opcode, head.Uid, head.NodeId = h.next, op, 1000, 1
			switch op {
			case opRead:
				*as[fuse.ReadIn](b) = fuse.ReadIn{InHeader: *head, Fh: 1 + arg%3, Size: uint32(size), Flags: uint32(arg) & 4 * syscall.O_NONBLOCK / 4}
				b = b[:sizeReadIn]
			case opWrite:
				*as[fuse.WriteIn](b) = fuse.WriteIn{InHeader: *head, Fh: 1 + arg%3, Size: uint32(size % 100)}
				b = b[:sizeWriteIn+size%100]
			case opPoll:
				*as[pollIn](b) = pollIn{InHeader: *head, Fh: 1 + arg%3, Kh: arg, Flags: uint32(arg % 2)}
				b = b[:sizePollIn]
			case opInterrupt:
				*as[fuse.InterruptIn](b) = fuse.InterruptIn{InHeader: *head, Unique: h.next - arg}
				b = b[:sizeInterrupt]
				silent[h.next] = true // answered only where it found nothing
			case opRelease:
				*as[fuse.ReleaseIn](b) = fuse.ReleaseIn{InHeader: *head, Fh: 2 + arg%2}
				b = b[:sizeReleaseIn]
			case opForget, opBatchForget:
				silent[h.next] = true
				b = b[:sizeInHeader+size%100]
			case 41: // NOTIFY_REPLY answers us
				continue
			case 250: // no request: the stream moves
				p.set(func() { p.in = append(p.in, body[:size]...); p.room += size })
				e.Wake()
				collect()
				continue
			default:
				b = b[:sizeInHeader+size%(256-sizeInHeader)]
			}
			*as[uint32](b) = uint32(len(b))
			h.give(b)
			sent = append(sent, h.next)
			collect()
		}
		e.Hangup()
		h.s.waits.end()
		collect()
		for _, u := range sent {
			n := seen[fmt.Sprint(u)]
			if n > 1 || n == 0 && !silent[u] {
				t.Errorf("request %d got %d answers", u, n)
			}
		}
		if h.s.waits.count() != 0 || h.s.opts.Quota.Held(quota.Parked) != 0 || h.s.opts.Quota.Held(quota.ParkedBytes) != 0 {
			t.Error("something is still parked after all was answered")
		}
	})
}
