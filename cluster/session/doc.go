// Package session keeps a session with every other daemon of the cluster: one
// connection for each pair, over which the frames of the ring travel in order.
//
// # One session for each pair
//
// Either side may dial, and after a break both do at once. The node with the
// lower number decides: while its own HELLO is on its way it refuses the other's
// with BUSY, and the other takes it. A session that is up gives way to another
// dial only when its peer does not answer a PING any more.
//
// A node is known by its number, its boot counter, and a random instance that
// each Manager draws. Who has the number of a node that is alive is refused with
// CONFLICT: two daemons have one number, or a state folder was copied. Who has a
// lower boot counter than is known of its number is refused with BOOT, and takes
// a higher one.
//
// # Who is alive
//
// Any bytes count. Who has sent nothing for a while sends a PING. A peer without
// bytes for too long is asked for at two others before its session is broken,
// since it may be the link that fails and not the peer. Bytes that the kernel
// holds count, too, so that a daemon which is slow to read kills nobody; and one
// that did not run at all for a while judges nobody for another while.
//
// # Who is let in
//
// Nothing that comes before TLS and HELLO are done changes anything, and few
// connections at a time get that far: strangers can take these places from each
// other, and from nobody who has a session. The boot counter of a node is
// believed to whoever has the key.
//
// # Latency
//
// A frame costs no switch between goroutines on either side: Peer.Flush encrypts
// and writes on the caller's goroutine, and only what the socket does not take
// at once is left to a goroutine of the session; frames that come are handed to
// the Handler by the goroutine that reads them.
package session
