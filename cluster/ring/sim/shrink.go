package sim

import "slices"

// Shrink drops what a plan does not need to break the same rule, faults first,
// in at most max runs.
func Shrink(p Plan, rule string, max int) Plan {
	breaks := func(p Plan) bool {
		max--
		vs := Run(p, nil).Violations
		return len(vs) > 0 && vs[0].Rule == rule
	}
	for size := len(p.Faults) / 2; size > 0; size /= 2 {
		for at := 0; at < len(p.Faults) && max > 0; {
			q := p
			q.Faults = slices.Delete(slices.Clone(p.Faults), at, min(at+size, len(p.Faults)))
			if breaks(q) {
				p = q
			} else {
				at += size
			}
		}
	}
	for _, change := range []func(k *Knobs){
		func(k *Knobs) { k.Codec = false },
		func(k *Knobs) { k.Calm = true },
		func(k *Knobs) { k.Bursts = false },
		func(k *Knobs) { k.StateLate = 0 },
		func(k *Knobs) { k.BigState = 0 },
		func(k *Knobs) { k.Rate *= 4 },
		func(k *Knobs) { k.Conf.Fragment = 0 },
		func(k *Knobs) { k.Conf.Window = 0 },
		func(k *Knobs) { k.Scars = k.Scars[:min(len(k.Scars), 1)] },
		func(k *Knobs) { k.Scars = nil },
	} {
		q := p
		change(&q.Knobs)
		if max > 0 && breaks(q) {
			p = q
		}
	}
	return p
}
