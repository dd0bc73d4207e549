package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// maxEcho is how much may wait to be sent to a peer that still gets answers: who
// asks and does not read has heard enough.
const maxEcho = 64 << 10

// run is the life of a session whose greetings are over. It is the only one that
// tells the handler of it, so its calls come one after the other.
func (p *Peer) run() {
	m, n, h := p.m, p.node, p.m.conf.Handler
	p.conn.SetDeadline(time.Time{})
	p.wire.hold()
	p.wire.onRead = p.came
	p.in.max = ring.MaxBody
	p.came()
	p.up.Store(true)
	m.work.Go(p.write)

	n.tell.Lock()
	if before := m.succeeds(n, p.nk); before.ID != 0 {
		h.Dead(before)
	}
	m.said.forget(n.label())
	m.log.Debug("session", "node", p.name, "id", p.nk.ID, "boot", p.nk.Boot, "addr", p.addr)
	h.Up(p)
	n.tell.Unlock()

	cause, dead := p.read()
	m.notice(m.now()) // a pause is told before what it has led to
	p.fail(cause, dead)
	cause, dead = p.verdict()
	goodbye := dead || cause == errEOF
	if m.isClosed() {
		cause, goodbye = errClosed, true
	}
	if !goodbye {
		abort(p.raw)
	}
	p.conn.Close()

	n.tell.Lock()
	h.Down(p, cause, dead)
	m.counts.breaks.Add(1)
	m.ended(p, dead)
	n.tell.Unlock()
	n.wake()
}

// came notes that bytes have come. Those that come after a pause of this process
// are not looked at before the handler knows of it.
func (p *Peer) came() {
	now := p.m.now()
	p.heard.Store(now)
	p.m.notice(now)
}

// read hands on the frames that come, and tells why it ends.
func (p *Peer) read() (cause error, dead bool) {
	for {
		typ, flags, body, err := p.in.next()
		switch {
		case errors.Is(err, io.EOF):
			return errEOF, false
		case err != nil:
			return err, false
		case p.broken.Load():
			return errEOF, false // the cause is another one, and known
		}
		p.m.counts.framesIn.Add(1)
		if typ >= ring.TypeInfo {
			if !p.leaving.Load() {
				p.m.conf.Handler.Frame(p, typ, flags, body)
			}
			continue
		}
		if cause, dead := p.control(typ, body); cause != nil {
			return cause, dead
		}
	}
}

// control acts on a frame of the session itself; a cause ends it.
func (p *Peer) control(typ ring.Type, body []byte) (cause error, dead bool) {
	in := parser{b: body}
	switch typ {
	case ring.TypePing:
		echo := in.u64()
		p.answer(ring.TypePong, binary.LittleEndian.AppendUint64(nil, echo))
	case ring.TypePong: // that bytes have come is all that it is for
	case ring.TypeProbe:
		nk := in.nk()
		age := uint32(math.MaxUint32)
		if d, ok := p.m.Heard(nk); ok && d.Milliseconds() < math.MaxUint32 {
			age = uint32(d.Milliseconds())
		}
		p.answer(ring.TypeHeard, binary.LittleEndian.AppendUint32(appendNK(nil, nk), age))
	case ring.TypeHeard:
		nk, age := in.nk(), in.u32()
		if !in.short && age != math.MaxUint32 {
			p.m.vouch(nk, time.Duration(age)*time.Millisecond)
		}
	case ring.TypeBye:
		return fmt.Errorf("it said goodbye: %q", body[:min(len(body), 200)]), true
	case ring.TypeRefuse:
		// We had answered its dial, and it has found out who we are.
		r, err := parseRefusal(body)
		if err != nil {
			return fmt.Errorf("%w: %w", errProtocol, err), false
		}
		p.m.refused(p.node.label(), r)
		return r, false
	default:
		return fmt.Errorf("%w: frame of type %d", errProtocol, typ), false
	}
	if in.short {
		return fmt.Errorf("%w: frame of type %d is too short", errProtocol, typ), false
	}
	return nil, false
}

func (p *Peer) answer(typ ring.Type, body []byte) {
	if p.Backlog() < maxEcho {
		p.Send(newFrame(typ, body))
		p.Flush()
	}
}
