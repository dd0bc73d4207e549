package ring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"testing"
)

var codecMembers = []NK{{3, 9}, {1, 5}, {2, 1}}

// someFrames has every type of frame, filled.
func someFrames() []Frame {
	entries := []Entry{
		{NK{3, 9}, 7, 1, EntryFirst, []byte("one")},
		{NK{1, 5}, 1 << 40, 255, EntryMore, []byte{}},
		{NK{2, 1}, 1, 2, 0, bytes.Repeat([]byte{0xa5}, 300)},
	}
	own := []Entry{
		{NK{1, 5}, 41, 1, EntryFirst | EntryMore, []byte("part")},
		{NK{1, 5}, 42, 1, 0, []byte("end")},
	}
	b := ID{1 << 33, 3}
	install := &InstallFrame{Ballot: ID{9, 1}, States: []NodeState{
		{NK{1, 5}, ID{8, 1}, true, []byte("tables")},
		{NK{2, 1}, ID{7, 2}, false, []byte{}},
	}}
	return []Frame{
		&Info{Ring: ID{8, 1}, Size: 5, Acting: 2, MaxSeq: 1 << 50, Reach: codecMembers},
		&SubmitFrame{Ring: b, Pos: 77, Entries: own},
		&SubmitFrame{Ring: b, Pos: 78},
		&Ord{Ring: b, First: 5, Stable: 4, Credit: 1 << 20, Members: codecMembers, Entries: entries},
		&Ord{Ring: b, First: 8, Stable: 7, Credit: 1, Members: codecMembers},
		&Ack{Ring: b, Pos: 3},
		&Propose{Ballot: b, Set: []NK{{1, 5}, {3, 9}}},
		&Report{Ballot: b, Ring: ID{8, 1}, Have: 9, Base: 2, Prepared: ID{11, 2},
			Last: []Last{{NK{1, 5}, 40}, {NK{3, 9}, 6}}, Pend: own, Reach: codecMembers[:2]},
		&Nack{Ballot: b, Promised: 1 << 34, Prefer: 2},
		&Prepare{Ballot: b, Members: codecMembers, Groups: []OldRing{
			{Ring: ID{8, 1}, Parts: codecMembers[:2], Have: []uint64{4, 9}, Base: 4, End: 9, Holder: NK{1, 5}, Tail: own},
			{Ring: ID{7, 2}, Parts: codecMembers[2:], Have: []uint64{0}, End: 3, Holder: NK{2, 1}, Late: codecMembers[2:]},
		}},
		&Recover{Ballot: b, Ring: ID{8, 1}, Target: NK{3, 9}, First: 5, Entries: entries},
		&Recover{Ballot: b, Ring: ID{8, 1}, Target: NK{3, 9}, First: 1, Late: install},
		&Ready{Ballot: b, Data: []byte("state")},
		install,
	}
}

// decodeAll decodes the one frame that raw holds.
func decodeAll(raw []byte, from NK, members []NK) (Frame, error) {
	var d Decoder
	for len(raw) >= HeaderSize {
		typ, flags, size := parseHeader(raw)
		if len(raw) < HeaderSize+size {
			return nil, errors.New("the frame is cut")
		}
		f, err := d.Frame(typ, flags, raw[HeaderSize:HeaderSize+size], from, members)
		if err != nil {
			return nil, err
		}
		raw = raw[HeaderSize+size:]
		if f != nil {
			if len(raw) > 0 {
				return f, errors.New("bytes are left")
			}
			return f, nil
		}
	}
	return nil, errors.New("no frame")
}

func TestCodec_GivesBackWhatItGot(t *testing.T) {
	for _, f := range someFrames() {
		raw := AppendFrame([]byte("before"), f)
		if !bytes.HasPrefix(raw, []byte("before")) {
			t.Fatalf("%T: got %q, want it behind what was there", f, raw[:6])
		}
		got, err := decodeAll(raw[6:], NK{1, 5}, codecMembers)
		if err != nil || !reflect.DeepEqual(got, f) {
			t.Errorf("%T: got %+v, %v, want %+v", f, got, err, f)
		}
		// A later version may say more.
		longer := append(bytes.Clone(raw[6:]), 1, 2, 3)
		binary.LittleEndian.PutUint32(longer, uint32(len(longer)-HeaderSize))
		if got, err := decodeAll(longer, NK{1, 5}, codecMembers); err != nil || !reflect.DeepEqual(got, f) {
			t.Errorf("%T with more behind it: got %+v, %v, want %+v", f, got, err, f)
		}
	}
}

func TestCodec_TellsSizesOfTheDataPathExactly(t *testing.T) {
	for _, f := range someFrames() {
		switch f.(type) {
		case *Ord, *SubmitFrame, *Ack:
			if got, want := EncodedSize(f), len(AppendFrame(nil, f)); got != want {
				t.Errorf("%T: got size %d, want %d", f, got, want)
			}
		}
	}
}

func TestCodec_RefusesWhatIsCutShort(t *testing.T) {
	for _, f := range someFrames() {
		raw := AppendFrame(nil, f)
		for n := range len(raw) - HeaderSize {
			var d Decoder
			got, err := d.Frame(f.frameType(), 0, raw[HeaderSize:HeaderSize+n], NK{1, 5}, codecMembers)
			if !errors.Is(err, ErrFrame) {
				t.Errorf("%T cut to %d of %d bytes: got %+v, %v, want an error", f, n, len(raw)-HeaderSize, got, err)
			}
		}
	}
}

func TestCodec_OrdOfAnotherRingHasNoEntries(t *testing.T) {
	f := &Ord{Ring: ID{5, 3}, First: 1, Members: codecMembers, Entries: []Entry{{NK{2, 1}, 1, 1, EntryFirst, []byte("x")}}}
	got, err := decodeAll(AppendFrame(nil, f), NK{3, 9}, codecMembers[:2])
	if err != nil {
		t.Fatal(err)
	}
	if o := got.(*Ord); len(o.Entries) != 0 || o.Ring != f.Ring {
		t.Errorf("got %+v, want the ring and no entries", o)
	}
}

func TestCodec_CutsLongFramesIntoChains(t *testing.T) {
	for _, size := range []int{MaxBody - 16, MaxBody - 15, 3 * MaxBody, 5*MaxBody + 12345} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * 7 >> 3)
		}
		f := &Ready{Ballot: ID{1, 1}, Data: data}
		raw := AppendFrame(nil, f)
		frames := 0
		for rest := raw; len(rest) > 0; frames++ {
			typ, flags, n := parseHeader(rest)
			rest = rest[HeaderSize+n:]
			if typ != TypeReady || n > MaxBody || flags != 0 != (len(rest) > 0) {
				t.Fatalf("size %d: got type %d, %d bytes, flags %d, %d bytes left", size, typ, n, flags, len(rest))
			}
		}
		if want := (size + 16 + MaxBody - 1) / MaxBody; frames != want {
			t.Errorf("size %d: got %d frames, want %d", size, frames, want)
		}
		if got, err := decodeAll(raw, NK{1, 1}, nil); err != nil || !reflect.DeepEqual(got, f) {
			t.Errorf("size %d: got a frame of %T, %v, want the same again", size, got, err)
		}
	}
}

func TestCodec_BoundsChains(t *testing.T) {
	more := func(d *Decoder, typ Type, n int) error {
		f, err := d.Frame(typ, FlagMore, make([]byte, n), NK{1, 1}, nil)
		if f != nil {
			t.Fatalf("got %+v from a part of a chain", f)
		}
		return err
	}
	var d Decoder
	for i := range MaxChain / MaxBody {
		if err := more(&d, TypeReport, MaxBody); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
	}
	if err := more(&d, TypeReport, 1); !errors.Is(err, ErrFrame) {
		t.Errorf("beyond MaxChain: got %v, want an error", err)
	}
	d = Decoder{}
	if err := more(&d, TypeOrd, 10); !errors.Is(err, ErrFrame) {
		t.Errorf("a chain of ORDs: got %v, want an error", err)
	}
	d = Decoder{}
	more(&d, TypeReport, 10)
	if _, err := d.Frame(TypeAck, 0, make([]byte, 20), NK{1, 1}, nil); !errors.Is(err, ErrFrame) {
		t.Errorf("another type within a chain: got %v, want an error", err)
	}
	d = Decoder{}
	if _, err := d.Frame(TypeReady, 0, make([]byte, MaxBody+1), NK{1, 1}, nil); !errors.Is(err, ErrFrame) {
		t.Errorf("a body above MaxBody: got %v, want an error", err)
	}
}

func TestCodec_AllocatesNothingPerEntry(t *testing.T) {
	var ord, sub []Frame
	for _, n := range []int{1, 500} {
		es := make([]Entry, n)
		for i := range es {
			es[i] = Entry{NK{1, 5}, uint64(i + 1), 1, EntryFirst, make([]byte, 64)}
		}
		ord = append(ord, &Ord{Ring: ID{1, 1}, First: 1, Members: codecMembers, Entries: es})
		sub = append(sub, &SubmitFrame{Ring: ID{1, 1}, Entries: es})
	}
	for _, fs := range [][]Frame{ord, sub} {
		var encode, decode [2]float64
		for i, f := range fs {
			var raw []byte
			encode[i] = testing.AllocsPerRun(20, func() { raw = AppendFrame(nil, f) })
			var d Decoder
			decode[i] = testing.AllocsPerRun(20, func() {
				if _, err := d.Frame(f.frameType(), 0, raw[HeaderSize:], NK{1, 5}, codecMembers); err != nil {
					t.Fatal(err)
				}
			})
		}
		if encode[0] != encode[1] || decode[0] != decode[1] || encode[1] > 1 || decode[1] > 2 {
			t.Errorf("%T: got %v allocations to encode 1 and 500 entries, %v to decode them, want at most 1 and 2", fs[0], encode, decode)
		}
	}
}

// FuzzDecode: whatever comes, there is no panic and no allocation beyond a
// multiple of its size, and what is understood is the same when it is encoded
// again.
func FuzzDecode(f *testing.F) {
	for _, fr := range someFrames() {
		raw := AppendFrame(nil, fr)
		f.Add(raw[4], raw[5], raw[HeaderSize:])
	}
	f.Add(uint8(TypeReport), uint8(FlagMore), []byte("a part"))
	f.Add(uint8(TypePrepare), uint8(0), bytes.Repeat([]byte{255}, 100))
	f.Fuzz(func(t *testing.T, typ, flags uint8, body []byte) {
		var d Decoder
		fr, err := d.Frame(Type(typ), flags, body, NK{1, 5}, codecMembers)
		if err != nil {
			if !errors.Is(err, ErrFrame) {
				t.Fatalf("got error %v, want one of ErrFrame", err)
			}
			return
		}
		if fr == nil {
			if flags&FlagMore == 0 {
				t.Fatal("got neither frame nor error from a whole frame")
			}
			return
		}
		first := AppendFrame(nil, fr)
		again, err := decodeAll(first, NK{1, 5}, codecMembers)
		if err != nil {
			t.Fatalf("decode %+v again: %v", fr, err)
		}
		if second := AppendFrame(nil, again); !bytes.Equal(first, second) {
			t.Fatalf("got %x, want %x\n%s\n%s", second, first, fmt.Sprintf("%+v", again), fmt.Sprintf("%+v", fr))
		}
	})
}
