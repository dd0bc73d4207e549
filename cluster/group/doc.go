// Package group keeps closed process groups: who is a member, who may join and
// send, and what each member on this node has still to read.
//
// # One table, folded from one log
//
// Joins, leaves, the making and ending of groups and the messages themselves
// are entries of the ring's log. The table is a fold of that log and of
// nothing else: no clock, no random source, no order of a map has a part in it,
// so any two nodes of a ring have equal tables at each position ([Groups.Hash]
// shows it). A result that a caller waits for (EACCES, EEXIST, ENOENT, EBUSY,
// EPERM, ESRCH, ENOSPC) is computed at the entry's place in the log by all
// nodes alike, and its origin takes it from there.
//
// An entry names no node: a process is (origin of the entry, incarnation), so
// a node can speak for its own processes only, whatever it writes. What cannot
// be decoded, or has a verb of a later version, has no effect anywhere; bytes
// after what is known are skipped.
//
// # Who may what
//
// A group has an owner, and a mode for each of its files, as security.md lists
// them. Who acts is judged as the kernel would do it, by the class that fits
// first (owner, group, others), with uid, gid and supplementary groups from
// the entry; uid 0 of any member is root. The folder's x is asked as on a walk
// through the tree:
//
//	join           r and w on feed
//	send           w on send, for who is no member
//	mode           w on ctl
//	chmod, chgrp   the owner, chgrp to a group of his own; chown: root
//	rmdir          the owner
//	evict          root
//
// A group made by a join goes with its last member; one made by mkdir stays
// until rmdir.
//
// # What a new ring does
//
// Each member of a new ring states its own processes, and one of those that
// come from the same old ring states the groups (see [ring.AskState]). The new
// table is computed from these statements alone. Of two groups of one name the
// older creation wins, by its milliseconds and then by the number of the node
// that made it; of two changes of one group the later one. A group that was
// kept on either side stays kept. A side whose owner or modes have lost keeps
// only those members that have the right to be in the group now.
//
// Local members are told in this order, each at most once a group: conf with
// NODEDOWN for the processes of nodes that did not come along; conf with
// PROCDOWN for those who have lost their right, who read their own conf and
// then the end, and so learn nothing of the other side; conf with NODEUP for
// the processes of nodes from other rings; ring.
//
// # What a member reads
//
// First the conf of its own join, then a ring record with the ring as it is,
// then what follows in the order. The members of one group on one node read
// from one queue, each with a place of its own, so what waits is held once. A
// member is put out when more than 64 MiB wait for it, or when it has read
// nothing for 30 s while more than 1 MiB waited; and while more than 64 MiB
// wait for the members of one user, root's excepted, he loses the one for whom
// most waits. Who is put out loses what waits, reads the end of the file, and
// leaves with PROCDOWN.
//
// # Locks
//
// The engine calls Deliver, Install and State with its mutex held, and Submit
// takes that mutex, so nothing here calls Submit with a lock held or from
// within those three: what they want to submit waits for Flush. The order of
// locks is: the engine's, Groups.mu, Groups.lmu, a feed's,
// Groups.wmu.
package group
