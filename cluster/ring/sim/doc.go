// Package sim runs the ring's core in a made-up world: nodes, disks and a
// network in one event loop with virtual time, in which everything comes from a
// seed. The same seed gives the same run to the last byte, so a run that breaks
// an invariant can be run again and looked at.
//
// A run has four seconds of chaos, in which a plan of faults (crashes, losses of
// power and of disks, resets, one-way black holes, partitions, cuts that are not
// transitive, pauses, slow and full disks, kills at a step of the protocol)
// works against nodes that send messages; then all is healed, nobody sends any
// more, and one ring of all nodes is demanded, within a bound. What the nodes do
// is judged by package check throughout. Each seed draws its own kinds of faults
// and its own sizes of windows, fragments and queues, many of them far smaller
// than anybody would set.
//
// The network stands for sessions over TCP: frames of one session come in order,
// a break loses the end of what was on its way, the two ends notice it at
// different times, and a block shorter than T_dead only delays.
//
//	go run ./cluster/ring/sim/ringsim -from 1 -seeds 1000 -nodes 2-5
//
// runs a thousand seeds and prints what it finds, shrunk to the faults that
// matter; -v prints the run of a seed. With the build tag mutants it runs cores
// with a rule broken on purpose (-mutant NAME), which must be caught.
package sim
