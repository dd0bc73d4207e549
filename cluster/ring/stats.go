package ring

// Stats are for people and metrics.
type Stats struct {
	State    string // "oper", "flush", "prepared", "ready"
	Ring     ID
	Promised ID // the ballot that is promised; Ring when there is no change
	Members  int
	Changes  uint64 // rings installed
	Position uint64 // length of the log here
	Stable   uint64 // of it, how much every member is known to have
	Unstable int    // bytes of the log that are kept
	OnWay    int    // bytes of this node on their way to the sequencer
	Queued   int    // bytes that wait to be submitted
	MaxSeq   uint64
	Missing  []NK // members that are lost, or in a change that this node coordinates who has not answered
	LeftOut  []NK // nodes that are up and not taken for now: they did not answer, or are held down
}

// Stats tells how the core is. It costs little, and may be taken after any Step.
func (c *Core) Stats() Stats {
	s := Stats{
		State:    "oper",
		Ring:     c.view.Ring,
		Promised: c.promised,
		Members:  len(c.members),
		Changes:  c.changes,
		Position: c.log.end(),
		Stable:   c.stable,
		OnWay:    c.pendBytes,
		Queued:   c.queuedBytes,
		MaxSeq:   c.maxSeq,
	}
	for i := range c.members {
		s.Unstable += c.members[i].unstable
		if c.state == oper && c.members[i].broken {
			s.Missing = append(s.Missing, c.view.Members[i])
		}
	}
	for _, p := range c.peers {
		if p.up && p.leftOut(c.now) {
			s.LeftOut = append(s.LeftOut, p.nk)
		}
	}
	if c.state == oper {
		return s
	}
	switch {
	case c.isReady:
		s.State = "ready"
	case c.prep != nil:
		s.State = "prepared"
	default:
		s.State = "flush"
	}
	if t := c.try; t != nil {
		for i, nk := range t.set {
			if t.reports[i] == nil || t.prepare != nil && t.states[i] == nil {
				s.Missing = append(s.Missing, nk)
			}
		}
	}
	return s
}
