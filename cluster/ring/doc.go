// Package ring gives the nodes of a cluster one order of messages and one
// history of who is a member: the ordered stream protocol, as a pure core.
package ring
