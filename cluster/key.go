package cluster

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"os"
	"syscall"
	"time"
)

const (
	keySize     = 32   // bytes of a key
	maxKeys     = 8    // in one file: ours and those of a rotation
	maxKeyBytes = 4096 // of a key file
)

// Key is the secret of a cluster, and during a rotation the secrets that its
// sessions accept besides. It prints as "(key)", so that it gets into no log.
type Key struct {
	keys [][]byte // the first is ours; never empty
}

// NewKey makes a key from the system's random source, as the text of a key file.
func NewKey() []byte {
	var raw [keySize]byte
	rand.Read(raw[:]) // never fails: the program ends when the system has no random source
	text := make([]byte, 0, base64.StdEncoding.EncodedLen(keySize)+1)
	return append(base64.StdEncoding.AppendEncode(text, raw[:]), '\n')
}

// ReadKeyFile reads a key file: it must be a regular file of this process's
// effective user or of root, without any permission for group or others. What
// is wrong with owner, mode or content is ErrInvalid; the rest are the errors of
// the system.
func ReadKeyFile(path string) (*Key, error) {
	// The opened file is judged, not the path, which may be another file by
	// then; and opening a FIFO or a device must not wait.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if err := checkKeyFile(fi, os.Geteuid()); err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyBytes+1))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	k, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return k, nil
}

// checkKeyFile judges type, owner and mode of a key file that euid has opened.
func checkKeyFile(fi os.FileInfo, euid int) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%w: not a regular file", ErrInvalid)
	case !ok || int(st.Uid) != euid && st.Uid != 0:
		return fmt.Errorf("%w: owned by somebody else than root and uid %d", ErrInvalid, euid)
	case fi.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%w: mode %04o lets others read the key, want 0600", ErrInvalid, fi.Mode().Perm())
	}
	return nil
}

// ParseKey reads the text of a key file: keys of 32 bytes in base64, one a
// line, at most 8, none twice. The first is the one that this node uses. Empty
// lines do not count. The error is ErrInvalid and tells nothing of the content.
func ParseKey(text []byte) (*Key, error) {
	if len(text) > maxKeyBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrInvalid, maxKeyBytes)
	}
	k := &Key{}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(string(line))
		if err != nil || len(raw) != keySize {
			return nil, fmt.Errorf("%w: line %d is no key: want %d bytes in base64", ErrInvalid, number, keySize)
		}
		for _, other := range k.keys {
			if bytes.Equal(other, raw) {
				return nil, fmt.Errorf("%w: line %d holds a key for the second time", ErrInvalid, number)
			}
		}
		if len(k.keys) == maxKeys {
			return nil, fmt.Errorf("%w: more than %d keys", ErrInvalid, maxKeys)
		}
		k.keys = append(k.keys, raw)
	}
	if len(k.keys) == 0 {
		return nil, fmt.Errorf("%w: no key in it", ErrInvalid)
	}
	return k, nil
}

// Gossip derives the AES-256 key of the cluster's gossip. Only the node's own
// key gives one: two keys at a time would tell each to the holder of the other.
func (k *Key) Gossip(cluster string) []byte {
	return derive(k.keys[0], cluster, "convoke/1 gossip", 32)
}

// SessionCA derives the seeds of the Ed25519 keys of the cluster's certificate
// authorities, 32 bytes each: the first is the one that issues this node's
// certificate, the others are accepted besides.
func (k *Key) SessionCA(cluster string) [][]byte {
	seeds := make([][]byte, len(k.keys))
	for i, key := range k.keys {
		seeds[i] = derive(key, cluster, "convoke/1 session-ca", 32)
	}
	return seeds
}

// Fingerprint gives 8 hex digits by which people compare keys. It may be shown
// to anybody.
func (k *Key) Fingerprint(cluster string) string {
	return hex.EncodeToString(derive(k.keys[0], cluster, "convoke/1 fingerprint", 4))
}

// Certificates are valid at any time of any clock: a host without a battery
// starts in 1970.
var (
	certBegin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	certEnd   = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	certNow   = time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)
)

// SessionTLS makes what both sides of a session between the daemons of a cluster
// need. Both show a certificate by the cluster's authority, which everybody who
// has the key can derive and nobody else. The node's own is new at each call,
// issued by the first key, and names "convoke" first and then the node; those of
// others may be issued by any of the keys. The host's clock is not asked.
//
// The error is ErrInvalid for a name that no node or cluster can have.
func (k *Key) SessionTLS(cluster, node string) (*tls.Config, error) {
	if !validName(cluster) {
		return nil, fmt.Errorf("cluster name %q: %w", cluster, ErrInvalid)
	}
	if !validName(node) {
		return nil, fmt.Errorf("node name %q: %w", node, ErrInvalid)
	}
	accepted := x509.NewCertPool()
	var issuer *x509.Certificate
	var issuerKey ed25519.PrivateKey
	for _, seed := range k.SessionCA(cluster) {
		key := ed25519.NewKeyFromSeed(seed)
		ca, err := sessionCA(key)
		if err != nil {
			return nil, err
		}
		accepted.AddCert(ca)
		if issuer == nil {
			issuer, issuerKey = ca, key
		}
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("session certificate: %w", err)
	}
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(public[:8]), // nobody looks at it, but it should differ
		Subject:      pkix.Name{CommonName: node},
		DNSNames:     []string{sessionName, node},
		NotBefore:    certBegin,
		NotAfter:     certEnd,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, issuer, public, issuerKey)
	if err != nil {
		return nil, fmt.Errorf("session certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{{Certificate: [][]byte{leaf}, PrivateKey: private}},
		ServerName:             sessionName,
		RootCAs:                accepted,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              accepted,
		SessionTicketsDisabled: true,
		Time:                   func() time.Time { return certNow },
	}, nil
}

// sessionName is in every node's certificate: which node it is, HELLO says.
const sessionName = "convoke"

// sessionCA makes the certificate of an authority. It is the same at each node
// and never travels; its name says nothing, since strangers are told it.
func sessionCA(key ed25519.PrivateKey) (*x509.Certificate, error) {
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: sessionName},
		NotBefore:             certBegin,
		NotAfter:              certEnd,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("session authority: %w", err)
	}
	return x509.ParseCertificate(der)
}

// String hides the key.
func (k *Key) String() string { return "(key)" }

// GoString hides the key.
func (k *Key) GoString() string { return "(key)" }

func derive(key []byte, cluster, info string, size int) []byte {
	out, err := hkdf.Key(sha256.New, key, []byte(cluster), info, size)
	if err != nil {
		panic(err) // only for sizes beyond 255 hashes
	}
	return out
}
