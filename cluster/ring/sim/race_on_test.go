//go:build race

package sim

// slower is by how much fewer seeds run with the race detector, which makes one
// goroutine slow and finds nothing in it.
const slower = 20
