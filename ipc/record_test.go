package ipc

import (
	"encoding/hex"
	"encoding/json"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	confOf = Record{Kind: ConfRecord, Ring: RingID{12, 1}, Pos: 7, Members: []Process{{1, 4242, 1}, {2, 77, 2}},
		Joined: []Change{{Process{2, 77, 2}, Joined}}}
	msgOf  = Record{Kind: MessageRecord, Ring: RingID{12, 1}, Pos: 8, From: Process{1, 4242, 1}, Data: []byte("hello world")}
	ringOf = Record{Kind: RingRecord, Ring: RingID{13, 2}, Nodes: []uint32{1, 2, 3}}
)

func TestRecord_TextIsALineOfTheFeed(t *testing.T) {
	for _, tc := range []struct {
		r    Record
		want string
	}{
		{confOf, "conf members=1:4242,2:77.2 joined=2:77.2:JOIN left=-\n"},
		{Record{Kind: ConfRecord, Left: []Change{{Process{3, 1, 1}, NodeDown}, {Process{3, 2, 1}, 9}}},
			"conf members=- joined=- left=3:1:NODEDOWN,3:2:UNDEFINED\n"},
		{msgOf, "msg 1 4242 hello world\n"},
		{Record{Kind: MessageRecord, From: Process{1, 42, 3}}, "msg 1 42.3 \n"},
		{Record{Kind: MessageRecord, From: Process{1, 42, 0}, Data: []byte("a\nb\tc\\d\x1b\xff\x7f ~")},
			`msg 1 42.0 a\nb\tc\\d\x1B\xFF\x7F ~` + "\n"},
		{ringOf, "ring 13.2 members=1,2,3\n"},
	} {
		if got := string(tc.r.AppendText(nil)); got != tc.want {
			t.Errorf("got  %q\nwant %q", got, tc.want)
		}
	}
	if got := (Process{1, 2, 3}).String() + " " + (RingID{12, 1}).String(); got != "1:2.3 12.1" {
		t.Errorf("got %q", got)
	}
}

func TestRecord_JSON(t *testing.T) {
	for _, tc := range []struct {
		r    Record
		want string
	}{
		{confOf, `{"kind":"conf","ring":"12.1","pos":7,"members":[{"node":1,"pid":4242,"n":1},{"node":2,"pid":77,"n":2}],` +
			`"joined":[{"node":2,"pid":77,"n":2,"reason":"JOIN"}],"left":[]}`},
		{Record{Kind: MessageRecord, From: Process{1, 42, 1}, Data: []byte("a\n<é>")},
			`{"kind":"msg","ring":"0.0","pos":0,"node":1,"pid":42,"n":1,"text":"a\n\u003cé\u003e"}`},
		{Record{Kind: MessageRecord, From: Process{1, 42, 1}, Data: []byte{0xff}},
			`{"kind":"msg","ring":"0.0","pos":0,"node":1,"pid":42,"n":1,"base64":"/w=="}`},
		{Record{Kind: MessageRecord}, `{"kind":"msg","ring":"0.0","pos":0,"node":0,"pid":0,"n":0,"text":""}`},
		{ringOf, `{"kind":"ring","ring":"13.2","nodes":[1,2,3]}`},
	} {
		if got, err := json.Marshal(tc.r); err != nil || string(got) != tc.want {
			t.Errorf("got  %s, %v\nwant %s", got, err, tc.want)
		}
	}
}

// The layout is spoken by programs in other languages, so it is held byte by byte.
func TestFeed_LayoutIsAsDocumented(t *testing.T) {
	for _, tc := range []struct{ name, got, want string }{
		{"message", hex.EncodeToString(appendMessage(nil, []byte("abc"))), "0b000000" + "0100" + "0000" + "616263" + "0000000000"},
		{"empty message", hex.EncodeToString(appendMessage(nil, nil)), "08000000" + "0100" + "0000"},
		{"full message", hex.EncodeToString(appendMessage(nil, []byte("12345678"))), "10000000" + "0100" + "0000" + "3132333435363738"},
		{"end", hex.EncodeToString(appendEnd(nil, unix.EPIPE)), "0c000000" + "0400" + "0000" + "20000000" + "00000000"},
		{"msg", hex.EncodeToString(appendRecord(nil, &msgOf)), "33000000" + "0200" + "0000" + "0800000000000000" + "0c00000000000000" +
			"01000000" + "01000000" + "92100000" + "01000000" + hex.EncodeToString([]byte("hello world")) + "0000000000"},
		{"conf", hex.EncodeToString(appendRecord(nil, &confOf)), "50000000" + "0100" + "0000" + "0700000000000000" + "0c00000000000000" +
			"01000000" + "02000000" + "01000000" + "00000000" + "01000000" + "92100000" + "01000000" + "02000000" + "4d000000" + "02000000" +
			"02000000" + "4d000000" + "02000000" + "01000000"},
		{"ring", hex.EncodeToString(appendRecord(nil, &ringOf)), "2c000000" + "0300" + "0000" + "0000000000000000" + "0d00000000000000" +
			"02000000" + "03000000" + "01000000" + "02000000" + "03000000" + "00000000"},
		{"join", hex.EncodeToString(joinRequest{"ab", joinCreate}.append(nil)), "0200" + "6162" + "01000000"},
		{"joined", hex.EncodeToString(joined{1, 2, 3}.append(nil)), "01000000" + "02000000" + "03000000"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.name, tc.got, tc.want)
		}
	}
}

func TestFeed_WhatIsWrittenIsRead(t *testing.T) {
	var got Record // of which the slices are used again
	for _, want := range []Record{confOf, msgOf, ringOf, {Kind: MessageRecord, Data: []byte{}}, {Kind: ConfRecord}} {
		b := appendRecord(nil, &want)
		size, kind, ok := feedFrame(b)
		if !ok || padded(size) != len(b) {
			t.Fatalf("%+v: %d bytes in %d", want, size, len(b))
		}
		ended, _, err := got.decode(kind, b[:size])
		if err != nil || ended || !reflect.DeepEqual(got, withLists(want, got)) || string(got.AppendText(nil)) != string(want.AppendText(nil)) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
	size, kind, _ := feedFrame(appendEnd(nil, unix.EPIPE))
	if ended, errno, err := got.decode(kind, appendEnd(nil, unix.EPIPE)[:size]); !ended || errno != unix.EPIPE || err != nil {
		t.Errorf("end: got %v, %v, %v", ended, errno, err)
	}
	if id, err := decodeJoined(append(joined{1, 2, 3}.append(nil), "more"...)); err != nil || id != (joined{1, 2, 3}) {
		t.Errorf("joined: got %+v, %v", id, err)
	}
}

// withLists returns r with its empty lists as those of other, which may be nil or not.
func withLists(r, other Record) Record {
	if len(r.Members) == 0 {
		r.Members = other.Members[:0]
	}
	if len(r.Joined) == 0 {
		r.Joined = other.Joined[:0]
	}
	if len(r.Left) == 0 {
		r.Left = other.Left[:0]
	}
	if len(r.Nodes) == 0 {
		r.Nodes = other.Nodes[:0]
	}
	return r
}

func TestFeed_WhatEndsEarlyIsAnError(t *testing.T) {
	for _, whole := range [][]byte{appendRecord(nil, &confOf), appendRecord(nil, &ringOf), appendRecord(nil, &msgOf)[:feedMsgHead]} {
		size, kind, _ := feedFrame(whole)
		for n := feedHeader; n < min(size, len(whole)); n++ {
			var r Record
			if _, _, err := r.decode(kind, whole[:n]); err == nil {
				t.Errorf("kind %d: %d of %d bytes were taken", kind, n, size)
			}
		}
	}
	if _, err := decodeJoined([]byte{1, 2, 3}); err == nil {
		t.Error("joined: 3 bytes were taken")
	}
	if _, err := decodeJoinRequest([]byte{1, 0, 'a', 0}); err == nil {
		t.Error("join: no flags were taken")
	}
}

func TestGroupName_HasOneNameInTheTree(t *testing.T) {
	long := make([]byte, 128)
	for i := range long {
		long[i] = 'a'
	}
	for name, want := range map[string]string{
		"chat": "chat", "a.b_c-9": "a.b_c-9", "": "%", ".x": "%2Ex", "a b/é": "a%20b%2F%C3%A9", "100%": "100%25",
		string(long[:127]): string(long[:127]), string(long): "%61" + string(long[1:]),
	} {
		got := EscapeGroup(name)
		if back, ok := UnescapeGroup(got); got != want || !ok || back != name {
			t.Errorf("%q: got %q and back %q, %v, want %q", name, got, back, ok, want)
		}
	}
	for _, bad := range []string{"", "a b", "%6", "%6g", "a%2e", "%61", "%%", "a%", string(long) + "a", "%61" + string(long)} {
		if name, ok := UnescapeGroup(bad); ok {
			t.Errorf("%q is the name of %q", bad, name)
		}
	}
}
