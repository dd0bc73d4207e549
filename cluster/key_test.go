package cluster

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
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

// greet lets a client and a server of two configurations meet, and tells what
// each says of the other. A pipe in memory does for those who agree; refusals
// need the buffers of a socket, since both may write at the same time.
func greet(t *testing.T, client, server *tls.Config) (clientErr, serverErr error, clientSees, serverSees *x509.Certificate) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return greetOver(a, b, client, server)
}

func greetOver(a, b net.Conn, client, server *tls.Config) (clientErr, serverErr error, clientSees, serverSees *x509.Certificate) {
	c, s := tls.Client(a, client), tls.Server(b, server)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x")) // a client learns only now that it was taken
		}
		b.Close()
		done <- err
	}()
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = io.ReadFull(c, make([]byte, 1))
	}
	a.Close()
	serverErr = <-done
	peer := func(c *tls.Conn) *x509.Certificate {
		if certs := c.ConnectionState().PeerCertificates; len(certs) > 0 {
			return certs[0]
		}
		return nil
	}
	return clientErr, serverErr, peer(c), peer(s)
}

func sessionTLS(t *testing.T, keys []byte, cluster, node string) *tls.Config {
	t.Helper()
	c, err := mustKey(keys).SessionTLS(cluster, node)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSessionTLS_WhoMeets(t *testing.T) {
	older, newer, foreign := NewKey(), NewKey(), NewKey()
	both := func(a, b []byte) []byte { return slices.Concat(a, b) }
	for _, tt := range []struct {
		name     string
		keys     [2][]byte
		clusters [2]string
		ok       bool
	}{
		{"one key", [2][]byte{older, older}, [2]string{"c", "c"}, true},
		{"another key", [2][]byte{older, foreign}, [2]string{"c", "c"}, false},
		{"another cluster", [2][]byte{older, older}, [2]string{"c", "d"}, false},
		{"rotation, first step", [2][]byte{older, both(older, newer)}, [2]string{"c", "c"}, true},
		{"rotation, second step", [2][]byte{both(older, newer), both(newer, older)}, [2]string{"c", "c"}, true},
		{"rotation, last step", [2][]byte{both(newer, older), newer}, [2]string{"c", "c"}, true},
		{"a step left out", [2][]byte{older, newer}, [2]string{"c", "c"}, false},
		{"the old key after the rotation", [2][]byte{both(older, newer), newer}, [2]string{"c", "c"}, false},
		{"a second key does not help a stranger", [2][]byte{both(foreign, older), older}, [2]string{"c", "c"}, false},
	} {
		for _, swap := range []bool{false, true} {
			a, b := sessionTLS(t, tt.keys[0], tt.clusters[0], "a"), sessionTLS(t, tt.keys[1], tt.clusters[1], "b")
			if swap {
				a, b = b, a
			}
			cerr, serr, _, _ := greet(t, a, b)
			if got := cerr == nil && serr == nil; got != tt.ok {
				t.Errorf("%s, swapped %v: client %v, server %v, want ok %v", tt.name, swap, cerr, serr, tt.ok)
			}
			if !tt.ok && cerr == nil {
				t.Errorf("%s, swapped %v: the client believes that it is in", tt.name, swap)
			}
		}
	}
}

func TestSessionTLS_TellsTheNode(t *testing.T) {
	key := NewKey()
	for _, node := range []string{"a", "node_1.x", "node.", "A-", "convoke", strings.Repeat("n", maxName)} {
		cerr, serr, server, client := greet(t, sessionTLS(t, key, "c", "me"), sessionTLS(t, key, "c", node))
		if cerr != nil || serr != nil {
			t.Errorf("%s: client %v, server %v", node, cerr, serr)
			continue
		}
		if want := []string{"convoke", node}; !slices.Equal(server.DNSNames, want) {
			t.Errorf("the server is %q, want %q", server.DNSNames, want)
		}
		if want := []string{"convoke", "me"}; !slices.Equal(client.DNSNames, want) {
			t.Errorf("the client is %q, want %q", client.DNSNames, want)
		}
	}
	k := mustKey(key)
	for _, bad := range []string{"", "a b", "*", "x/y", strings.Repeat("n", maxName+1)} {
		if _, err := k.SessionTLS("c", bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("node %q: %v, want ErrInvalid", bad, err)
		}
		if _, err := k.SessionTLS(bad, "n"); !errors.Is(err, ErrInvalid) {
			t.Errorf("cluster %q: %v, want ErrInvalid", bad, err)
		}
	}
}

// The host's clock is that of the configuration's Time, so what a clock of 1970
// or 2100 would say is asked of the certificates themselves.
func TestSessionTLS_AsksNoClock(t *testing.T) {
	key := NewKey()
	c := sessionTLS(t, key, "c", "n")
	if c.Time == nil {
		t.Fatal("the host's clock is asked")
	}
	now := c.Time()
	for _, raw := range c.Certificates[0].Certificate {
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) || now != c.Time() {
			t.Errorf("valid from %v to %v, but it is always %v", cert.NotBefore, cert.NotAfter, now)
		}
	}
	// With the clock of 1970 in its place a handshake fails, so the test sees a
	// configuration that asks it.
	wrong := c.Clone()
	wrong.Time = func() time.Time { return time.Unix(0, 0) }
	if cerr, serr, _, _ := greet(t, wrong, c); cerr == nil && serr == nil {
		t.Error("a certificate from 2000 on is valid in 1970")
	}
	// synctest's clock begins in 2000, and can be put to 2100.
	for _, ahead := range []time.Duration{0, 100 * 365 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(ahead)
			a, b := net.Pipe()
			if cerr, serr, _, _ := greetOver(a, b, sessionTLS(t, key, "c", "a"), sessionTLS(t, key, "c", "b")); cerr != nil || serr != nil {
				t.Errorf("%v: client %v, server %v", time.Now(), cerr, serr)
			}
		})
	}
}

func TestSessionTLS_RefusesLess(t *testing.T) {
	key := NewKey()
	server := sessionTLS(t, key, "c", "server")
	old := sessionTLS(t, key, "c", "client")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if cerr, serr, _, _ := greet(t, old, server); cerr == nil || serr == nil {
		t.Errorf("TLS 1.2: client %v, server %v", cerr, serr)
	}
	anonymous := sessionTLS(t, key, "c", "client")
	anonymous.Certificates = nil
	if cerr, serr, _, _ := greet(t, anonymous, server); cerr == nil || serr == nil {
		t.Errorf("no certificate: client %v, server %v", cerr, serr)
	}
	if server.InsecureSkipVerify || !server.SessionTicketsDisabled || server.ClientAuth != tls.RequireAndVerifyClientCert {
		t.Error("tickets are on, or somebody is not asked who it is")
	}
	// The certificate of one node is no authority.
	leaf, err := x509.ParseCertificate(server.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	public, private, _ := ed25519.GenerateKey(nil)
	forged, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"convoke", "other"}, NotBefore: certBegin, NotAfter: certEnd,
	}, leaf, public, server.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	forger := sessionTLS(t, key, "c", "client")
	forger.Certificates = []tls.Certificate{{Certificate: [][]byte{forged, leaf.Raw}, PrivateKey: private}}
	if cerr, serr, _, _ := greet(t, forger, server); cerr == nil || serr == nil {
		t.Errorf("issued by a node: client %v, server %v", cerr, serr)
	}
}

func TestSessionTLS_IsFresh(t *testing.T) {
	key := NewKey()
	a, b := sessionTLS(t, key, "c", "n"), sessionTLS(t, key, "c", "n")
	if bytes.Equal(a.Certificates[0].Certificate[0], b.Certificates[0].Certificate[0]) {
		t.Error("two calls give one certificate")
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
