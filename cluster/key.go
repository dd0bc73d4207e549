package cluster

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"syscall"
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
