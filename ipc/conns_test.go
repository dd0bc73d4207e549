package ipc

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// conn adds the files of one connection to files.
func conn(files map[string]string, id, status, peer string) map[string]string {
	dir := "conn/" + id + "/"
	files[dir+"status"] = status + "\n"
	files[dir+"local"] = "127.0.0.1!40000\n"
	files[dir+"remote"] = "127.0.0.2!80\n"
	files[dir+"peer"] = peer + "\n"
	return files
}

func TestConns_TellStateBytesAndPeer(t *testing.T) {
	files := conn(map[string]string{}, "17",
		"17 open dev/tcp/web2/80 uid=1000 pid=42 in=5 out=7 age=1.5", "127.0.0.2 web2 - - -")
	conn(files, "3", "3 shut dev/udp/::1/53 uid=0 pid=9 in=0 out=0 age=0", "- - - - -")
	got, err := layOut(t, files).Conns()
	if err != nil {
		t.Fatal(err)
	}
	want := []Conn{
		{ID: 3, State: "shut", Path: "dev/udp/::1/53", Local: "127.0.0.1!40000", Remote: "127.0.0.2!80", PID: 9},
		{ID: 17, State: "open", Path: "dev/tcp/web2/80", Local: "127.0.0.1!40000", Remote: "127.0.0.2!80",
			UID: 1000, PID: 42, In: 5, Out: 7, Age: 1.5, Peer: Peer{Host: "127.0.0.2", Node: "web2"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestConns_OneThatIsClosedMeanwhileIsLeftOut(t *testing.T) {
	tree := layOut(t, conn(map[string]string{}, "1", "1 open dev/tcp/a/1", "- - - - -"))
	if err := os.Mkdir(filepath.Join(tree.Dir, "conn/2"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := tree.Conns()
	if err != nil || len(got) != 1 || got[0].ID != 1 {
		t.Errorf("got %+v, %v, want connection 1 only", got, err)
	}
}

func TestConns_NoneIsAnEmptyList(t *testing.T) {
	tree := layOut(t, nil)
	if err := os.Mkdir(filepath.Join(tree.Dir, "conn"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := tree.Conns()
	if text, _ := json.Marshal(got); err != nil || string(text) != "[]" {
		t.Errorf("got %s, %v, want []", text, err)
	}
}

func TestParseConn_WhatIsNoStatusIsRefused(t *testing.T) {
	for _, line := range []string{
		"", "1", "1 open", "x open dev/tcp/a/1", "-1 open dev/tcp/a/1",
		"1 open p uid=4294967296", "1 open p in=-1", "1 open p age=NaN", "1 open p age=+Inf", "1 open p pid=x",
	} {
		if c, err := parseConn(line); err == nil {
			t.Errorf("%q: got %+v, want an error", line, c)
		}
	}
	// A newer daemon may tell more.
	if _, err := parseConn("1 open p uid=1 ring=12.1 word"); err != nil {
		t.Errorf("unknown fields: %v", err)
	}
}

func FuzzParseConn(f *testing.F) {
	f.Add("17 open dev/tcp/web2/80 uid=1000 pid=42 in=5 out=7 age=1.5", "h n 1 2 3")
	f.Fuzz(func(t *testing.T, status, peer string) {
		if c, err := parseConn(status); err == nil {
			if _, err := json.Marshal(c); err != nil {
				t.Errorf("%q has no JSON: %v", status, err)
			}
		}
		if p, err := parsePeer(peer); err == nil && (p.Host == "-" || p.GID == "-") {
			t.Errorf("%q gave %+v", peer, p)
		}
	})
}
