//go:build race

package daemon

// Race tells whether the test, and so the daemon that it builds, has the race detector: it takes several times the
// memory and the processor time.
const Race = true
