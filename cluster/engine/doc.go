// Package engine runs the ring: it binds the pure protocol of cluster/ring to
// sessions, disk and clock, and feeds what is ordered to the process groups.
//
// # One lock
//
// Everything that changes the ring happens under one mutex: a frame that has
// come, a message of a program here, a timer, a ceiling that is on disk. Whoever
// brings it does the work itself, on its own goroutine: the core's step, the
// tables, and then, without the lock, the writes to the sessions and the wakes
// of members. So a message costs no switch between goroutines on its way, and
// the latency of a message is that of the wakes that the kernel has to do.
//
// Under the lock nothing waits: sessions and members have queues, the disk has a
// goroutine, and log lines are written afterwards.
//
// # Order
//
// The outputs of the core are carried out in their order. What the tables see is
// thereby the log, and the same at each node at the same position. The hub of
// cluster/events hears of rings at the same place.
package engine
