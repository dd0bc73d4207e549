package main

import (
	"context"
	"errors"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

var serveVerb = verb{
	name: "serve", args: "[--grace SECONDS] [--max N] [--once] [-v] PATH -- COMMAND [ARG]...", max: -1,
	short: "Run a command for each client of a path",
	long: `PATH is dev/tcp/local/SERVICE[,OPTION]... or dev/fdp/local/NAME[,OPTION]... The
command has the socket as standard input and output and CONVOKE_PEER_HOST, _NODE,
_PID, _UID, _GID and _ADDR in its environment. A signal ends the announcement and
waits for the clients that are served. More: convoke-serve(1).
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		var opts attendOpts
		opts.add(flags)
		return func(c *call, args []string) error {
			path, argv, err := splitCommand(args, flags.ArgsLenAtDash())
			if err == nil {
				err = opts.check(flags)
			}
			if err != nil {
				return usageError{"serve: " + err.Error()}
			}
			p, err := announcePath(path, rendezvous.TCP, rendezvous.FDP)
			if err != nil {
				return err
			}
			return attend(c, opts, p, argv, serveClients)
		}
	},
}

// serveClients gives each client a process whose input and output are the
// socket. A client is accepted when there is a place for its process; until
// then the daemon has it wait.
func serveClients(a *attendant) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-a.crew.places:
			}
			fd, peer, err := a.accept(ctx)
			if errors.Is(err, context.Canceled) {
				return nil
			}
			if err != nil {
				return err
			}
			err = a.serveClient(fd, peer)
			if a.opts.once {
				return err
			}
			if err != nil {
				a.complain("%v", err)
			}
		}
	}
}

// serveClient starts the process for one client.
func (a *attendant) serveClient(fd int, peer rendezvous.Peer) error {
	// Most commands know nothing of EAGAIN.
	defer unix.Close(fd)
	if err := unix.SetNonblock(fd, false); err != nil {
		return err
	}
	a.mayStart()
	sock := uintptr(fd)
	return a.start([]uintptr{sock, sock, 2}, peer, peer.Env(remoteAddr(fd)))
}
