// Bench measures convoke's stream files against plain sockets and against the usual tools, and its process groups
// against corosync's, and prints a table of ratios.
//
//	go run ./test/bench [--quick] [--only ROW]... [--rows RE] [--sizes SIZE]... [--rounds N] [--json] [--no-tools]
//		[--daemon FILE] [--against FILE]
//
// It needs root, or fusermount3 and a /dev/fuse that the user may open. It builds convoked, starts it as a node alone
// in a temporary folder, and takes all down again.
//
// # What the numbers mean
//
// Absolute numbers of a shared machine mean little, so everything is compared within one run: in each round all
// columns of a row are measured one after the other, and the ratio is the median, over the rounds, of a round's stream
// to the same round's direct socket. The range beside it is from the worst to the best round.
//
// A measurement from which the host of a virtual machine took processor time (steal) is made again.
//
// Three processes take part, as in real use: the daemon, a client and a peer. Client and peer are this program again,
// with plain blocking system calls on descriptors that Go's poller never sees, since Go programs are not what most
// people put at the ends of a stream.
//
// Bulk is timed by the peer, from accept(2) to the end of the connection, so it means the same for tools: their start
// is left out, their work is not. The tools that send read zeros from a file in memory; the client's own rows send
// from one buffer.
//
// # Real descriptors
//
// The second table compares a program's own socket with what `convoke run` and package ipc give it: plain is without
// convoke, more is the difference. run-send, run-recv and run-trips move data through the socket that open(2) returned
// under `convoke run`; run-open opens and closes such a stream, against connect(2) and close; run-other opens /dev/null;
// open-tcp and open-fdp are ipc.Client.OpenFD against connect(2) to the same service.
//
// # Groups
//
// The last table compares process groups with corosync's, where that is installed (Debian: apt-get install
// --no-install-recommends corosync libcpg-dev gcc libc6-dev). Both have so many nodes, each a network namespace with a
// daemon and a process that has joined a group, by package ipc and by libcpg; the two networks have the same form and
// do not see each other. All of it shares this machine's processors. It needs root. Names of rows end with the number
// of nodes; with -tls both encrypt, without it neither does. Both daemons have their defaults in everything else.
//
//   - cast-SIZE-Ns: the first N of the members send as fast as they can, and the rate is that of the messages from the
//     first send until every member has the last of them. The members count, and tell a sum over the order, which must
//     be the same.
//   - ping: a 64-byte message to its sender and back, one after the other; the node that is in the middle of the three.
//     rest is the same with 5 ms between.
//   - see-process, see-daemon, see-cut: from kill -9 of a member or a daemon, or from the moment in which nothing comes
//     through to a node any more, until each of the others' members has the configuration change. The nodes take turns.
//   - feed: cast with one sender, by plain reads and writes of the file feed.
//   - memory-load, memory-stopped: the most that one of the daemons took while all sent, and while all but one member
//     did and that one was stopped.
package main
