// Package security tests, against real daemons and from the outside, what convoked promises to keep whom from: other
// users, other namespaces, neighbours on the network. The rules that modes of sockets and identities of local services
// follow are tested in the package faults, with the sockets.
package security
