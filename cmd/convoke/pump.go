package main

import "io"

// pumpSize is what one read of a stream may bring. Bigger ones gain nothing.
const pumpSize = 256 << 10

// pump copies src to dst until src ends.
//
// It hides both behind plain interfaces: io.Copy would else try
// copy_file_range(2), sendfile(2) and splice(2), which a stream of the tree,
// a regular file to the kernel, answers with an error or an early end.
func pump(dst io.Writer, src io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, pumpSize))
	return err
}
