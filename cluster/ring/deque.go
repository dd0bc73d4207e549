package ring

// deque is a queue in a circular buffer that grows as needed. The zero value is
// empty.
type deque[T any] struct {
	buf  []T // its length is a power of two
	head int
	n    int
}

func (d *deque[T]) len() int { return d.n }

// at gives the i-th, from 0.
func (d *deque[T]) at(i int) *T {
	assert(i >= 0 && i < d.n, "index outside of a queue")
	return &d.buf[(d.head+i)&(len(d.buf)-1)]
}

func (d *deque[T]) push(v T) {
	if d.n == len(d.buf) {
		d.grow()
	}
	d.buf[(d.head+d.n)&(len(d.buf)-1)] = v
	d.n++
}

// pop drops the first, and what it refers to.
func (d *deque[T]) pop() {
	var zero T
	*d.at(0) = zero
	d.head = (d.head + 1) & (len(d.buf) - 1)
	d.n--
}

func (d *deque[T]) clear() { *d = deque[T]{} }

func (d *deque[T]) grow() {
	buf := make([]T, max(16, 2*len(d.buf)))
	k := copy(buf, d.buf[d.head:])
	copy(buf[k:], d.buf[:d.head])
	d.buf, d.head = buf, 0
}
