package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/rendezvous"
)

// Limits of --max.
const (
	defaultMax = 64
	// Each process is waited for by a thread.
	greatestMax = 4096
)

// attendOpts are the flags that serve and recv have in common.
type attendOpts struct {
	grace   float64 // seconds
	bounded bool    // grace was given; else there is no limit
	most    int
	once    bool
	verbose bool
}

// add adds the flags.
func (o *attendOpts) add(flags *pflag.FlagSet) {
	flags.Float64Var(&o.grace, "grace", 0, "commands that still run at the end may go on for `SECONDS` (default: no limit)")
	flags.IntVar(&o.most, "max", defaultMax, "run at most `N` processes at once")
	flags.BoolVar(&o.once, "once", false, "serve one client, and end with its command's exit status")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "tell who comes and how each process ends")
}

// check takes what flags were given, and refuses values that mean nothing.
func (o *attendOpts) check(flags *pflag.FlagSet) error {
	o.bounded = flags.Changed("grace")
	switch {
	case o.most < 1 || o.most > greatestMax:
		return fmt.Errorf("--max is from 1 to %d", greatestMax)
	case !(o.grace >= 0 && o.grace <= maxSeconds):
		return fmt.Errorf("--grace is from 0 to %d seconds", maxSeconds)
	}
	return nil
}

// maxSeconds bounds what is given in seconds to what a time.Duration can hold.
const maxSeconds = 1_000_000_000

// seconds returns n seconds.
func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// splitCommand parts the arguments of a verb, PATH -- COMMAND [ARG]..., which
// dash is the number of those before the -- of (-1: there is none).
func splitCommand(args []string, dash int) (path string, argv []string, err error) {
	switch {
	case dash < 0:
		return "", nil, errors.New("-- must stand before the command")
	case dash == 0:
		return "", nil, errors.New("the path is missing")
	case dash > 1:
		return "", nil, errors.New("one path only, then -- and the command")
	case len(args) == 1:
		return "", nil, errors.New("the command is missing")
	}
	return args[0], args[1:], nil
}

// announcePath parses what is to be announced. It says at once what cannot be
// meant.
func announcePath(text string, protos ...rendezvous.Proto) (rendezvous.Path, error) {
	p, err := rendezvous.Parse(text)
	if err != nil {
		return p, err
	}
	// It is announced anyway.
	p.Options.Create = true
	if err := p.Validate(); err != nil {
		return p, err
	}
	p.Options.Create = false
	return p, checkProto("announce", p, protos...)
}

// checkProto refuses a path of another protocol.
func checkProto(op string, p rendezvous.Path, protos ...rendezvous.Proto) error {
	for _, proto := range protos {
		if p.Proto == proto {
			return nil
		}
	}
	hint := "only local services pass descriptors: dev/fdp/local/NAME"
	if p.Proto == rendezvous.UDP && len(protos) > 1 {
		hint = "datagrams have no connections; convokefs(4) says how to serve them by files"
	}
	return hinted{&rendezvous.Error{Op: op, Path: p.String(), Kind: rendezvous.Unavailable, Err: syscall.EOPNOTSUPP}, hint}
}

// explainAnnounce adds what to do about a path that cannot be announced.
func explainAnnounce(p rendezvous.Path, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return hinted{err, "it is announced here already, or a program listens on its port; see ls dev/" + p.Proto.String() + "/local"}
	case errors.Is(err, syscall.EROFS):
		return hinted{err, "services are announced on this host: dev/" + p.Proto.String() + "/local/" + p.Element()}
	}
	return err
}

// An attendant serves the clients of one announcement until it is stopped.
type attendant struct {
	c    *call
	opts attendOpts
	crew *crew
	l    listener

	greeters sync.WaitGroup // those who take over clients that are accepted

	say sync.Mutex // held while a line is written to c.stderr

	mu     sync.Mutex
	served bool               // with --once, a process was or is being started; guarded by mu
	status syscall.WaitStatus // with --once, how it ended; guarded by mu
}

// attend finds the command, announces p and serves with what serve returns,
// which is given to run.
func attend(c *call, opts attendOpts, p rendezvous.Path, argv []string, serve func(*attendant) func(context.Context) error) error {
	if opts.once {
		opts.most = 1
	}
	crew, err := newCrew(argv, opts.most)
	if err != nil {
		return err
	}
	t, err := c.tree()
	if err != nil {
		return err
	}
	daemon, err := c.dial(t)
	if err != nil {
		return err
	}
	defer daemon.Close()
	l, err := daemon.Announce(context.Background(), p.String())
	if err != nil {
		return explainAnnounce(p, err)
	}
	signals := make(chan os.Signal, 4)
	notifyStop(signals)
	defer signal.Stop(signals)

	a := &attendant{c: c, opts: opts, crew: crew, l: l}
	if err := a.announced(p); err != nil {
		return errors.Join(err, l.Close())
	}
	return a.run(signals, serve(a))
}

// notifyStop sends the signals that stop a server to c, but for those that
// whoever started convoke wants to be ignored: a shell that is no terminal's
// for its background jobs, and nohup.
func notifyStop(c chan<- os.Signal) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
	// Nobody may read any more what is told: that is no reason to end.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}

// announced tells where clients find the service.
func (a *attendant) announced(p rendezvous.Path) error {
	var at strings.Builder
	joint := " at "
	for i, addr := range a.l.Addrs() {
		if i == 0 && p.Service == "0" {
			p.Service = strconv.Itoa(int(addr.Port()))
			if _, err := fmt.Fprintln(a.c.stdout, p); err != nil {
				return err
			}
		}
		at.WriteString(joint + addr.String())
		joint = ", "
	}
	a.tell("serving %v%s", p, at.String())
	return nil
}

// run serves until serve returns, which it does when its ctx ends, and then
// until all processes have ended. A signal ends ctx, a second one what still
// runs.
func (a *attendant) run(signals <-chan os.Signal, serve func(context.Context) error) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		err := serve(ctx)
		// Who still waits is refused now, and the name is free.
		if closed := a.l.Close(); err == nil {
			err = closed
		}
		stop()
		a.greeters.Wait()
		a.crew.wait()
		ended <- err
	}()
	stopped := ctx.Done()
	var late, forced <-chan time.Time
	for {
		select {
		case err := <-ended:
			if err == nil {
				err = a.onceStatus()
			}
			return err
		case <-stopped:
			stopped = nil
			if a.opts.bounded {
				late = time.After(seconds(a.opts.grace))
			}
			continue
		case sig := <-signals:
			if ctx.Err() == nil {
				a.tell("stopping: %v", sig)
				stop()
				continue
			}
			a.tell("ending what still runs: %v", sig)
		case <-late:
			a.tell("ending what still runs: the time of grace is over")
		case <-forced:
			// Nothing here can be waited for any longer: it hangs in the kernel.
			return errors.New("some commands cannot be killed")
		}
		a.crew.kill()
		forced = time.After(2 * killTime)
	}
}

// accept returns the next client, or ctx's error when that ends first.
func (a *attendant) accept(ctx context.Context) (fd int, peer rendezvous.Peer, err error) {
	fd, peer, err = a.l.AcceptFD(ctx)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return fd, peer, err
}

// mayStart tells whether a process may be started: with --once, one.
func (a *attendant) mayStart() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	may := !a.opts.once || !a.served
	a.served = true
	return may
}

// start runs the command for a client, as crew.start does.
func (a *attendant) start(fds []uintptr, peer rendezvous.Peer, env []string) error {
	pid, err := a.crew.start(fds, env, func(pid int, status syscall.WaitStatus) {
		a.mu.Lock()
		a.status = status
		a.mu.Unlock()
		a.tell("process %d: %s", pid, describe(status))
	})
	if err != nil {
		return err
	}
	a.tell("process %d: for %v", pid, peer)
	return nil
}

// onceStatus returns how the one process of --once has ended.
func (a *attendant) onceStatus() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.opts.once || !a.served || shellStatus(a.status) == 0 {
		return nil
	}
	return statusError{status: shellStatus(a.status)}
}

// tell says something on the standard error output, with --verbose.
func (a *attendant) tell(format string, args ...any) {
	if a.opts.verbose {
		a.complain(format, args...)
	}
}

// complain says on the standard error output what went wrong for one client.
// Others are served.
func (a *attendant) complain(format string, args ...any) {
	a.say.Lock()
	defer a.say.Unlock()
	fmt.Fprintf(a.c.stderr, "convoke: "+format+"\n", args...)
}
