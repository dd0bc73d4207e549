package group

// decoder takes fields from outside bytes. After the first that is not there,
// bad is set and all fields are zero.
type decoder struct {
	b   []byte
	bad bool
}

// take gives the next n bytes, or nil.
func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return le.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return le.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return le.Uint64(b)
	}
	return 0
}

func (d *decoder) cred() cred {
	c := cred{uid: d.u32(), gid: d.u32()}
	n := int(d.u16())
	if n > maxJoinGroups {
		d.bad = true
	}
	c.groups = d.take(4 * n)
	return c
}

func (d *decoder) name() []byte {
	n := int(d.u8())
	if n > MaxName {
		d.bad = true
	}
	return d.take(n)
}
