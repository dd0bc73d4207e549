// Package cluster is the node: it knows the members of the cluster, tells of
// them, and is one of them.
//
// # What a node is
//
// A Node has a name, which people choose, a number, which it keeps for life,
// and a boot counter, which grows at each start. The three together tell one
// life of one node from every other. Number and counter live in the state
// folder. With the key of its cluster a node listens at its address and finds
// the others by gossip; without one it listens nowhere and is a cluster of one,
// which needs no configuration.
//
// # What the table of members promises
//
// Serf does the gossip. It is quick to find nodes and to suspect them, and
// promises little more: no order among nodes, no agreement. So the table is
// what this node believes at this moment. It is read from memory, never waits,
// and every change of it goes to the watch.Hub in the order in which it was
// made here.
//
// # What the ring decides
//
// Who takes part is for the ring to say (cluster/engine): the nodes that have
// sessions with each other and agree on one log. A member of the table is in it
// or not (Member.In), and joins and leaves are told where rings begin, in one
// order at all nodes that were in the same ones. Where the ring has lost a
// member, its word counts for more than gossip's for the moment that gossip
// needs to see it, too. What needs agreement goes through the log, and not
// through the table.
//
// A few habits of Serf are mended on the way. It shows no sign of a node that
// dies and is back before anybody has noticed: the boot counter travels as a
// tag. It stops gossiping when its
// events are not taken: one goroutine does nothing but take them. Events are
// compared with Serf's own table every second, so that a lost one is a delay
// only. It heals partitions slowly: failed members are redialled until they are
// back or an operator removes them. Whom a node has met is kept in the state
// folder, and asked again after a restart.
//
// # What keeps strangers out
//
// Gossip is encrypted and authenticated by a key that is derived from the
// cluster's key and name. There is one such key at a time; keys that a member
// installs by Serf's own means are removed within a second. Each node looks at
// every member before it lets it in: name, address, cluster, version, and
// whether a living member has the name already.
package cluster
