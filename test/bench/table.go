package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// result is a measured row.
type result struct {
	Name         string               `json:"name"`
	Unit         string               `json:"unit"`
	Values       map[column][]float64 `json:"values"` // of each round, in Unit
	Ratio        float64              `json:"ratio"`  // stream to direct: median, least, greatest
	Low          float64              `json:"ratio_low"`
	High         float64              `json:"ratio_high"`
	AgainstRatio float64              `json:"against_ratio,omitempty"` // of the daemon of --against to direct
	Disturbed    int                  `json:"disturbed,omitempty"`     // measurements from which the host took much
	Goal         string               `json:"goal"`
	Missed       []string             `json:"missed,omitempty"` // why the goal is missed
}

// report is all that was measured.
type report struct {
	Rounds int       `json:"rounds"`
	Rows   []*result `json:"rows,omitempty"`
	Memory []*usage  `json:"memory,omitempty"`

	Descriptors []*descriptorResult `json:"descriptors,omitempty"`
	Groups      []*groupResult      `json:"groups,omitempty"`
	Notes       []string            `json:"notes,omitempty"` // what was not measured, and why
}

func (rep *report) missed() bool {
	for _, r := range rep.Rows {
		if r.Goal == goalMissed {
			return true
		}
	}
	for _, r := range rep.Descriptors {
		if r.Goal == goalMissed {
			return true
		}
	}
	for _, u := range rep.Memory {
		if u.Goal == goalMissed {
			return true
		}
	}
	for _, r := range rep.Groups {
		if r.Goal == goalMissed {
			return true
		}
	}
	return false
}

func (rep *report) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(rep)
}

// print writes the tables: medians of the rounds, "-" for what was not measured.
func (rep *report) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(cells ...string) {
		for _, c := range cells {
			fmt.Fprint(t, c, "\t")
		}
		fmt.Fprintln(t)
	}
	other := rep.compares()
	if len(rep.Rows) > 0 {
		head := []string{"row", "unit", string(direct), string(stream), "ratio", "range", "goal"}
		if other {
			head = append(head, string(against), "ratio")
		}
		for _, c := range tools {
			head = append(head, string(c))
		}
		line(head...)
	}
	for _, r := range rep.Rows {
		cells := []string{r.Name, r.Unit, r.cell(direct), r.cell(stream), fmt.Sprintf("%.2f", r.Ratio), fmt.Sprintf("%.2f-%.2f", r.Low, r.High), r.Goal}
		if other {
			cells = append(cells, r.cell(against), fmt.Sprintf("%.2f", r.AgainstRatio))
		}
		for _, c := range tools {
			cells = append(cells, r.cell(c))
		}
		line(cells...)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(rep.Rows) > 0 && len(rep.Descriptors) > 0 {
		fmt.Fprintln(w)
	}
	if len(rep.Descriptors) > 0 {
		line("descriptor", "unit", "plain", "convoke", "ratio", "range", "more", "goal")
	}
	for _, r := range rep.Descriptors {
		line(r.Name, r.Unit, fmt.Sprintf("%.1f", median(r.Plain)), fmt.Sprintf("%.1f", median(r.Ours)),
			fmt.Sprintf("%.2f", r.Ratio), fmt.Sprintf("%.2f-%.2f", r.Low, r.High), fmt.Sprintf("%.1f", r.More), r.Goal)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(rep.Rows)+len(rep.Descriptors) > 0 && len(rep.Memory) > 0 {
		fmt.Fprintln(w)
	}
	if len(rep.Memory) > 0 {
		line("daemon", "reads", "RSS MiB", "goroutines", "threads", "goal")
	}
	for _, u := range rep.Memory {
		line(u.Name, fmt.Sprint(u.Reads), fmt.Sprintf("%.1f", float64(u.RSS)/1024), fmt.Sprint(u.Goroutines), fmt.Sprint(u.Threads), u.Goal)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(rep.Rows)+len(rep.Descriptors)+len(rep.Memory) > 0 && len(rep.Groups) > 0 {
		fmt.Fprintln(w)
	}
	if len(rep.Groups) > 0 {
		line("groups", "unit", string(ours), string(corosync), "ratio", "range", "goal", "MB/s", "MB/s")
	}
	for _, r := range rep.Groups {
		line(r.cells()...)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return rep.printNotes(w)
}

func (rep *report) printNotes(w io.Writer) error {
	for _, r := range rep.Rows {
		for _, m := range r.Missed {
			if _, err := fmt.Fprintln(w, "missed:", m); err != nil {
				return err
			}
		}
		if r.Disturbed > 0 {
			if _, err := fmt.Fprintf(w, "note: %s: the host of this machine took processor time from %d measurements\n", r.Name, r.Disturbed); err != nil {
				return err
			}
		}
	}
	for _, r := range rep.Descriptors {
		for _, m := range r.Missed {
			if _, err := fmt.Fprintln(w, "missed:", m); err != nil {
				return err
			}
		}
	}
	for _, u := range rep.Memory {
		if u.Goal == goalMissed {
			if _, err := fmt.Fprintf(w, "missed: %s: %s\n", u.Name, u.want()); err != nil {
				return err
			}
		}
		if u.Note != "" {
			if _, err := fmt.Fprintln(w, "note:", u.Note); err != nil {
				return err
			}
		}
	}
	return rep.printGroupNotes(w)
}

func (rep *report) printGroupNotes(w io.Writer) error {
	var lines []string
	for _, r := range rep.Groups {
		for _, m := range r.Missed {
			lines = append(lines, "missed: "+m)
		}
		for _, n := range r.Notes {
			lines = append(lines, "note: "+n)
		}
		if r.Disturbed > 0 {
			lines = append(lines, fmt.Sprintf("note: %s: the host of this machine took processor time from %d measurements", r.Name, r.Disturbed))
		}
	}
	for _, n := range rep.Notes {
		lines = append(lines, "note: "+n)
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

// compares tells whether a second daemon was measured.
func (rep *report) compares() bool {
	for _, r := range rep.Rows {
		if r.Values[against] != nil {
			return true
		}
	}
	return false
}

func (r *result) cell(c column) string {
	if r.Values[c] == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", median(r.Values[c]))
}
