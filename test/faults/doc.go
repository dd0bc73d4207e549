// Package faults tests what happens to a real daemon and its callers when something goes wrong: names that cannot be,
// peers that reset, clients and daemons that are killed or stopped, limits of numbers, networks that are cut.
//
// Every test has a daemon of its own, so most run beside each other.
package faults
