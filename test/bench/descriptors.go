package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/ipc"
)

// A descriptorRow compares a real descriptor, as `convoke run` and package ipc give it, with a program's own socket.
type descriptorRow struct {
	name string
	unit string
	goal func(r *descriptorResult) string // "" when it is reached, else what was wanted
	// ways returns what is measured without convoke and with it.
	ways func(b *bench) (plain, ours measure)
}

// descriptorResult is a measured descriptorRow.
type descriptorResult struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Plain  []float64 `json:"plain"` // of each round
	Ours   []float64 `json:"ours"`
	Ratio  float64   `json:"ratio"` // of ours to plain: median, least, greatest
	Low    float64   `json:"ratio_low"`
	High   float64   `json:"ratio_high"`
	More   float64   `json:"more"` // median of ours less median of plain
	Goal   string    `json:"goal"`
	Missed []string  `json:"missed,omitempty"`
}

// fdpName is the local service that the connections of the row open-fdp go to.
const fdpName = "bench"

func atLeast(least float64) func(*descriptorResult) string {
	return func(r *descriptorResult) string {
		if r.Ratio >= least {
			return ""
		}
		return fmt.Sprintf("%.2f of direct, want %.2f", r.Ratio, least)
	}
}

func below(most float64) func(*descriptorResult) string {
	return func(r *descriptorResult) string {
		if r.Ratio < most {
			return ""
		}
		return fmt.Sprintf("%.2f times connect(2), want less than %.0f", r.Ratio, most)
	}
}

func moreAtMost(most float64) func(*descriptorResult) string {
	return func(r *descriptorResult) string {
		if r.More <= most {
			return ""
		}
		return fmt.Sprintf("%.1f us more, want at most %.0f", r.More, most)
	}
}

var descriptorRows = []descriptorRow{
	{"run-send", "MB/s", atLeast(0.98), func(b *bench) (measure, measure) { return b.runBulk("send", b.peer.sink) }},
	{"run-recv", "MB/s", atLeast(0.98), func(b *bench) (measure, measure) { return b.runBulk("recv", b.peer.source) }},
	{"run-trips", "1/s", atLeast(0.98), func(b *bench) (measure, measure) {
		f := func(again roleRunner, t target) measure {
			return func(ctx context.Context) (float64, error) {
				return perSecond(again(ctx, "trips", string(t), strconv.Itoa(b.o.size.trips)))
			}
		}
		return f(runRole, tcpTarget(b.peer.echo)), f(b.underRun, b.node.stream(b.peer.echo))
	}},
	{"run-open", "us", moreAtMost(60), func(b *bench) (measure, measure) {
		return b.opens(runRole, func() target { return tcpTarget(b.peer.connPort()) }),
			b.opens(b.underRun, func() target { return b.node.stream(b.peer.connPort()) })
	}},
	{"run-other", "us", moreAtMost(15), func(b *bench) (measure, measure) {
		null := func() target { return "/dev/null" }
		return b.opens(runRole, null), b.opens(b.underRun, null)
	}},
	{"open-tcp", "us", below(3), func(b *bench) (measure, measure) {
		ours := b.opensBy("open", func() string { return fmt.Sprintf("dev/tcp/127.0.0.1/%d", b.peer.connPort()) })
		return b.opens(runRole, func() target { return tcpTarget(b.peer.connPort()) }), ours
	}},
	{"open-fdp", "us", below(2), func(b *bench) (measure, measure) {
		plain := func() target { return target("unix:" + filepath.Join(b.node.mount, "dev/fdp/local", fdpName)) }
		return b.opens(runRole, plain), b.opensBy("open", func() string { return "dev/fdp/local/" + fdpName })
	}},
}

func tcpTarget(port int) target { return target("tcp:" + strconv.Itoa(port)) }

// roleRunner is runRole, or runs the role in another way.
type roleRunner func(ctx context.Context, role string, args ...string) (n, nanos int64, err error)

// underRun runs a role under `convoke run`.
func (b *bench) underRun(ctx context.Context, role string, args ...string) (n, nanos int64, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	cmd := again(ctx, role)
	cmd.Path, cmd.Args = b.o.convoke, append([]string{"convoke", "--mount", b.node.mount, "run", "--", self, role}, args...)
	return finishRole(cmd)
}

func (b *bench) runBulk(role string, port int) (plain, ours measure) {
	f := func(again roleRunner, t target) measure {
		return b.timedByPeer(func(ctx context.Context) error {
			_, _, err := again(ctx, role, string(t), strconv.Itoa(1<<20), strconv.FormatInt(b.o.size.bulk, 10))
			return err
		})
	}
	return f(runRole, tcpTarget(port)), f(b.underRun, b.node.stream(port))
}

// opens gives the microseconds of an open and close.
func (b *bench) opens(again roleRunner, t func() target) measure {
	return func(ctx context.Context) (float64, error) {
		return microseconds(again(ctx, "conns", string(t()), strconv.Itoa(b.o.size.conns), "1"))
	}
}

// opensBy is opens by package ipc.
func (b *bench) opensBy(role string, path func() string) measure {
	return func(ctx context.Context) (float64, error) {
		return microseconds(runRole(ctx, role, b.node.mount, path(), strconv.Itoa(b.o.size.conns)))
	}
}

func microseconds(n, nanos int64, err error) (float64, error) {
	if err == nil && n <= 0 {
		err = errors.New("nothing was done")
	}
	if err != nil {
		return 0, err
	}
	return float64(nanos) / float64(n) / 1000, nil
}

// descriptors measures the rows of real descriptors.
func (b *bench) descriptors(ctx context.Context, rep *report) (err error) {
	var list []descriptorRow
	for _, r := range descriptorRows {
		if b.o.wanted(r.name) {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		return nil
	}
	if b.node, err = startDaemon(ctx, b.o.daemon, filepath.Join(b.dir, "descriptors")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.node.stop()) }()
	server, err := startChild(ctx, "fdp", filepath.Join(b.node.mount, "dev/fdp/local", fdpName))
	if err != nil {
		return err
	}
	defer server.stop()
	if err := server.scan(new(string)); err != nil {
		return err
	}
	defer b.progress("")
	for _, r := range list {
		res := &descriptorResult{Name: r.name, Unit: r.unit}
		plain, ours := r.ways(b)
		for i := range b.o.rounds {
			b.progress("%s: round %d of %d", r.name, i+1, b.o.rounds)
			for _, c := range []struct {
				f  measure
				to *[]float64
			}{{plain, &res.Plain}, {ours, &res.Ours}} {
				v, _, err := calm(ctx, c.f)
				if err != nil {
					return fmt.Errorf("%s: %w", r.name, err)
				}
				*c.to = append(*c.to, v)
			}
		}
		res.judge(r)
		rep.Descriptors = append(rep.Descriptors, res)
	}
	return nil
}

func (r *descriptorResult) judge(of descriptorRow) {
	r.Ratio, r.Low, r.High = ratio(r.Ours, r.Plain)
	r.More = median(r.Ours) - median(r.Plain)
	r.Goal = goalOK
	if want := of.goal(r); want != "" {
		r.Goal = goalMissed
		r.Missed = append(r.Missed, r.Name+": "+want)
	}
}

// clientOpen: MOUNT PATH N. Prints N and the nanoseconds of N connections made by package ipc, and closed.
func clientOpen(args []string, out io.Writer) error {
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	tree, err := ipc.Locate(args[0])
	if err != nil {
		return err
	}
	ctx := context.Background()
	c, err := tree.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	nanos, err := timed(n, func() error {
		fd, err := c.OpenFD(ctx, args[1])
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, n, nanos)
	return err
}

// serveLocal: PATH. Listens at an AF_UNIX socket, prints a line, and drops what connects, until its standard input ends.
func serveLocal(args []string, out io.Writer) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: args[0]}); err != nil {
		return err
	}
	defer os.Remove(args[0])
	if err := unix.Listen(fd, 4096); err != nil {
		return err
	}
	fmt.Fprintln(out, "listening")
	acceptAll(fd, func(c int) { unix.Close(c) })
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// buildAll builds what is measured and was not given.
func buildAll(ctx context.Context, o *options, dir string) error {
	for _, p := range []struct {
		file *string
		name string
	}{{&o.daemon, "convoked"}, {&o.convoke, "convoke"}} {
		if *p.file != "" {
			continue
		}
		*p.file = filepath.Join(dir, p.name)
		cmd := exec.CommandContext(ctx, "go", "build", "-o", *p.file, "github.com/convoke-fs/convoke/cmd/"+p.name)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	return nil
}
