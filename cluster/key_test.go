package cluster

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadKeyFile(t *testing.T) {
	k1, k2 := string(NewKey()), string(NewKey())
	short := base64.StdEncoding.EncodeToString(make([]byte, 31)) + "\n"
	var nine strings.Builder
	for range 9 {
		nine.Write(NewKey())
	}
	for _, tt := range []struct {
		name string
		text string
		mode os.FileMode
		keys int // 0: ErrInvalid
	}{
		{"one key", k1, 0o600, 1},
		{"read only", k1, 0o400, 1},
		{"two keys", k1 + k2, 0o600, 2},
		{"no newline", strings.TrimSpace(k1), 0o600, 1},
		{"empty lines and CR", "\n" + strings.TrimSpace(k1) + "\r\n\n" + k2, 0o600, 2},
		{"empty", "", 0o600, 0},
		{"blank", "\n\n", 0o600, 0},
		{"too short", short, 0o600, 0},
		{"no base64", "not a key\n", 0o600, 0},
		{"two on a line", strings.TrimSpace(k1) + " " + k2, 0o600, 0},
		{"twice the same", k1 + k1, 0o600, 0},
		{"comment", "# ours\n" + k1, 0o600, 0},
		{"nine keys", nine.String(), 0o600, 0},
		{"too long", k1 + strings.Repeat("\n", 5000), 0o600, 0},
		{"group reads", k1, 0o640, 0},
		{"others read", k1, 0o604, 0},
		{"group writes", k1, 0o620, 0},
		{"others execute", k1, 0o601, 0},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		k, err := ReadKeyFile(path)
		switch {
		case tt.keys == 0 && !errors.Is(err, ErrInvalid):
			t.Errorf("%s: %v, want ErrInvalid", tt.name, err)
		case tt.keys > 0 && (err != nil || len(k.keys) != tt.keys):
			t.Errorf("%s: %v, want %d keys", tt.name, err, tt.keys)
		}
		if err != nil && strings.Contains(err.Error(), strings.TrimSpace(k1)) {
			t.Errorf("%s: the error tells the key: %v", tt.name, err)
		}
	}
}

func TestReadKeyFile_WhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadKeyFile(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v, want ErrNotExist", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeyFile(dir); !errors.Is(err, ErrInvalid) {
		t.Errorf("folder: %v, want ErrInvalid", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeyFile(fifo); !errors.Is(err, ErrInvalid) { // and it does not wait for a writer
		t.Errorf("FIFO: %v, want ErrInvalid", err)
	}
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, NewKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(key, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeyFile(filepath.Join(dir, "link")); err != nil {
		t.Errorf("link to a good file: %v", err)
	}
}

func TestReadKeyFile_OwnerIsOursOrRoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, NewKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	owner := fi.Sys().(*syscall.Stat_t)
	for _, tt := range []struct {
		owner uint32
		euid  int
		ok    bool
	}{{1000, 1000, true}, {0, 1000, true}, {0, 0, true}, {1000, 1001, false}, {1000, 0, false}} {
		owner.Uid = tt.owner
		if err := checkKeyFile(fi, tt.euid); (err == nil) != tt.ok {
			t.Errorf("file of %d read by %d: %v, want ok %v", tt.owner, tt.euid, err, tt.ok)
		}
	}
}

// TestKey_Derivation holds the derived keys still: another value would shut the
// nodes of older versions out. The values were computed by Python's hmac module.
func TestKey_Derivation(t *testing.T) {
	raw := make([]byte, keySize)
	for i := range raw {
		raw[i] = byte(i)
	}
	k := mustKey([]byte(base64.StdEncoding.EncodeToString(raw)))
	for got, want := range map[string]string{
		hex.EncodeToString(k.Gossip("convoke")):       "54063e11d3b80daca2608c28f4bb72c23484c8d5fc08ac5e77e896e5f228e57f",
		hex.EncodeToString(k.SessionCA("convoke")[0]): "7d21c6517a21032dc19e3e78a4a854fe49307b466972857684ff7388906b8461",
		k.Fingerprint("convoke"):                      "2c02e29b",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if bytes.Equal(k.Gossip("convoke"), k.Gossip("other")) || k.Fingerprint("convoke") == k.Fingerprint("other") {
		t.Error("the cluster's name makes no difference")
	}
}

func TestKey_OnlyTheFirstGossips(t *testing.T) {
	a, b := NewKey(), NewKey()
	ka, kab := mustKey(a), mustKey(append(append([]byte{}, a...), b...))
	if !bytes.Equal(ka.Gossip("c"), kab.Gossip("c")) || ka.Fingerprint("c") != kab.Fingerprint("c") {
		t.Error("a second key changes the gossip key or the fingerprint")
	}
	if cas := kab.SessionCA("c"); len(cas) != 2 || !bytes.Equal(cas[0], ka.SessionCA("c")[0]) || bytes.Equal(cas[0], cas[1]) {
		t.Error("sessions do not accept both keys, ours first")
	}
}

func TestKey_PrintsNothing(t *testing.T) {
	k := mustKey(NewKey())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := strings.Trim(fmt.Sprintf(verb, k), `"`); got != "(key)" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestNewKey_IsReadable(t *testing.T) {
	a, b := NewKey(), NewKey()
	if bytes.Equal(a, b) || len(a) != 45 || a[44] != '\n' {
		t.Errorf("keys %q and %q", a, b)
	}
	if _, err := ParseKey(a); err != nil {
		t.Error(err)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(NewKey())
	f.Add([]byte("\n\nAAAA\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := ParseKey(text)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if len(k.keys) == 0 || len(k.keys) > maxKeys {
			t.Fatalf("%d keys", len(k.keys))
		}
		var again []byte
		for _, key := range k.keys {
			if len(key) != keySize {
				t.Fatalf("key of %d bytes", len(key))
			}
			again = append(base64.StdEncoding.AppendEncode(again, key), '\n')
		}
		if _, err := ParseKey(again); err != nil {
			t.Fatalf("what was read can not be read again: %v", err)
		}
	})
}
