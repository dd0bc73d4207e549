// Package launch starts the servers of services that nobody announces: programs in the folders of --lib, run as their
// owners, with the listening sockets that their clients wait at.
//
// What is run is decided by the daemon, which looks at each step of the way to the file (folder.go), and run by a helper (helper.go): the
// daemon's own program in a process of its own, which takes the server's identity before it touches anything of his.
package launch
