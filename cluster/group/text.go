package group

import "strconv"

// AppendText appends the record's line of feed, with its newline:
//
//	conf members=1:4242,2:77.2 joined=2:77.2:JOIN left=-
//	msg 1 4242 hello world
//	ring 12.1 members=1,2,3
//
// A process is NODE:PID, with .N when N is not 1: in msg "4242.2" is the second
// membership of process 4242, and "4242.0" the process itself, which is no
// member. Data is one line: newline, tab and backslash become \n, \t and \\,
// other bytes outside printable ASCII \xHH; a blank stays one.
func (r *Record) AppendText(b []byte) []byte {
	switch r.Kind {
	case Conf:
		b = append(b, "conf members="...)
		b = appendList(b, r.Members, appendProcess)
		b = append(b, " joined="...)
		b = appendList(b, r.Joined, appendChanged)
		b = append(b, " left="...)
		b = appendList(b, r.Left, appendChanged)
	case Msg:
		b = append(b, "msg "...)
		b = strconv.AppendUint(b, uint64(r.From.Node), 10)
		b = append(b, ' ')
		b = appendPID(b, r.From)
		b = append(b, ' ')
		b = appendEscaped(b, r.Data)
	case Ring:
		b = append(b, "ring "...)
		b = strconv.AppendUint(b, r.Ring.Seq, 10)
		b = append(b, '.')
		b = strconv.AppendUint(b, uint64(r.Ring.Rep), 10)
		b = append(b, " members="...)
		b = appendList(b, r.Nodes, func(b []byte, n uint32) []byte { return strconv.AppendUint(b, uint64(n), 10) })
	}
	return append(b, '\n')
}

// String gives NODE:PID or NODE:PID.N, as in feed.
func (p Process) String() string { return string(appendProcess(nil, p)) }

// appendList appends the elements with commas between them, or a minus.
func appendList[T any](b []byte, list []T, f func([]byte, T) []byte) []byte {
	if len(list) == 0 {
		return append(b, '-')
	}
	for i, e := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = f(b, e)
	}
	return b
}

func appendProcess(b []byte, p Process) []byte {
	b = strconv.AppendUint(b, uint64(p.Node), 10)
	return appendPID(append(b, ':'), p)
}

func appendPID(b []byte, p Process) []byte {
	b = strconv.AppendUint(b, uint64(p.PID), 10)
	if p.N != 1 {
		b = strconv.AppendUint(append(b, '.'), uint64(p.N), 10)
	}
	return b
}

func appendChanged(b []byte, c Changed) []byte {
	b = append(appendProcess(b, c.Process), ':')
	return append(b, c.Reason.String()...)
}

const hexDigits = "0123456789ABCDEF"

// appendEscaped appends data as one line.
func appendEscaped(b, data []byte) []byte {
	for len(data) > 0 {
		n := 0
		for n < len(data) && plainByte(data[n]) {
			n++
		}
		b = append(b, data[:n]...)
		if data = data[n:]; len(data) == 0 {
			break
		}
		switch c := data[0]; c {
		case '\n':
			b = append(b, `\n`...)
		case '\t':
			b = append(b, `\t`...)
		case '\\':
			b = append(b, `\\`...)
		default:
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		}
		data = data[1:]
	}
	return b
}

func plainByte(c byte) bool { return ' ' <= c && c < 0x7f && c != '\\' }
