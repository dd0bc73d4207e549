package group

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

func TestPacket_ComesBack(t *testing.T) {
	var all []byte
	for _, s := range sampleRecords {
		all = s.r.AppendPacket(all)
	}
	rest := all
	for _, s := range sampleRecords {
		r, next, err := ParsePacket(rest)
		if err != nil || !reflect.DeepEqual(*r, s.r) {
			t.Fatalf("got %+v, %v, want %+v", r, err, s.r)
		}
		for n := range len(rest) - len(next) {
			if _, _, err := ParsePacket(rest[:n]); !errors.Is(err, ErrPacket) {
				t.Fatalf("%d bytes of a packet: got %v, want ErrPacket", n, err)
			}
		}
		rest = next
	}
	if len(rest) != 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
}

// Programs in other languages read these bytes.
func TestPacket_Layout(t *testing.T) {
	id := ring.ID{Seq: 0x0102030405060708, Rep: 9}
	tests := []struct {
		r    Record
		want string
	}{
		{Record{Kind: Conf, Ring: id, Pos: 5, Members: []Process{{1, 2, 3}}, Joined: []Changed{{Process{1, 2, 3}, Join}}, Left: []Changed{{Process{4, 5, 6}, ProcDown}}},
			"58000000 01000000 0807060504030201 0500000000000000 09000000 01000000 01000000 01000000" +
				"01000000 02000000 03000000 00000000 01000000 02000000 03000000 01000000 04000000 05000000 06000000 05000000"},
		{Record{Kind: Msg, Ring: id, Pos: 5, From: Process{1, 2, 3}, Data: []byte("hi")},
			"32000000 02000000 0807060504030201 0500000000000000 09000000 00000000 01000000 02000000 03000000 00000000 6869"},
		{Record{Kind: Ring, Ring: id, Nodes: []uint32{1, 2}},
			"28000000 03000000 0807060504030201 0000000000000000 09000000 02000000 01000000 02000000"},
	}
	for _, tt := range tests {
		want, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(tt.want), []byte(" "), nil)))
		if err != nil {
			t.Fatal(err)
		}
		if got := tt.r.AppendPacket(nil); !bytes.Equal(got, want) {
			t.Errorf("got  %x\nwant %x", got, want)
		}
	}
}

func FuzzPacket(f *testing.F) {
	for _, s := range sampleRecords {
		f.Add(s.r.AppendPacket(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := ParsePacket(b)
		if err != nil {
			return
		}
		if len(rest) > len(b)-packetHeader {
			t.Fatalf("%d of %d bytes are left", len(rest), len(b))
		}
		r.AppendText(nil)
		again, rest, err := ParsePacket(r.AppendPacket(nil))
		if err != nil || len(rest) != 0 || !reflect.DeepEqual(r, again) {
			t.Fatalf("got %+v, then %+v, %v", r, again, err)
		}
	})
}
