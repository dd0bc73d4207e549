package session

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/convoke-fs/convoke/cluster/ring"
)

func reader(r io.Reader, sum bool) *frameReader {
	return &frameReader{r: bufio.NewReader(r), max: ring.MaxBody, sum: sum}
}

func TestFrames_ComeAsTheyWent(t *testing.T) {
	for _, sum := range []bool{false, true} {
		var stream []byte
		var bodies [][]byte
		for i, size := range []int{0, 1, smallBody, smallBody + 1, 0, chunkSize - smallBody, 5000, 70_000, ring.MaxBody, 3} {
			body := bytes.Repeat([]byte{byte(i + 1)}, size)
			bodies = append(bodies, body)
			f := newFrame(ring.TypeInfo+ring.Type(i), body)
			f[5] = byte(i)
			stream = append(stream, f...)
			if sum {
				stream = appendSum(stream, f)
			}
		}
		for _, in := range []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream))} {
			f := reader(in, sum)
			var got [][]byte
			for i := range bodies {
				typ, flags, body, err := f.next()
				if err != nil || typ != ring.TypeInfo+ring.Type(i) || flags != byte(i) {
					t.Fatalf("sum %v, frame %d: type %d, flags %d, %v", sum, i, typ, flags, err)
				}
				got = append(got, body)
			}
			for i, body := range bodies { // after all were read: none was written over
				if !bytes.Equal(got[i], body) {
					t.Errorf("sum %v: body %d has changed", sum, i)
				}
				if len(got[i]) != cap(got[i]) && len(got[i]) <= smallBody {
					t.Errorf("sum %v: an append to body %d would change another", sum, i)
				}
			}
			if _, _, _, err := f.next(); err != io.EOF {
				t.Errorf("sum %v: at the end %v, want EOF", sum, err)
			}
		}
	}
}

func TestFrames_Damaged(t *testing.T) {
	good := newFrame(ring.TypeAck, []byte("hello"))
	change := func(at int, to byte) []byte {
		f := bytes.Clone(good)
		f[at] = to
		return f
	}
	for _, tt := range []struct {
		name   string
		stream []byte
		sum    bool
		want   error
	}{
		{"cut in the header", good[:5], false, io.ErrUnexpectedEOF},
		{"cut behind the header", good[:8], false, io.ErrUnexpectedEOF},
		{"cut in the body", good[:12], false, io.ErrUnexpectedEOF},
		{"cut in the checksum", appendSum(bytes.Clone(good), good)[:15], true, io.ErrUnexpectedEOF},
		{"no checksum", good, true, io.ErrUnexpectedEOF},
		{"a reserved byte", change(6, 1), false, errFrame},
		{"the other one", change(7, 1), false, errFrame},
		{"type 0", change(4, 0), false, errFrame},
		{"too long", change(3, 1), false, errFrame},
		{"much too long", change(3, 0xff), false, errFrame},
		{"another body", appendSum(change(9, 'x'), good), true, errSum},
		{"another type", appendSum(change(4, byte(ring.TypeOrd)), good), true, errSum},
		{"another flag", appendSum(change(5, 1), good), true, errSum},
	} {
		if _, _, _, err := reader(bytes.NewReader(tt.stream), tt.sum).next(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// FuzzFrames reads any stream: what is read is what the stream says, and the
// memory of it is bounded by what has come and one body.
func FuzzFrames(f *testing.F) {
	good := newFrame(ring.TypeAck, []byte("hello"))
	f.Add(append(bytes.Clone(good), good...), false)
	f.Add(appendSum(bytes.Clone(good), good), true)
	f.Add([]byte{255, 255, 255, 255, 1, 0, 0, 0}, false)
	f.Fuzz(func(t *testing.T, stream []byte, sum bool) {
		r := reader(bytes.NewReader(stream), sum)
		var again []byte
		for {
			typ, flags, body, err := r.next()
			if err != nil {
				break
			}
			if typ == 0 || len(body) > ring.MaxBody {
				t.Fatalf("type %d with %d bytes", typ, len(body))
			}
			frame := newFrame(typ, body)
			frame[5] = flags
			again = append(again, frame...)
			if sum {
				again = appendSum(again, frame)
			}
		}
		if !bytes.HasPrefix(stream, again) {
			t.Fatalf("%x is read as %x", stream, again)
		}
	})
}
