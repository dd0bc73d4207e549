// Package ipc is the Go client of a running convoked: it finds the tree that
// the daemon has mounted and reads, writes and opens its files for programs.
//
// # What a program gets
//
// [Locate] answers with a [Tree]. Its state files come parsed ([Tree.Members],
// [Tree.Status], [Tree.Conns]), its stream files as readers ([Tree.Events],
// [Tree.Log]), and a connection as a [Stream]:
//
//	t, err := ipc.Locate("")
//	s, err := t.Open("dev/tcp/web2/http")
//
// Everything goes through the mount, with the rights of the process that asks,
// so the kernel decides who may do what and this package holds no secret.
//
// # Time
//
// A state file never waits for the network, so an answer that takes longer
// than [AnswerTime] means that the daemon is stuck, and the call ends with an
// error of kind Timeout. Only [Tree.Open], [Tree.Ctl] and reads of streams may
// take longer; the daemon bounds the first two, and a signal that ends the
// process ends them at once.
//
// # Errors
//
// Errors are *rendezvous.Error around the errno that the file gave:
// errors.Is(err, syscall.ECONNREFUSED) works, and [Explain] has a sentence for
// people about those errnos that say too little by themselves.
package ipc
