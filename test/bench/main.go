package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1 // a goal is missed, or nothing could be measured
	exitUsage  = 2
)

func main() {
	if len(os.Args) > 1 {
		if f, ok := roles[os.Args[1]]; ok {
			work(f, os.Args[2:])
		}
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// options are what the flags say.
type options struct {
	quick, json, noTools bool
	only                 []string
	rows                 *regexp.Regexp // nil: all
	sizes                []string       // of the messages of groups
	rounds, groupRounds  int
	daemon, against      string
	convoke              string // the command; always built
	size                 size
	groups               groupSize
}

// size is how much one measurement does.
type size struct {
	bulk    int64 // bytes of one bulk transfer
	trips   int   // round trips
	conns   int   // connections of a client, or of one bash
	runs    int   // processes of a tool that makes one connection
	blocked int   // reads that wait at once
}

var (
	// Many short measurements, rather than few long ones, find the moments in which the machine is ours.
	fullSize  = size{bulk: 512 << 20, trips: 10000, conns: 2000, runs: 100, blocked: 10000}
	quickSize = size{bulk: 256 << 20, trips: 3000, conns: 500, runs: 25, blocked: 10000}
)

func parseOptions(args []string, stdout io.Writer) (*options, error) {
	o := &options{}
	f := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	f.SortFlags = false
	f.BoolVar(&o.quick, "quick", false, "a short run: less of everything")
	f.StringSliceVar(&o.only, "only", nil, "only the `ROW`s whose name begins so; may be repeated")
	rows := f.String("rows", "", "only the rows whose name the regular expression `RE` matches")
	f.StringSliceVar(&o.sizes, "sizes", defaultSizes, "the sizes of messages of groups, `SIZE`s in bytes, with K or M")
	f.IntVar(&o.rounds, "rounds", 0, "measure everything `N` times (default 11, with --quick 3; of groups 3 and 1)")
	f.BoolVar(&o.json, "json", false, "print JSON, with the values of each round")
	f.BoolVar(&o.noTools, "no-tools", false, "leave dd, cat, bash, socat, nc and corosync out")
	f.StringVar(&o.daemon, "daemon", "", "the convoked to measure, an executable `FILE` (default: build it)")
	f.StringVar(&o.against, "against", "", "another convoked, `FILE`, to measure beside it in the column \"against\"")
	f.Usage = func() {
		fmt.Fprintf(stdout, "Usage: go run ./test/bench [OPTION]...\nMeasure stream files against sockets and tools, and process groups against corosync.\n\n%s\nRows: %s.\n"+
			"The exit status is 1 when a goal is missed.\n", f.FlagUsages(), rowNames(o.sizes))
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	o.size, o.groups = fullSize, fullGroups
	rounds, groupRounds := 11, 3
	if o.quick {
		o.size, o.groups = quickSize, quickGroups
		rounds, groupRounds = 3, 1
	}
	if o.groupRounds = o.rounds; o.rounds == 0 {
		o.rounds, o.groupRounds = rounds, groupRounds
	}
	if o.rounds < 1 {
		return nil, errors.New("--rounds must be 1 or more")
	}
	return o, o.selectRows(*rows)
}

func run(args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stdout)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return exitDone
	case err != nil:
		fmt.Fprintf(stderr, "bench: %v\nTry 'bench --help'.\n", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	rep, err := measureAll(ctx, o, stderr)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return exitFailed
	}
	if o.json {
		err = rep.printJSON(stdout)
	} else {
		err = rep.print(stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return exitFailed
	}
	if rep.missed() {
		return exitFailed
	}
	return exitDone
}

// measureAll sets everything up, measures, and takes everything down whatever happens.
func measureAll(ctx context.Context, o *options, stderr io.Writer) (rep *report, err error) {
	dir, err := os.MkdirTemp("", "convoke-bench")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, removeDir(dir)) }()
	if err := buildAll(ctx, o, dir); err != nil {
		return nil, err
	}
	b := &bench{o: o, dir: dir, stderr: stderr}
	b.peer, err = startPeer(ctx, o.size.bulk)
	if err != nil {
		return nil, err
	}
	defer func() { b.peer.stop() }() // whichever it is by then
	b.zeros, err = zeroFile(o.size.bulk)
	if err != nil {
		return nil, err
	}
	defer unix.Close(b.zeros)
	rep = &report{Rounds: o.rounds}
	if err := b.ratios(ctx, rep); err != nil {
		return nil, err
	}
	if err := b.descriptors(ctx, rep); err != nil {
		return nil, err
	}
	if err := b.memory(ctx, rep); err != nil {
		return nil, err
	}
	return rep, b.compareGroups(ctx, rep)
}
