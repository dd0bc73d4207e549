// Command convoke talks to the convoked of this machine: it lists members and
// connections, follows events, connects standard input and output to a service
// by its path, makes servers of other commands, and shows what the whole does
// in a demonstration.
//
//	convoke [--mount DIR] COMMAND [ARGUMENT]...
//
//	members          list the members, a line each
//	status           show the cluster as a table
//	events [KIND]... tell changes of the cluster until interrupted
//	conns            list the open connections, a line each
//	groups [GROUP]   list the process groups, or the members of one
//	join HOST...     join the cluster that a daemon on HOST belongs to
//	leave            leave the cluster
//	connect PATH     connect standard input and output to a stream
//	serve PATH       run a command for each client of a path
//	send PATH FD...  pass open descriptors to a local service
//	recv PATH        run a command for each client that passes descriptors
//	run PROGRAM      run a program whose opens of streams give sockets
//	feed GROUP       join a process group and print what happens in it
//	cast GROUP TEXT  send a message to a process group
//	log              print the daemon's log
//	keygen [FILE]    make a key for a cluster
//	demo             start three daemons and show what they do
//	completion SHELL print the completions for bash, zsh or fish
//	help [COMMAND]   explain a command
//	version          print the version
//
// It finds the daemon's mount by --mount, by CONVOKE_MOUNT, or at /n for root
// and $XDG_RUNTIME_DIR/n for others. Data goes to standard output, everything
// else to standard error.
//
// Exit status: 0 done, 1 failed, 2 wrong usage, 75 try again later, 78 bad
// configuration. The manual page is convoke(1).
package main
