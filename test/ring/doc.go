// Package ring tests the ring and the groups on it with real daemons in networks of their own: under a schedule of
// faults from a seed, with traces of what each member read that are judged by cluster/ring/check, and scenario by
// scenario.
//
// A schedule for as long as one likes:
//
//	go test ./test/ring -run Soak -duration 10m -seed 7 -timeout 0
//
// With -nodes it has so many daemons, 5 by default. A violation is told with the seed and with what was done when;
// -traces keeps the traces. The faults come again with the seed, but not their moments, since the daemons run in real
// time.
package ring
