// Package launch tests that real daemons start servers from their --lib folders.
package launch
