package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

const (
	passTime   = 10 * time.Second // in which a sender must have passed his descriptors
	maxSenders = 256              // how many may be connected
)

var recvVerb = verb{
	name: "recv", args: "[--fds N] [--grace SECONDS] [--max N] [--once] [-v] PATH -- COMMAND [ARG]...", max: -1,
	short: "Run a command for each client that passes descriptors",
	long: `PATH is dev/fdp/local/NAME[,OPTION]... The command has what convoke send or another
program has passed as descriptors 3, 4, ..., their number in CONVOKE_FDS, and the
client's proved identity in CONVOKE_PEER_PID, _UID and _GID. More: convoke-serve(1).
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		var opts attendOpts
		opts.add(flags)
		most := flags.Int("fds", maxFDs, "take at most `N` descriptors from a client")
		return func(c *call, args []string) error {
			path, argv, err := splitCommand(args, flags.ArgsLenAtDash())
			if err == nil {
				err = opts.check(flags)
			}
			if err == nil && (*most < 1 || *most > maxFDs) {
				err = fmt.Errorf("--fds is from 1 to %d", maxFDs)
			}
			if err != nil {
				return usageError{"recv: " + err.Error()}
			}
			p, err := announcePath(path, rendezvous.FDP)
			if err != nil {
				return err
			}
			null, err := os.Open(os.DevNull)
			if err != nil {
				return err
			}
			defer null.Close()
			// What the command finds from 3 on was passed to it.
			if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
				return fmt.Errorf("close_range: %w", err)
			}
			return attend(c, opts, p, argv, func(a *attendant) func(context.Context) error {
				return newReceiver(a, *most, null.Fd()).serve
			})
		}
	},
}

// A receiver takes descriptors from many senders at once.
type receiver struct {
	*attendant
	most int           // how many descriptors of one sender
	null uintptr       // /dev/null
	room chan struct{} // an element for each sender that is connected

	mu     sync.Mutex
	silent []*sender // those who have not said anything yet, the oldest first; guarded by mu
}

func newReceiver(a *attendant, most int, null uintptr) *receiver {
	return &receiver{attendant: a, most: most, null: null, room: make(chan struct{}, maxSenders)}
}

// A sender is one client of a receiver.
type sender struct {
	sock    *os.File
	peer    rendezvous.Peer
	evicted bool // guarded by receiver.mu
}

// serve accepts senders until ctx ends, or with --once until one is served.
func (r *receiver) serve(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for {
		fd, peer, err := r.accept(ctx)
		if errors.Is(err, context.Canceled) {
			return onceError(ctx)
		}
		if err != nil {
			return err
		}
		s := &sender{sock: os.NewFile(uintptr(fd), peer.Host), peer: peer}
		if !r.enter(ctx, s) {
			s.sock.Close()
			return onceError(ctx)
		}
		r.greeters.Go(func() {
			defer func() { <-r.room }()
			defer s.sock.Close()
			r.greet(ctx, s, stop)
		})
	}
}

// onceError returns why the one command of --once could not be started, if
// that is why ctx has ended.
func onceError(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, errOnce) {
		return err
	}
	return nil
}

// errOnce ends a receiver with --once that has served.
var errOnce = errors.New("served")

// enter waits for room for one more sender. Who has been silent for longest
// makes room.
func (r *receiver) enter(ctx context.Context, s *sender) bool {
	select {
	case r.room <- struct{}{}:
	default:
		r.mu.Lock()
		if len(r.silent) > 0 {
			oldest := r.silent[0]
			oldest.evicted = true
			_ = oldest.sock.SetReadDeadline(time.Unix(1, 0)) // it is a socket: it has deadlines
		}
		r.mu.Unlock()
		select {
		case r.room <- struct{}{}:
		case <-ctx.Done():
			return false
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = append(r.silent, s)
	_ = s.sock.SetReadDeadline(time.Now().Add(passTime))
	return true
}

// listened takes a sender out of the silent ones, and tells whether he was put
// out.
func (r *receiver) listened(s *sender) (evicted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.silent {
		if r.silent[i] == s {
			r.silent = append(r.silent[:i], r.silent[i+1:]...)
			break
		}
	}
	return s.evicted
}

// greet waits for what a sender passes and starts the command with it. stop
// ends the receiver, for --once.
func (r *receiver) greet(ctx context.Context, s *sender, stop context.CancelCauseFunc) {
	forget := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		_ = s.sock.SetReadDeadline(time.Unix(1, 0))
	})
	defer forget()
	err := waitMessage(s.sock)
	switch evicted := r.listened(s); {
	case ctx.Err() != nil:
		return
	case err != nil && evicted:
		err = syscall.EBUSY
	}
	if err != nil {
		r.refuse(s, err)
		return
	}
	// Nothing is taken before there is a place for it.
	select {
	case <-r.crew.places:
	case <-ctx.Done():
		return
	}
	fds, err := takeOver(s.sock, r.most)
	if err != nil {
		r.crew.places <- struct{}{}
		r.refuse(s, err)
		return
	}
	// Last, since a file system that does not answer may hold it up.
	defer closeAll(fds)
	if !r.mayStart() {
		r.crew.places <- struct{}{}
		return
	}
	err = r.runWith(s, fds)
	answer(s.sock, err)
	switch {
	case r.opts.once && err != nil:
		stop(err)
	case r.opts.once:
		stop(errOnce)
	case err != nil:
		r.complain("%v", err)
	}
}

// refuse answers a sender who has not done what is expected.
func (r *receiver) refuse(s *sender, err error) {
	answer(s.sock, err)
	r.tell("refused %v: %v", s.peer, err)
}

// runWith starts the command with the descriptors from 3 on.
func (r *receiver) runWith(s *sender, fds []int) error {
	files := []uintptr{r.null, 1, 2}
	for _, fd := range fds {
		files = append(files, uintptr(fd))
	}
	return r.start(files, s.peer, append(s.peer.Env(""), "CONVOKE_FDS="+strconv.Itoa(len(fds))))
}
