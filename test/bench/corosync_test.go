package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/convoke-fs/convoke/test/netns"
)

func TestCorosync_ConfigNamesAllNodesAndTheCrypto(t *testing.T) {
	w := &netns.Net{Hosts: []*netns.Host{{Addr: "10.77.0.1"}, {Addr: "10.77.0.2"}}}
	for _, crypto := range []bool{false, true} {
		dir := t.TempDir()
		want := "crypto_cipher: none\n  crypto_hash: none\n}"
		if crypto {
			want = "crypto_cipher: aes256\n  crypto_hash: sha256\n  keyfile: " + dir + "/key\n}"
		}
		made, err := newCorosyncs(dir, "member", crypto)(w)
		if err != nil {
			t.Fatal(err)
		}
		text := made.(*corosyncs).config(1, crypto)
		for _, w := range []string{want, "ring0_addr: 10.77.0.1\n    name: n1\n    nodeid: 1", "ring0_addr: 10.77.0.2\n    name: n2\n    nodeid: 2", "logfile: " + dir + "/log2"} {
			if !strings.Contains(text, w) {
				t.Errorf("crypto %v: got\n%s\nwant in it: %s", crypto, text, w)
			}
		}
	}
}

// The member is C for a library that few have; where it is there, it must build without a warning.
func TestCorosync_MemberBuilds(t *testing.T) {
	if _, err := exec.LookPath(corosyncProgram); err != nil {
		t.Skipf("needs corosync: %v", err)
	}
	program, err := buildCPG(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(program).Run(); err == nil {
		t.Error("got success of a member without a name and a group")
	}
}
