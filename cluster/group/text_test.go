package group

import (
	"bytes"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

var sampleRecords = []struct {
	r    Record
	text string
}{
	{Record{Kind: Conf, Ring: ring.ID{Seq: 12, Rep: 1}, Pos: 7,
		Members: []Process{{1, 4242, 1}, {2, 77, 1}}, Joined: []Changed{{Process{2, 77, 1}, Join}}},
		"conf members=1:4242,2:77 joined=2:77:JOIN left=-\n"},
	{Record{Kind: Conf, Left: []Changed{{Process{2, 77, 3}, NodeDown}, {Process{3, 1, 1}, ProcDown}}},
		"conf members=- joined=- left=2:77.3:NODEDOWN,3:1:PROCDOWN\n"},
	{Record{Kind: Conf, Members: []Process{{1, 4242, 2}}, Joined: []Changed{{Process{1, 4242, 2}, NodeUp}}, Left: []Changed{{Process{1, 4242, 1}, Leave}, {Process{1, 4242, 1}, 9}}},
		"conf members=1:4242.2 joined=1:4242.2:NODEUP left=1:4242:LEAVE,1:4242:UNDEFINED\n"},
	{Record{Kind: Msg, From: Process{1, 4242, 1}, Data: []byte("hello world")}, "msg 1 4242 hello world\n"},
	{Record{Kind: Msg, From: Process{1, 4242, 2}, Data: []byte("text")}, "msg 1 4242.2 text\n"},
	{Record{Kind: Msg, From: Process{1, 4242, 0}, Data: []byte("text")}, "msg 1 4242.0 text\n"},
	{Record{Kind: Msg, From: Process{1, 1, 1}, Data: []byte{}}, "msg 1 1 \n"},
	{Record{Kind: Msg, From: Process{1, 1, 1}, Data: []byte(" a\tb\nc\\d\r\x1b[0m\x7f\xc3\xa9 ~")},
		`msg 1 1  a\tb\nc\\d\x0D\x1B[0m\x7F\xC3\xA9 ~` + "\n"},
	{Record{Kind: Ring, Ring: ring.ID{Seq: 12, Rep: 1}, Nodes: []uint32{1, 2, 3}}, "ring 12.1 members=1,2,3\n"},
	{Record{Kind: Ring}, "ring 0.0 members=-\n"},
}

func TestRecord_AppendText(t *testing.T) {
	for _, tt := range sampleRecords {
		if got := string(tt.r.AppendText([]byte("x"))); got != "x"+tt.text {
			t.Errorf("got\n%qwant\n%q", got, "x"+tt.text)
		}
	}
}

// S27: whatever a member sends, what others print is one line of ASCII, and the
// data comes back from it.
func FuzzText(f *testing.F) {
	for _, tt := range sampleRecords {
		f.Add(tt.r.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := appendEscaped(nil, data)
		var back []byte
		for i := 0; i < len(b); i++ {
			switch {
			case b[i] < ' ' || b[i] >= 0x7f:
				t.Fatalf("%q holds the byte %#x", b, b[i])
			case b[i] != '\\':
				back = append(back, b[i])
				continue
			}
			i++
			switch b[i] {
			case 'n':
				back = append(back, '\n')
			case 't':
				back = append(back, '\t')
			case '\\':
				back = append(back, '\\')
			case 'x':
				hi, lo := bytes.IndexByte([]byte(hexDigits), b[i+1]), bytes.IndexByte([]byte(hexDigits), b[i+2])
				back = append(back, byte(hi<<4|lo))
				i += 2
			default:
				t.Fatalf("%q has an unknown escape", b)
			}
		}
		if !bytes.Equal(back, data) {
			t.Fatalf("%q comes back as %q", data, back)
		}
	})
}
