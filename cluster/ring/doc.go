// Package ring gives the nodes of a cluster one order of messages and one
// history of who is a member: the ordered stream protocol, as a pure core.
//
// # What it promises
//
// The nodes that can reach each other form a ring. Everything that any of them
// submits is delivered at all of them in one order, and each change of the ring
// stands at one place in that order. Precisely, for any faults of nodes and
// links, as long as no node lies:
//
//   - A ring has one list of members everywhere, and its number (Seq of ID) is
//     higher than that of every ring in which any of them was before, also over
//     restarts.
//   - What two nodes deliver in one ring before its tail is the same sequence, or
//     that of one begins with that of the other. Two that go on together to the
//     same next ring (Install.Transitional) have delivered exactly the same.
//   - A message is delivered in one ring only, the one in which it was submitted,
//     once, and in the order in which its origin submitted it.
//   - An origin that stays up delivers all that it has submitted, if need be to
//     itself alone.
//   - When links heal and nodes rest, there is one ring of all within a bound.
//
// Delivery is agreed, not uniform: a node that dies, or is cut off, may have
// delivered messages last that no other node ever sees.
//
// # How messages are ordered
//
// The first member of a ring is its coordinator and sequencer. Members send
// their entries to it (SUBMIT); it appends them to the log, delivers them, and
// sends what it has appended to all (ORD), who append and deliver it. So each
// member has the beginning of one sequence, and where it stands is one number.
// All that is hard in a change of the ring becomes small by that: the longest
// log of any survivor contains all the others.
//
// Members acknowledge (ACK, and with each SUBMIT) how much of the log they have.
// What all have is stable and is dropped everywhere; ORDs tell how far that is.
// The bytes of an origin that are on their way or not stable are bounded by a
// credit, and so is the log. A member that acknowledges nothing for Config.Slow
// is put out: it must not stop the others.
//
// A message longer than Config.Fragment goes as several entries. They are
// contiguous among the entries of their origin, so putting them together takes
// no more than a buffer.
//
// A lone message goes at once. One that comes while earlier ones of the node are
// on their way waits for company until they are back, for Config.Gather, or until
// there is enough for a frame; the sequencer, who delivers its own at once, so
// gathers for the frames to others.
//
// A broken session between the sequencer and a member cannot be mended within
// the ring (S1): what was on its way may be lost, and the stream would have a
// hole. Both ignore the stream from then on, whatever is connected again, until
// the next ring, which also takes what the old one left.
//
// # How rings change
//
// A node wants another ring when a member is lost, as far as that concerns it,
// or when a node is there that is no member. Its acting coordinator proposes: the
// most senior member that it reaches, mostly the coordinator itself. Then:
//
//	PROPOSE   ballot, set      the ballot becomes the ring's ID
//	REPORT    ballot, …        a promise: the node leaves its ring's stream for good,
//	                           and tells its log's length and what it has on its way
//	PREPARE   ballot, …        the next members; for each old ring where its log
//	                           ends, who has it all, and its tail
//	RECOVER   ballot, entries  to those who lack some, from who has all
//	READY     ballot, state    the log is complete; the application's tables
//	INSTALL   ballot, states   deliver the tail, then begin
//
// The tail of an old ring's log is what its survivors had on their way when they
// promised, less what the longest log has already. It is delivered in the old
// ring always, also when the old sequencer is among the survivors: else a message
// could be delivered in two rings on two sides of a partition.
//
// A node promises one ballot after the other, each higher than the last by Seq
// alone, and never goes back to a ring's stream. So it takes part in one attempt
// at a time, an attempt that does not end harms nobody, and whoever finds that a
// change takes too long proposes a higher ballot. Before a promise leaves, a
// ceiling above its number is on disk (Persist, Durable), so that a restart
// cannot break it.
//
// A coordinator may die when some have installed its ring and others are only
// READY for it. Those others install it late, in the next change that brings them
// together: their part of the log, tail and states were fixed by the PREPARE, and
// the INSTALL is kept as position 0 of the new ring's log until an entry of it is
// stable. A node that has meanwhile recovered more of the old log than that PREPARE
// had cannot do it any more, and goes its own way from the old ring.
//
// Partial messages are dropped by all at an install. Their origin, which has not
// submitted all parts, begins again in the new ring; if it has, the tail has the
// rest.
//
// # Who is taken
//
// INFO tells others where a node stands: its ring and how many are in that, whom
// it takes for its coordinator, and whom it would have in a ring. A proposer
// takes nobody from a ring whose coordinator it cannot reach, and no part of a
// ring without the rest. Where links are not transitive (A and B reach C and not
// each other) nodes would otherwise steal each other for ever. If a member reaches
// nodes that the coordinator does not, the coordinator hands over to it, once in a
// while. Who does not answer a proposal is left out for a quarter of a second, and
// longer each time; a node that this node has put out alive three times in a
// minute is held down, for up to Config.MaxHoldDown.
//
// # The core
//
// Core has no goroutine, clock, random source or map in it: a run can be repeated
// exactly from its events. Package sim runs it through every fault there is,
// package check holds the promises above over what comes out. A frame of a peer
// that breaks the protocol gives a Break, never a panic; what no input can bring
// about is asserted, always. Built with the tag mutants the core can be told to
// make one of Mutants, which the simulator must find.
//
// AppendFrame and Decoder are the frames as they travel. Frames of the data path
// cost a few allocations each however many entries they have, and entries refer
// to the bytes that came.
package ring
