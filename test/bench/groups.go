package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/convoke-fs/convoke/test/netns"
)

// groupResult is a measured groupRow.
type groupResult struct {
	Name      string    `json:"name"`
	Unit      string    `json:"unit"`
	Size      int       `json:"size,omitempty"` // of the messages, in bytes
	Convoke   []float64 `json:"convoke"`        // of each round
	Corosync  []float64 `json:"corosync,omitempty"`
	Ratio     float64   `json:"ratio,omitempty"` // of convoke to corosync: median, least, greatest
	Low       float64   `json:"ratio_low,omitempty"`
	High      float64   `json:"ratio_high,omitempty"`
	Disturbed int       `json:"disturbed,omitempty"`
	Goal      string    `json:"goal"`
	Missed    []string  `json:"missed,omitempty"`
	Notes     []string  `json:"notes,omitempty"` // why something was not measured
}

// groupAgain is how often a measurement of groups is made again when the host took processor time from it.
const groupAgain = 2

// maxBroken is how many of its measurements may fail before a side is given up for a stage.
const maxBroken = 2

// compareGroups measures the rows about groups, in turns with corosync where that is installed.
func (b *bench) compareGroups(ctx context.Context, rep *report) error {
	any := false
	for _, st := range stages {
		any = any || len(b.o.wantedGroups(st)) > 0
	}
	if !any {
		return nil
	}
	if err := netns.Usable(); err != nil {
		rep.Notes = append(rep.Notes, fmt.Sprintf("groups are not measured: %v", err))
		return nil
	}
	client := ""
	if !b.o.noTools {
		var err error
		if client, err = buildCPG(ctx, b.dir); err != nil {
			rep.Notes = append(rep.Notes, fmt.Sprintf("corosync is not measured: %v", err))
		}
	}
	defer b.progress("")
	for _, st := range stages {
		rows := b.o.wantedGroups(st)
		if len(rows) == 0 {
			continue
		}
		if err := b.stage(ctx, rep, st, rows, client); err != nil {
			return err
		}
	}
	return nil
}

// stage measures the rows of one kind of cluster. client is corosync's member, "" without corosync.
func (b *bench) stage(ctx context.Context, rep *report, st stage, rows []groupRow, client string) (err error) {
	dir := filepath.Join(b.dir, "groups"+st.suffix())
	sides := []*place{{column: ours, dir: dir, prepare: func(dir string) prepare { return newConvokes(dir, b.o.daemon, st.crypto) }}}
	if client != "" {
		sides = append(sides, &place{column: corosync, dir: dir, prepare: func(dir string) prepare { return newCorosyncs(dir, client, st.crypto) }})
	}
	defer func() {
		for _, p := range sides {
			err = errors.Join(err, p.close())
		}
	}()
	for _, r := range rows {
		res := &groupResult{Name: r.name, Unit: r.unit, Size: r.size}
		rounds := b.o.groupRounds
		if r.once {
			rounds = 1
		}
		for i := range rounds {
			for _, p := range sides {
				if r.alone && p.column != ours {
					continue
				}
				b.progress("%s: round %d of %d, %s", r.name, i+1, rounds, p.column)
				v, disturbed, err := p.measure(ctx, st, r)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					res.Notes = append(res.Notes, fmt.Sprintf("%s, %s: %v", r.name, p.column, err))
					continue
				}
				if disturbed {
					res.Disturbed++
				}
				if p.column == ours {
					res.Convoke = append(res.Convoke, v)
				} else {
					res.Corosync = append(res.Corosync, v)
				}
			}
		}
		res.judge(r)
		rep.Groups = append(rep.Groups, res)
	}
	return nil
}

// prepare makes a system on a network.
type prepare func(*netns.Net) (system, error)

// A place has a side while it works, and a new one when it has broken.
type place struct {
	column  column
	dir     string
	prepare func(dir string) prepare
	side    *side // nil: there is none now
	broken  int
	last    error // why the last one broke
}

// measure measures one row once. A side that fails is closed, since nothing is known of its state.
func (p *place) measure(ctx context.Context, st stage, r groupRow) (v float64, disturbed bool, err error) {
	if p.broken > maxBroken {
		return 0, false, fmt.Errorf("given up: %w", p.last)
	}
	if p.side == nil {
		dir := filepath.Join(p.dir, fmt.Sprintf("%s%d", p.column, p.broken))
		if p.side, err = openSide(ctx, p.column, st.nodes, p.prepare(dir)); err != nil {
			p.broken++
			p.last = err
			return 0, false, err
		}
	}
	again := 0
	if r.size > 0 || r.unit == "us" {
		again = groupAgain // the others take long, or are told by memory
	}
	v, disturbed, err = calmly(ctx, func(ctx context.Context) (float64, error) { return r.do(ctx, p.side) }, again)
	if err != nil {
		p.broken++
		p.last = err
		err = errors.Join(err, p.close())
	}
	return v, disturbed, err
}

func (p *place) close() error {
	if p.side == nil {
		return nil
	}
	s := p.side
	p.side = nil
	return s.close()
}

// judge compares a result with its row's goal. A round that only one of the two has is compared with nothing.
func (r *groupResult) judge(of groupRow) {
	if n := min(len(r.Convoke), len(r.Corosync)); n > 0 {
		r.Ratio, r.Low, r.High = ratio(r.Convoke[:n], r.Corosync[:n])
	}
	r.Goal = goalUnknown
	switch {
	case len(r.Convoke) == 0:
		r.Goal = goalMissed
		r.Missed = append(r.Missed, r.Name+": not measured")
	case of.goal.miss == nil || of.goal.relative && r.Corosync == nil:
	default:
		r.Goal = goalOK
		if want := of.goal.miss(r); want != "" {
			r.Goal = goalMissed
			r.Missed = append(r.Missed, r.Name+": "+want)
		}
	}
}

// megabytes is the rate as MB/s, "-" for what is no rate of messages.
func (r *groupResult) megabytes(values []float64) string {
	if r.Size == 0 || values == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f", median(values)*float64(r.Size)/1e6)
}

// value is the median for the table.
func (r *groupResult) value(values []float64) string {
	switch {
	case values == nil:
		return "-"
	case r.Unit == "1/s":
		return fmt.Sprintf("%.0f", median(values))
	}
	return fmt.Sprintf("%.1f", median(values))
}

// cells are the result's line in the table.
func (r *groupResult) cells() []string {
	compared := []string{"-", "-"}
	if r.Ratio > 0 {
		compared = []string{fmt.Sprintf("%.2f", r.Ratio), fmt.Sprintf("%.2f-%.2f", r.Low, r.High)}
	}
	return []string{r.Name, r.Unit, r.value(r.Convoke), r.value(r.Corosync), compared[0], compared[1], r.Goal, r.megabytes(r.Convoke), r.megabytes(r.Corosync)}
}
