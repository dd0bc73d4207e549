package sim

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// digest is a hash of all that matters for what may come.
func (w *tiny) digest() uint64 {
	h := mix(1, uint64(w.now))
	for i := range 3 {
		h = digest(h, reflect.ValueOf(w.cores[i]).Elem())
		h = mix(mix(h, w.apps[i].hash()), w.chance[i])
		for j := range 3 {
			h = mix(h, uint64(len(w.out[i][j]))<<1|1)
			for _, l := range w.out[i][j] {
				h = digest(h, reflect.ValueOf(&l.frame).Elem())
			}
			if w.told[i][j] {
				h = mix(h, 3)
			}
		}
		if w.dead[i] {
			h = mix(h, 5)
		}
	}
	for _, n := range w.left[ticks:] {
		h = mix(h, uint64(n))
	}
	return h
}

// digest adds a value of any type to a hash, with all that it refers to.
func digest(h uint64, v reflect.Value) uint64 {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return mix(h, 1)
		}
		return mix(h, 2)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return mix(h, uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return mix(h, v.Uint())
	case reflect.String:
		for _, b := range []byte(v.String()) {
			h = mix(h, uint64(b))
		}
	case reflect.Slice, reflect.Array:
		h = mix(h, uint64(v.Len())+17)
		for i := range v.Len() {
			h = digest(h, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			h = digest(h, v.Field(i))
		}
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return mix(h, 7)
		}
		return digest(mix(h, 11), v.Elem())
	case reflect.Func: // the source of chance, which has no state here
	default:
		panic("no digest of " + v.Type().String())
	}
	return h
}

// A search is over all histories with at most so many differences.
type search struct {
	t       *testing.T
	formed  bool
	seen    map[uint64]int // state -> differences that were left when it was seen
	steps   int
	limit   int
	ends    int
	deepest int
}

// from goes on from w, which has come there by path.
func (s *search) from(w *tiny, path []act, differences int) {
	for s.steps < s.limit && !s.t.Failed() {
		d := w.digest()
		if left, ok := s.seen[d]; ok && left >= differences {
			return
		}
		s.seen[d] = differences
		s.deepest = max(s.deepest, len(path))
		next, more := w.plain()
		if differences > 0 {
			for _, a := range w.others(next) {
				x := s.again(path)
				s.do(x, a, path)
				s.from(x, append(slices.Clip(path), a), differences-1)
			}
		}
		if !more {
			s.end(w, path)
			return
		}
		s.do(w, next, path)
		path = append(slices.Clip(path), next)
	}
}

func (s *search) again(path []act) *tiny {
	w := newTiny(s.formed)
	for _, a := range path {
		w.do(a)
	}
	s.steps += len(path) / 8 // a part of what it costs
	return w
}

func (s *search) do(w *tiny, a act, path []act) {
	s.steps++
	defer func() {
		if x := recover(); x != nil {
			s.fail(append(slices.Clip(path), a), fmt.Sprint(x))
		}
	}()
	w.do(a)
	if vs := w.trace.Violations(); len(vs) > 0 {
		w.bad = vs[0].String()
	}
	if w.bad != "" {
		s.fail(append(slices.Clip(path), a), w.bad)
	}
}

// end heals what is cut, and demands one ring of all who live.
func (s *search) end(w *tiny, path []act) {
	s.ends++
	for i := range 3 {
		for j := range i {
			if !w.dead[i] && !w.dead[j] && !w.told[i][j] {
				w.left[meets]++
				s.do(w, act{meets, i, j}, path)
			}
		}
	}
	var alive []ring.NK
	for i := range 3 {
		if !w.dead[i] {
			alive = append(alive, tinyNK(i))
		}
	}
	w.left[ticks] = 1000
	w.rest(func() bool { return false })
	w.trace.Settle(alive)
	if vs := w.trace.Finish(); len(vs) > 0 || w.bad != "" {
		s.fail(path, fmt.Sprint(w.bad, vs))
	}
}

func (s *search) fail(path []act, what string) {
	w := newTiny(s.formed)
	w.log = s.t.Logf
	for _, a := range path {
		w.log("-- %v", a)
		w.do(a)
	}
	var text []string
	for _, a := range path {
		text = append(text, a.String())
	}
	s.t.Errorf("%s\nafter %s", what, strings.Join(text, " "))
}

func TestSearch_ShortHistoriesOfARing(t *testing.T) { searchAll(t, true, 250_000) }

func TestSearch_ShortHistoriesOfMeeting(t *testing.T) { searchAll(t, false, 180_000) }

// searchAll takes more and more differences, until so many steps are done.
func searchAll(t *testing.T, formed bool, limit int) {
	limit /= slower
	for differences := 1; limit > 0; differences++ {
		s := &search{t: t, formed: formed, seen: make(map[uint64]int), limit: limit}
		s.from(newTiny(formed), nil, differences)
		t.Logf("%d differences: %d steps, %d states, %d ends, the longest history has %d steps, complete %v",
			differences, s.steps, len(s.seen), s.ends, s.deepest, s.steps < s.limit)
		if t.Failed() {
			return
		}
		if differences == 2 && slower == 1 && s.steps >= s.limit {
			t.Error("two differences are too many for the bound: nothing is sure")
		}
		limit -= s.steps
	}
}
