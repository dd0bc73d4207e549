// Package fs is the tree that users see: it turns streams, members and their changes into files.
//
// # The tree is a table
//
// Every file is a [node] of one of a few kinds: a folder, a state file, a stream, a ctl file, a link, a socket. What
// stands where is written in tables (tree.go, cluster_node.go, conn_node.go), and a folder whose names are not known
// beforehand (hosts, members, connections) makes its nodes when a name is looked up. The package holds no policy:
// each node calls one function of the package that owns the noun.
//
// # Numbers
//
// The kernel knows a file by a number, which is also its inode number. The table of numbers ([inodes]) counts how
// often the kernel was told each one, and forgets it when the kernel does. A name under dev/ costs nothing to look up,
// and of those that nobody has open only the last few thousand are kept. If the kernel comes back to an older one it is
// told ESTALE, looks the name up once more, and the caller notices nothing.
//
// # One number for each open stream
//
// The kernel serialises the writers of one inode, so two connections must not share one: a peer that does not read
// would stop all connections to the same service. Thus a stream's name leads to a new number after each open. Until
// then all who look the name up are told the same number, so that a look-up costs no more than elsewhere. Of two who
// were told the same number, one opens it; the other is told ESTALE, on which the kernel looks the name up once more,
// and then gets a number that nobody else is told.
//
// # Two ends
//
// The open of a service's name is a connection (stream_node.go, conn.go); the open of its name with ",create" announces it
// and is a queue of clients (announce_node.go). A client is in three places one after the other: it waits in the
// rendezvous.Host, of which the tree knows nothing; once its line has been read it is a conn without a stream, in the set
// of its announcement, from which whoever opens its data, rejects it, or closes the announcement takes it, so that it is
// used once; then it is a connection like any other.
//
// The Host binds the socket of an announced local service through this tree, and takes it away by UnlinkSocket while a
// RELEASE is answered. So no lock is held for a call of the Host that the Host's calls of the tree take.
//
// # Who may
//
// The kernel checks owners and modes, which every answer states truly, since the tree is always mounted with
// default_permissions. What modes cannot say is judged at OPEN, by the caller of OPEN: by the Host, and here as far as
// it is about connections that are there already, and about limits of open files. A look-up never decides anything, waits
// for nothing and changes nothing.
package fs
