package group

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

var kinds = []ring.Kind{KindJoin, KindLeave, KindGroup}

func sampleOps() map[ring.Kind][]op {
	c := credFor(1000, 4, 24)
	change := op{verb: verbChange, id: 7, when: -5, name: []byte("a"), cred: c, set: 7, uid: 1, gid: 2, mode: 0o640, file: Members}
	return map[ring.Kind][]op{
		KindJoin: {
			{id: 1, pid: 2, when: 3, cred: c, name: []byte("group"), create: true},
			{id: 1<<32 - 1, name: make([]byte, MaxName), cred: credFor(0)},
			{name: []byte{}, cred: credFor(0)},
		},
		KindLeave: {{id: 9, reason: Leave}, {id: 9, reason: ProcDown}},
		KindGroup: {
			{verb: verbMkdir, id: 3, when: 4, name: []byte("x"), cred: c},
			{verb: verbRmdir, id: 3, when: 4, name: []byte("x"), cred: c},
			change,
			{verb: verbMode, name: []byte("x"), cred: c, on: true},
			{verb: verbEvict, name: []byte("x"), cred: c, target: Process{1, 2, 3}},
			{verb: verbQuorum, name: []byte("x"), cred: c, on: true},
		},
	}
}

func TestOp_ComesBackAndMayGrow(t *testing.T) {
	for k, ops := range sampleOps() {
		for _, want := range ops {
			data := want.append(k, nil)
			for _, more := range [][]byte{nil, {1}, make([]byte, 100)} {
				got, ok := decodeOp(k, append(bytes.Clone(data), more...))
				if !ok || !reflect.DeepEqual(got, want) {
					t.Errorf("kind %d and %d bytes more: got %+v, %v, want %+v", k, len(more), got, ok, want)
				}
			}
			for n := range len(data) {
				if o, ok := decodeOp(k, data[:n]); ok {
					t.Errorf("kind %d: %d of %d bytes give %+v", k, n, len(data), o)
				}
			}
		}
	}
}

func TestSend_ComesBackAndMayGrow(t *testing.T) {
	want := sendHeader{pid: 42, cred: credFor(1000, 4, 24), name: []byte("group")}
	for _, data := range []string{"", "x", "hello"} {
		b := appendSend([]byte(data), want)
		got, h, ok := decodeSend(b)
		if !ok || string(got) != data || !reflect.DeepEqual(h, want) {
			t.Errorf("got %q, %+v, %v", got, h, ok)
		}
		// A later version has more in the header.
		n := len(b) - 2
		size := le.Uint16(b[n:])
		longer := le.AppendUint16(append(bytes.Clone(b[:n]), 1, 2, 3), size+3)
		if got, h, ok := decodeSend(longer); !ok || string(got) != data || !reflect.DeepEqual(h, want) {
			t.Errorf("with a longer header: got %q, %+v, %v", got, h, ok)
		}
	}
}

// The ring is told how much longer than its data a message can be.
func TestOverhead_CoversTheLongestHeader(t *testing.T) {
	many := make([]uint32, 200)
	h := sendHeader{cred: credOf(user(1, 1, many...), maxSendGroups, 0), name: make([]byte, MaxName)}
	if n := len(appendSend(nil, h)); n > Overhead {
		t.Errorf("a send has %d bytes of header, want at most %d", n, Overhead)
	}
	if multicastTrailer > Overhead {
		t.Errorf("a multicast has %d bytes more, want at most %d", multicastTrailer, Overhead)
	}
}

func FuzzOp(f *testing.F) {
	for k, ops := range sampleOps() {
		for _, o := range ops {
			f.Add(uint8(k), o.append(k, nil))
		}
	}
	f.Add(uint8(KindSend), appendSend([]byte("x"), sendHeader{name: []byte("g")}))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		decodeMulticast(data)
		decodeSend(data)
		k := ring.Kind(kind)
		o, ok := decodeOp(k, data)
		if !ok {
			return
		}
		again, ok := decodeOp(k, o.append(k, nil))
		if !ok || !reflect.DeepEqual(o, again) {
			t.Fatalf("got %+v, then %+v, %v", o, again, ok)
		}
	})
}

// FuzzTable applies a log from outside: each entry has a byte for its origin,
// one for its kind, one for its length.
func FuzzTable(f *testing.F) {
	var all []byte
	for _, k := range kinds {
		for _, o := range sampleOps()[k] {
			data := o.append(k, nil)
			all = append(append(all, 1, byte(k), byte(len(data))), data...)
		}
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, log []byte) {
		a, b := newTable(), newTable()
		for len(log) > 3 {
			n := min(int(log[2]), len(log)-3)
			nk := ring.NK{ID: uint32(log[0] % 3), Boot: 1}
			k, data := ring.Kind(log[1]), log[3:3+n]
			ea, oka := a.apply(nk, k, data)
			eb, okb := b.apply(nk, k, data)
			if oka != okb || ea.err != eb.err || !bytes.Equal(a.dump(), b.dump()) {
				t.Fatalf("two nodes make different things of % x", data)
			}
			if err := a.check(); err != nil {
				t.Fatal(err)
			}
			log = log[3+n:]
		}
		if c := a.clone(); !bytes.Equal(a.dump(), c.dump()) || c.check() != nil {
			t.Fatalf("the copy of a table is another: %v", c.check())
		}
	})
}
