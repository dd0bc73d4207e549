package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A column is one way to do what a row is about.
type column string

const (
	direct   column = "direct"  // our client on a socket
	stream   column = "stream"  // our client on a stream file
	against  column = "against" // our client on a stream file of the daemon of --against
	ddFile   column = "dd"      // dd on a stream file
	catFile  column = "cat"
	bashFile column = "bash"
	socat    column = "socat" // without convoke
	nc       column = "nc"
	bashTCP  column = "bash-tcp" // bash's own /dev/tcp, for bulk with dd
)

// tools are the columns that are other programs, in the table's order: three on a stream file, then three without.
var tools = []column{ddFile, catFile, bashFile, socat, nc, bashTCP}

// columns is the order of measuring.
var columns = append([]column{direct, stream, against}, tools...)

// A measure does a row's work once, in one column, and returns how much it did in a second.
type measure func(ctx context.Context) (float64, error)

// A row is one kind of work.
type row struct {
	name     string
	unit     string
	floor    float64 // goal: the least ratio of stream to direct
	measures func(b *bench) map[column]measure
}

// MB/s are 10^6 bytes a second.
var rows = []row{
	bulkRow("send-1M", 1<<20),
	bulkRow("send-128K", 128<<10),
	bulkRow("recv-1M", 1<<20),
	bulkRow("recv-128K", 128<<10),
	{"trips", "1/s", 0.45, func(b *bench) map[column]measure { return b.eachTarget(b.trips) }},
	{"conns", "1/s", 0, func(b *bench) map[column]measure { return b.connsBy(1) }},
	{"conns-8", "1/s", 0, func(b *bench) map[column]measure { return b.connsBy(8) }},
}

// Names of the rows of memory.
const (
	idleRow    = "idle"
	blockedRow = "blocked"
)

func bulkRow(name string, block int) row {
	r := row{name: name, unit: "MB/s", floor: 0.6}
	r.measures = func(b *bench) map[column]measure { return b.bulk(r.sends(), block) }
	return r
}

func (r row) sends() bool    { return strings.HasPrefix(r.name, "send") }
func (r row) connects() bool { return strings.HasPrefix(r.name, "conns") }

func rowNames(sizes []string) string {
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	for _, r := range descriptorRows {
		names = append(names, r.name)
	}
	names = append(names, idleRow, blockedRow)
	groups, _ := groupRows(sizes, groupSize{}) // none of sizes that are refused
	for _, r := range groups {
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}

// selectRows takes the selection of rows, and refuses what would select nothing.
func (o *options) selectRows(pattern string) (err error) {
	if _, err := groupRows(o.sizes, o.groups); err != nil {
		return fmt.Errorf("--sizes: %w", err)
	}
	names := rowNames(o.sizes)
	for _, only := range o.only {
		if only == "" || !strings.Contains(", "+names, ", "+only) {
			return fmt.Errorf("--only %q: the rows are %s", only, names)
		}
	}
	if pattern == "" {
		return nil
	}
	if o.rows, err = regexp.Compile(pattern); err != nil {
		return fmt.Errorf("--rows: %w", err)
	}
	if !slices.ContainsFunc(strings.Split(names, ", "), o.wanted) {
		return fmt.Errorf("--rows %q: the rows are %s", pattern, names)
	}
	return nil
}

// wanted tells whether a row is selected.
func (o *options) wanted(name string) bool {
	if o.rows != nil && !o.rows.MatchString(name) {
		return false
	}
	for _, s := range o.only {
		if strings.HasPrefix(name, s) {
			return true
		}
	}
	return len(o.only) == 0
}

// bench is what the measurements share.
type bench struct {
	o      *options
	dir    string
	stderr io.Writer
	peer   *peerProcess
	zeros  int // a file of zeros, as large as a bulk transfer

	node, other *daemon // other is nil without --against
}

// ratios measures the rows that have a direct column.
func (b *bench) ratios(ctx context.Context, rep *report) (err error) {
	var list []row
	for _, r := range rows {
		if b.o.wanted(r.name) {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		return nil
	}
	if b.node, err = startDaemon(ctx, b.o.daemon, filepath.Join(b.dir, "node")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.node.stop()) }()
	if b.o.against != "" {
		if b.other, err = startDaemon(ctx, b.o.against, filepath.Join(b.dir, "other")); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.other.stop()) }()
	}
	defer b.progress("")
	for _, r := range list {
		res, err := b.measure(ctx, r)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			// The others may still tell something; the peer may be in the middle of this one.
			res.fail(err)
			b.peer.stop()
			if b.peer, err = startPeer(ctx, b.o.size.bulk); err != nil {
				return err
			}
		}
		rep.Rows = append(rep.Rows, res)
	}
	return nil
}

// measure takes a row's measurements in turns. With an error the result has what was measured before it.
func (b *bench) measure(ctx context.Context, r row) (*result, error) {
	res := &result{Name: r.name, Unit: r.unit, Values: map[column][]float64{}}
	ways := r.measures(b)
	for i := range b.o.rounds {
		b.progress("%s: round %d of %d", r.name, i+1, b.o.rounds)
		for _, c := range columns {
			if ways[c] == nil {
				continue
			}
			v, disturbed, err := calm(ctx, ways[c])
			if disturbed {
				res.Disturbed++
			}
			if err != nil {
				return res, fmt.Errorf("%s, %s: %w", r.name, c, err)
			}
			res.Values[c] = append(res.Values[c], v)
		}
	}
	res.judge(r)
	return res, nil
}

// progress says on a terminal what is being measured; an empty text clears the line.
func (b *bench) progress(format string, args ...any) {
	if _, err := unix.IoctlGetTermios(2, unix.TCGETS); err == nil {
		fmt.Fprintf(b.stderr, "\r\033[K"+format, args...)
	}
}

// eachTarget measures direct sockets and stream files with one function.
func (b *bench) eachTarget(f func(t func(port int) target) measure) map[column]measure {
	m := map[column]measure{
		direct: f(func(port int) target { return target("tcp:" + strconv.Itoa(port)) }),
		stream: f(b.node.stream),
	}
	if b.other != nil {
		m[against] = f(b.other.stream)
	}
	return m
}

func (b *bench) trips(t func(int) target) measure {
	return func(ctx context.Context) (float64, error) {
		return perSecond(runRole(ctx, "trips", string(t(b.peer.echo)), strconv.Itoa(b.o.size.trips)))
	}
}

func (b *bench) connsBy(threads int) map[column]measure {
	m := b.eachTarget(func(t func(int) target) measure {
		return func(ctx context.Context) (float64, error) {
			return perSecond(runRole(ctx, "conns", string(t(b.peer.connPort())), strconv.Itoa(b.o.size.conns), strconv.Itoa(threads)))
		}
	})
	b.addConnTools(m, threads)
	return m
}

func (b *bench) bulk(send bool, block int) map[column]measure {
	role, port := "recv", b.peer.source
	if send {
		role, port = "send", b.peer.sink
	}
	m := b.eachTarget(func(t func(int) target) measure {
		return b.timedByPeer(func(ctx context.Context) error {
			_, _, err := runRole(ctx, role, string(t(port)), strconv.Itoa(block), strconv.FormatInt(b.o.size.bulk, 10))
			return err
		})
	})
	b.addBulkTools(m, send, block, port)
	return m
}

// timedByPeer gives the MB/s of one bulk transfer.
func (b *bench) timedByPeer(f func(ctx context.Context) error) measure {
	return func(ctx context.Context) (float64, error) {
		if err := f(ctx); err != nil {
			return 0, err
		}
		n, nanos, err := b.peer.bulk()
		if err == nil && n != b.o.size.bulk {
			err = fmt.Errorf("the peer counted %d bytes, want %d", n, b.o.size.bulk)
		}
		v, err := perSecond(n, nanos, err)
		return v / 1e6, err
	}
}

func perSecond(n, nanos int64, err error) (float64, error) {
	if err == nil && nanos <= 0 {
		err = errors.New("no time passed")
	}
	if err != nil {
		return 0, err
	}
	return float64(n) / float64(nanos) * 1e9, nil
}
