package session

import (
	"net"
	"sync"
	"sync/atomic"
)

// wire is a connection as TLS, or a session without TLS, sees it. Reads are
// counted and go through a buffer, so that many small records cost one system
// call. Writes go to the connection during the greetings; afterwards they are
// kept until somebody takes them, so that encrypting never waits.
type wire struct {
	net.Conn
	onRead func() // after each read that brought bytes
	bytes  *byteCounts

	buf  []byte // of the reader, nil: reads go straight through
	read []byte // of the reader: what is left in buf

	mu    sync.Mutex
	keep  bool   // mu; writes are kept
	out   []byte // mu; what is kept
	spare []byte // mu; the buffer of the take before
}

// byteCounts are those of Stats.
type byteCounts struct{ in, out atomic.Uint64 }

func (w *wire) Read(p []byte) (int, error) {
	if len(w.read) == 0 {
		if len(p) >= len(w.buf) {
			n, err := w.Conn.Read(p)
			w.came(n)
			return n, err
		}
		n, err := w.Conn.Read(w.buf)
		w.came(n)
		if n == 0 {
			return 0, err
		}
		w.read = w.buf[:n] // an error besides comes again
	}
	n := copy(p, w.read)
	w.read = w.read[n:]
	return n, nil
}

func (w *wire) came(n int) {
	if n > 0 {
		w.bytes.in.Add(uint64(n))
		w.onRead()
	}
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	if w.keep {
		w.out = append(w.out, p...)
		w.mu.Unlock()
		return len(p), nil
	}
	w.mu.Unlock()
	n, err := w.Conn.Write(p)
	w.bytes.out.Add(uint64(n))
	return n, err
}

// hold keeps writes from now on.
func (w *wire) hold() {
	w.mu.Lock()
	w.keep = true
	w.mu.Unlock()
}

// take gives what is kept. It is valid until the next take.
func (w *wire) take() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.out
	w.out, w.spare = w.spare[:0], b
	return b
}
