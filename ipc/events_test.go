package ipc

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/rendezvous"
)

func TestParseEvent_EachKind(t *testing.T) {
	const at = "2026-01-31T10:00:00.123Z"
	for _, tc := range []struct {
		line string
		want Event
	}{
		{"1 " + at + " SNAP 2 web2 alive in", Event{Seq: 1, Time: at, Kind: "SNAP", ID: 2, Name: "web2", State: "alive", Role: "in"}},
		{"1 " + at + " SNAP 2 web2 alive in ring=12.1", Event{Seq: 1, Time: at, Kind: "SNAP", ID: 2, Name: "web2", State: "alive", Role: "in", Fields: []string{"ring=12.1"}}},
		{"4 " + at + " SNAPEND", Event{Seq: 4, Time: at, Kind: "SNAPEND"}},
		{"5 " + at + " MEMBER_JOINED 2 web2", Event{Seq: 5, Time: at, Kind: "MEMBER_JOINED", ID: 2, Name: "web2"}},
		{"6 " + at + " MEMBER_LEFT 2 web2 state=failed", Event{Seq: 6, Time: at, Kind: "MEMBER_LEFT", ID: 2, Name: "web2", State: "failed"}},
		{"7 " + at + " LOST 12", Event{Seq: 7, Time: at, Kind: "LOST", Lost: 12}},
		{"8 " + at + " RESET", Event{Seq: 8, Time: at, Kind: "RESET"}},
		{"9 " + at + " NEWER a b=c", Event{Seq: 9, Time: at, Kind: "NEWER", Fields: []string{"a", "b=c"}}},
	} {
		got, err := ParseEvent(tc.line)
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q:\ngot  %+v, %v\nwant %+v", tc.line, got, err, tc.want)
		}
	}
}

func TestParseEvent_WhatIsNoEventIsRefused(t *testing.T) {
	for _, line := range []string{"", "1 t", "x t SNAP 1 a", "1 t SNAP x a", "1 t MEMBER_LEFT", "1 t LOST", "1 t SNAP 4294967296 a"} {
		if e, err := ParseEvent(line); err == nil {
			t.Errorf("%q: got %+v, want an error", line, e)
		}
	}
}

func TestEvents_FilterIsPartOfTheName(t *testing.T) {
	tree := layOut(t, map[string]string{
		"cluster/events": "all\n",
		"cluster/events,MEMBER_LEFT,MEMBER_JOINED": "some\n",
	})
	for _, tc := range []struct {
		kinds []string
		want  string
	}{{nil, "all\n"}, {[]string{"MEMBER_LEFT", "MEMBER_JOINED"}, "some\n"}} {
		r, err := tree.Events(tc.kinds...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != tc.want {
			t.Errorf("%v: got %q, %v, want %q", tc.kinds, got, err, tc.want)
		}
		r.Close()
	}
}

func TestEvents_UnknownKindIsInvalid(t *testing.T) {
	tree := layOut(t, map[string]string{"cluster/events": "", "cluster/log": ""})
	for _, kind := range []string{"", "/../log", "snap", "A,B", "UNHEARD_OF"} {
		r, err := tree.Events(kind)
		if rendezvous.KindOf(err) != rendezvous.Invalid {
			t.Errorf("%q: got %v, %v, want Invalid", kind, r, err)
		}
	}
}

func TestEvents_CloseEndsAReadThatWaits(t *testing.T) {
	tree := layOut(t, nil)
	path := filepath.Join(tree.Dir, "cluster/events")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	events, err := tree.Events()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.WriteString("first\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, err := events.Read(buf); err != nil || string(buf[:n]) != "first\n" {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := events.Read(buf)
		ended <- err
	}()
	if err := events.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want %v", err, os.ErrClosed)
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add("5 2026-01-31T10:00:00.123Z MEMBER_LEFT 2 web2 state=failed")
	f.Add("1 t SNAP 2 web2 alive in ring=12.1")
	f.Fuzz(func(t *testing.T, line string) {
		e, err := ParseEvent(line)
		if err != nil {
			return
		}
		if _, err := json.Marshal(e); err != nil {
			t.Errorf("%q has no JSON: %v", line, err)
		}
	})
}
