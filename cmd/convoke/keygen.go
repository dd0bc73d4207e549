package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/convoke-fs/convoke/cluster"
)

var keygenVerb = verb{
	name: "keygen", args: "[FILE]", max: 1,
	short: "Make a key for a cluster",
	long: `All members need the same key (convoked --key-file); whoever has it can be one.
Without FILE the key goes to standard output. FILE must not exist; only its owner
will be able to read it.
`,
	setup: plain(func(c *call, args []string) error {
		key := cluster.NewKey()
		if len(args) == 1 {
			return writeKey(args[0], key)
		}
		if _, err := c.stdout.Write(key); err != nil {
			return err
		}
		if othersMayRead(c.stdout) {
			fmt.Fprintln(c.stderr, "convoke: others can read this file, so convoked will refuse it: chmod 600 it (umask 077)")
		}
		return nil
	}),
}

// writeKey makes the file of a key, readable by its owner only. What is there
// already stays: it may be the key of a cluster.
func writeKey(path string, key []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("keygen: %w", err)
	}
	_, err = f.Write(key)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		// Half a key is worth nothing.
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// othersMayRead tells whether w is a file that not only its owner can read.
func othersMayRead(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0
}
