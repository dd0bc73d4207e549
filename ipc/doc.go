// Package ipc connects programs and a running convoked: its files in the mounted
// tree, and its socket, which hands real sockets over.
//
// # What a program gets
//
// [Open] and [Announce] are the short way: a net.Conn that is a socket like any
// other, with no daemon between the two sides, and a net.Listener whose clients
// come with an identity that the daemon has proved.
//
//	conn, err := ipc.Open(ctx, "dev/tcp/web2/http")
//	l, err := ipc.Announce(ctx, "dev/tcp/local/echo")
//
// [Join] makes the process a member of a process group, which has members on all
// nodes: what one of them sends all receive, in the same order, and between the
// messages who has joined and left, with the reason. [OpenSender] sends to a group
// without joining it.
//
//	g, err := ipc.Join(ctx, "jobs", ipc.JoinOpts{Create: true})
//	err = g.Send(ctx, []byte("hello"))
//	r, err := g.Receive(ctx)
//
// [Locate] answers with a [Tree] for a certain mount. Its state files come
// parsed ([Tree.Members], [Tree.Status], [Tree.Conns], [Tree.Groups]), its stream files as
// readers ([Tree.Events], [Tree.Log]), and [Tree.Dial] makes a [Client], a
// connection of its own to the daemon's socket.
//
// Everything is done with the rights of the process that asks: the kernel
// checks those of files, and tells the daemon who is at the other end of its
// socket. This package holds no secret.
//
// # The daemon's side
//
// [Server] is the other end of the socket. The protocol, which other languages
// may speak too, is described in wire.go, and that of memberships in feedwire.go.
//
// # Time
//
// A state file never waits for the network, so an answer that takes longer
// than [AnswerTime] means that the daemon is stuck, and the call ends with an
// error of kind Timeout. Only [Tree.Ctl] and reads of streams may take longer;
// the daemon bounds the first, and a signal that ends the process ends both at
// once. What a [Client] does ends with its context.
//
// # Errors
//
// Errors are *rendezvous.Error around the errno that the file gave:
// errors.Is(err, syscall.ECONNREFUSED) works, and [Explain] has a sentence for
// people about those errnos that say too little by themselves.
package ipc
