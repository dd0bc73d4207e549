// Bench measures convoke's stream files against plain sockets and against the usual tools, and prints a table of
// ratios.
//
//	go run ./test/bench [--quick] [--only ROW]... [--rounds N] [--json] [--no-tools] [--daemon FILE] [--against FILE]
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
package main
