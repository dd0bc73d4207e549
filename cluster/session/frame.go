package session

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/convoke-fs/convoke/cluster/ring"
)

const (
	maxGreeting = 4 << 10 // body of a frame before the peer is known
	sumSize     = 4       // of the checksum behind a frame without TLS

	chunkSize = 4 << 10 // one allocation for many small bodies
	smallBody = 256     // is cut from a chunk
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errFrame = errors.New("malformed frame")
	errSum   = errors.New("frame with a wrong checksum")
)

// frameReader cuts a stream into frames.
type frameReader struct {
	r   *bufio.Reader
	max int  // longest body
	sum bool // a checksum follows each frame

	head  [ring.HeaderSize]byte
	tail  [sumSize]byte
	chunk []byte
}

// next waits for a frame. The body is the caller's. At the end of the stream the
// error is io.EOF, and io.ErrUnexpectedEOF inside a frame.
func (f *frameReader) next() (typ ring.Type, flags uint8, body []byte, err error) {
	if _, err := io.ReadFull(f.r, f.head[:]); err != nil {
		return 0, 0, nil, err
	}
	size := binary.LittleEndian.Uint32(f.head[:])
	typ, flags = ring.Type(f.head[4]), f.head[5]
	if f.head[6] != 0 || f.head[7] != 0 || typ == 0 {
		return 0, 0, nil, errFrame
	}
	if int64(size) > int64(f.max) {
		return 0, 0, nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", errFrame, size, f.max)
	}
	body = f.buffer(int(size))
	if _, err := io.ReadFull(f.r, body); err != nil {
		return 0, 0, nil, inside(err)
	}
	if f.sum {
		if _, err := io.ReadFull(f.r, f.tail[:]); err != nil {
			return 0, 0, nil, inside(err)
		}
		sum := crc32.Update(crc32.Checksum(f.head[:], castagnoli), castagnoli, body)
		if sum != binary.LittleEndian.Uint32(f.tail[:]) {
			return 0, 0, nil, errSum
		}
	}
	return typ, flags, body, nil
}

// buffer gives memory for a body.
func (f *frameReader) buffer(size int) []byte {
	if size > smallBody {
		return make([]byte, size)
	}
	if size > len(f.chunk) {
		f.chunk = make([]byte, chunkSize)
	}
	b := f.chunk[:size:size]
	f.chunk = f.chunk[size:]
	return b
}

func inside(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// newFrame makes a frame of a body.
func newFrame(typ ring.Type, body []byte) []byte {
	f := make([]byte, ring.HeaderSize, ring.HeaderSize+len(body))
	binary.LittleEndian.PutUint32(f, uint32(len(body)))
	f[4] = byte(typ)
	return append(f, body...)
}

// appendSum appends the checksum of a frame to b.
func appendSum(b, frame []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(frame, castagnoli))
}
