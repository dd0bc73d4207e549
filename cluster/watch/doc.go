// Package watch tells programs what changes in the cluster: it keeps the table
// of members, and any number of readers, each with a bounded queue of its own.
//
// A reader begins with a snapshot of the table (one SNAP record a member, then
// SNAPEND) and goes on with one record a change. State and records are changed
// under one lock, so a snapshot and the records after it fit without a gap and
// without an overlap: who replays them holds the hub's table. A reader that
// does not read for too long loses its queue, is told so (LOST n) and gets a
// new snapshot, also in the middle of an older one; it holds up neither the
// poster nor any other reader.
//
// A record is one line:
//
//	SEQ TIME KIND fields...
//
// SEQ counts the records of this reader from 1. TIME is in UTC with
// milliseconds: of the change, in a snapshot of the last change before it. The
// fields are
//
//	SNAP ID NAME STATE ROLE ring=R   STATE is alive, leaving, left or failed; ROLE in or out
//	SNAPEND ring=R
//	MEMBER_JOINED ID NAME ring=R
//	MEMBER_LEFT ID NAME ring=R
//	STALE_CLUSTER ring=R
//	INVALID_CLUSTER ring=R
//	VALID_CLUSTER ring=R
//	LOST N
//
// A member is in while it is in the ring R. Each change of that, and only that,
// is a JOINED or LEFT, and nodes that are in the same rings tell them in the same
// order. STATE is what gossip says, which is a hint: a member may be alive and
// out for the moment that it takes to let it in. A condition that holds when a
// reader begins stands before its SNAPEND.
package watch
