package main

import "fmt"

// What a goal comes out as.
const (
	goalOK      = "ok"
	goalMissed  = "MISSED"
	goalUnknown = "-" // there is none, or it could not be judged
)

// connsFactor is how many times more connections a second a stream file must make than socat does.
const connsFactor = 10

// judge sets the ratio and compares the result with the row's goals. What compares with a tool that is absent is not
// judged.
func (r *result) judge(of row) {
	r.Ratio, r.Low, r.High = ratio(r.Values[stream], r.Values[direct])
	if r.Values[against] != nil {
		r.AgainstRatio, _, _ = ratio(r.Values[against], r.Values[direct])
	}
	r.Goal = goalUnknown
	goal := func(ok bool, format string, args ...any) {
		if !ok {
			r.Goal = goalMissed
			r.Missed = append(r.Missed, fmt.Sprintf(format, args...))
		} else if r.Goal == goalUnknown {
			r.Goal = goalOK
		}
	}
	if of.floor > 0 {
		goal(r.Ratio >= of.floor, "%s: %.2f of direct, want %.2f", r.Name, r.Ratio, of.floor)
	}
	mine := median(r.Values[stream])
	for _, c := range []column{socat, nc} {
		theirs := r.Values[c]
		switch {
		case theirs == nil:
		case of.sends():
			// Our own client has nothing to read before it writes; dd does the same work as the others.
			if dd := r.Values[ddFile]; dd != nil {
				mine = median(dd)
			}
			goal(mine > median(theirs), "%s: %.0f %s, and %s has %.0f", r.Name, mine, r.Unit, c, median(theirs))
		case of.connects() && c == socat:
			goal(mine >= connsFactor*median(theirs), "%s: %.1f times socat's, want %d", r.Name, mine/median(theirs), connsFactor)
		}
	}
}

// fail marks a row that could not be measured to its end.
func (r *result) fail(err error) {
	r.Goal = goalMissed
	r.Missed = append(r.Missed, err.Error())
}

// judgeAtMost compares a number with the most it may be.
func judgeAtMost(have, most int) string {
	if have > most {
		return goalMissed
	}
	return goalOK
}
