// Package kernel is the loop between /dev/fuse and the tree: it mounts, reads the kernel's requests and answers them.
//
// go-fuse knows the protocol, and its ProtocolServer answers every request that needs no waiting: look-ups,
// attributes, listings. What go-fuse's own server cannot do is done here, because a stream that behaves like a socket
// needs it:
//
//   - READ and WRITE of a stream that is not ready are parked: a struct of some hundred bytes in a queue, no goroutine
//     and no buffer. One epoll set wakes them. A reply buffer is found only once there are bytes to put into it.
//   - POLL is answered with what is true, and NOTIFY_POLL tells the kernel of each later change, so that poll(2),
//     select(2) and epoll(7) work, edge-triggered too.
//   - INTERRUPT finds what it means in a map and ends it with EINTR.
//   - RELEASE, the last close of an open file, closes its stream. FLUSH comes at each close of each copy of a
//     descriptor and means nothing to a stream.
//
// # Who runs where
//
// A few goroutines, the readers, sit in read(2) on /dev/fuse. They answer at once whatever can be answered from
// memory, and move the bytes of streams that are ready. Whatever may wait (the open of a connection, a command of a
// ctl file) gets a context that INTERRUPT cancels; if no other reader is left, one more is started first, and ends
// when it is not needed any more. A few more goroutines, the pollers,
// sit in epoll_wait(2) and serve the parked requests of sockets that became ready; another serves the streams that
// are no sockets.
//
// # Endpoints
//
// An [Endpoint] is one stream with its two queues of parked requests. All open files of one connection share its
// endpoint. Requests of one direction are served in the order in which they came. The locks, in the order in which they
// may be taken: Endpoint.rmu, Endpoint.wmu, Endpoint.pmu, then those of the server's tables, which are held for no call.
//
// # Why a reply never fills a request
//
// The kernel cuts a read(2) that is larger than max_read into several READs and goes on as long as the replies are
// full. A full reply would make a reader that has got all there is wait for more. So a READ is answered with
// at most maxReply bytes, less than any READ that was cut can ask for.
package kernel
