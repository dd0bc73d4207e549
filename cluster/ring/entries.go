package ring

import "bytes"

// takeEntries appends entries to the log and delivers them. It stops at the
// first that is wrong, and says why.
func (c *Core) takeEntries(entries []Entry) string {
	if len(entries) == 0 {
		return ""
	}
	messages := make([]Message, 0, len(entries))
	wrong := ""
	for i := range entries {
		e := &entries[i]
		idx := c.index(e.Origin)
		if idx < 0 {
			wrong = "an entry of a node that is no member"
			break
		}
		if wrong = c.members[idx].fits(e); wrong != "" {
			break
		}
		if idx == c.me {
			if wrong = c.ownCame(e); wrong != "" {
				break
			}
		}
		messages = c.place(e, idx, messages)
		c.unacked += EntrySize(len(e.Data))
	}
	if len(messages) > 0 {
		c.emit(Deliver{Ring: c.view.Ring, Messages: messages})
	}
	return wrong
}

// ownCame takes an entry of this node off those that are on their way.
func (c *Core) ownCame(e *Entry) string {
	if c.pend.len() == 0 {
		return "an entry of ours that we did not submit"
	}
	if !sameEntry(c.pend.at(0), e) {
		return "an entry of ours that is not what we submitted"
	}
	c.pendBytes -= EntrySize(len(e.Data))
	c.pend.pop()
	return ""
}

func sameEntry(a, b *Entry) bool {
	return a.Origin == b.Origin && a.OSeq == b.OSeq && a.Kind == b.Kind && a.Flags == b.Flags && bytes.Equal(a.Data, b.Data)
}

// fits tells what is wrong with an entry of m as the next of the log.
func (m *member) fits(e *Entry) string {
	follows := e.OSeq == m.last+1 || m.fresh || mutated(mutNoSticky) || mutated(mutRecoverAnywhere) || mutated(mutTailUnfiltered)
	switch {
	case e.OSeq == 0, !follows:
		return "an entry that does not follow its origin's last"
	case e.Kind == 0:
		return "an entry without a kind"
	case len(e.Data) > maxFragment:
		return "an entry that is too long"
	case (e.Flags&EntryFirst == 0) != (len(m.parts) > 0):
		return "a part of a message without the parts before it"
	case m.partBytes+len(e.Data) > hardMessage:
		return "a message that is too long"
	}
	return ""
}

// keep appends an entry that fits to the log.
func (c *Core) keep(e *Entry, idx int) {
	c.log.push(*e, idx)
	m := &c.members[idx]
	m.last, m.fresh = e.OSeq, false
	m.unstable += EntrySize(len(e.Data))
}

// place appends an entry that fits to the log, and the message that it
// completes, if it does, to messages.
func (c *Core) place(e *Entry, idx int, messages []Message) []Message {
	c.keep(e, idx)
	m := &c.members[idx]
	data, ok := join(&m.parts, &m.partBytes, e)
	if !ok {
		return messages
	}
	return append(messages, Message{Origin: e.Origin, OSeq: e.OSeq, Pos: c.log.end(), Kind: e.Kind, Data: data})
}

// join adds an entry to the parts of a message; with the last it gives the
// whole.
func join(parts *[][]byte, size *int, e *Entry) (data []byte, whole bool) {
	if e.Flags&EntryMore != 0 {
		// A part without bytes must be seen too: the next is not a first one.
		*parts = append(*parts, e.Data)
		*size += len(e.Data)
		return nil, false
	}
	if len(*parts) == 0 {
		return e.Data, true
	}
	data = make([]byte, 0, *size+len(e.Data))
	for _, p := range *parts {
		data = append(data, p...)
	}
	*parts, *size = nil, 0
	return append(data, e.Data...), true
}
