package ipc

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestMembers_SortedByIDWithTheirTags(t *testing.T) {
	files := map[string]string{}
	member(files, "web10", "10", "failed", "")
	member(files, "web2", "2", "alive", "zone=a\nurl=http://x/?a=b\nempty=\n")
	got, err := layOut(t, files).Members()
	if err != nil {
		t.Fatal(err)
	}
	want := []Member{
		{ID: 2, Name: "web2", Addr: "127.0.0.2:7946", State: "alive", Role: "in", Boot: 3, Version: "0.1",
			Tags: map[string]string{"zone": "a", "url": "http://x/?a=b", "empty": ""}},
		{ID: 10, Name: "web10", Addr: "127.0.0.10:7946", State: "failed", Role: "in", Boot: 3, Version: "0.1",
			Tags: map[string]string{}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestMembers_OneThatGoesAwayIsLeftOut(t *testing.T) {
	tree := layOut(t, member(map[string]string{}, "web1", "1", "alive", ""))
	// As it is between the reading of the folder and that of the member.
	if err := os.Mkdir(filepath.Join(tree.Dir, "cluster/members/web2"), 0o755); err != nil {
		t.Fatal(err)
	}
	// And as it is when the files have been looked up already.
	gone := filepath.Join(tree.Dir, "cluster/members/web3")
	if err := os.Mkdir(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"id", "addr", "state", "role", "boot", "version", "tags"} {
		if err := os.WriteFile(filepath.Join(gone, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := tree.Members()
	if err != nil || len(got) != 1 || got[0].Name != "web1" {
		t.Errorf("got %+v, %v, want web1 only", got, err)
	}
}

func TestMembers_WhatCannotBeReadIsAnError(t *testing.T) {
	for _, tc := range []struct{ id, tags string }{{"-1", ""}, {"4294967296", ""}, {"x", ""}, {"1", "zone\n"}, {"1", "=a\n"}} {
		tree := layOut(t, member(map[string]string{}, "web1", tc.id, "alive", tc.tags))
		if got, err := tree.Members(); err == nil || !strings.HasPrefix(err.Error(), "read cluster/members: ") {
			t.Errorf("id %q tags %q: got %v, %v, want an error", tc.id, tc.tags, got, err)
		}
	}
}

func TestStatus_NamesClusterAndSelf(t *testing.T) {
	files := member(map[string]string{
		"cluster/name": "prod\n", "cluster/version": "0.1\n", "cluster/self@": "members/web1",
	}, "web1", "1", "alive", "")
	got, err := layOut(t, files).Status()
	if err != nil {
		t.Fatal(err)
	}
	if got.Cluster != "prod" || got.Self != "web1" || got.Version != "0.1" || len(got.Members) != 1 {
		t.Errorf("got %+v", got)
	}
}

func FuzzParseTags(f *testing.F) {
	f.Add("a=b\nc=\n")
	f.Add("a==\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		tags, err := parseTags(text)
		if err != nil {
			return
		}
		for key, value := range tags {
			if key == "" || !strings.Contains(text, key+"="+value) {
				t.Errorf("%q gave %q=%q", text, key, value)
			}
		}
	})
}
