package watch

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestReader_WholeRecordsAsManyAsFit(t *testing.T) {
	h := NewHub()
	tell(h, alive(1, "a"))
	line := len("1 2000-01-01T00:00:00.000Z SNAP 1 a alive in\n")
	end := len("2 2000-01-01T00:00:00.000Z SNAPEND\n")

	r := h.Open(nil, 0)
	buf := make([]byte, line+end-1)
	if n, ok := r.Read(buf); n != line || !ok {
		t.Errorf("first Read = %d, %v, want one line of %d", n, ok, line)
	}
	if n, ok := r.Read(buf); n != end || !ok {
		t.Errorf("second Read = %d, %v, want one line of %d", n, ok, end)
	}
	if n, ok := r.Read(buf); n != 0 || ok {
		t.Errorf("third Read = %d, %v, want nothing", n, ok)
	}

	r = h.Open(nil, 0)
	if n, ok := r.Read(make([]byte, line+end)); n != line+end || !ok {
		t.Errorf("Read into a fitting buffer = %d, %v, want both lines of %d", n, ok, line+end)
	}
}

func TestReader_LargerRecordComesInPieces(t *testing.T) {
	h := NewHub()
	tell(h, alive(1, "a"))
	want := readAll(t, h.Open(nil, 0))
	for size := 1; size < len(want)+2; size++ {
		r := h.Open(nil, 0)
		var got strings.Builder
		buf := make([]byte, size)
		for r.Ready() {
			n, ok := r.Read(buf)
			if !ok || n == 0 {
				t.Fatalf("size %d: Ready, but Read = %d, %v", size, n, ok)
			}
			got.Write(buf[:n])
		}
		// The times differ, the lengths do not.
		if got.Len() != len(want) || strings.Join(bodies(got.String()), "|") != strings.Join(bodies(want), "|") {
			t.Errorf("size %d: got %q, want %q", size, got.String(), want)
		}
	}
}

func TestReader_EmptyBufferTakesNothing(t *testing.T) {
	h := NewHub()
	r := h.Open(nil, 0)
	if n, ok := r.Read(nil); n != 0 || !ok {
		t.Errorf("Read(nil) = %d, %v, want 0, true", n, ok)
	}
	wantBodies(t, readAll(t, r), "SNAPEND")
	if n, ok := r.Read(nil); n != 0 || ok {
		t.Errorf("Read(nil) = %d, %v, want 0, false", n, ok)
	}
}

func TestReader_FilterNeitherWakesNorCounts(t *testing.T) {
	h := NewHub()
	r := h.Open([]Kind{MemberLeft}, 2)
	woken := 0
	r.Notify(func() { woken++ })
	if r.Ready() {
		t.Error("a reader without SNAP begins with something")
	}
	for i := range uint32(10) {
		tell(h, alive(i+1, "m"+strconv.Itoa(int(i))))
	}
	if woken != 0 || r.Ready() {
		t.Errorf("woken %d times, ready %v by records that are filtered out", woken, r.Ready())
	}
	drop(h, "m3")
	drop(h, "m4")
	if woken != 2 {
		t.Errorf("woken %d times, want 2", woken)
	}
	got := readAll(t, r)
	wantBodies(t, got, "MEMBER_LEFT 4 m3", "MEMBER_LEFT 5 m4")
	if !strings.HasPrefix(got, "1 ") || !strings.Contains(got, "\n2 ") {
		t.Errorf("numbers are not those of the reader's own records:\n%s", got)
	}
}

func TestReader_OverflowIsToldAndHealed(t *testing.T) {
	h := NewHub()
	r := h.Open(nil, 4)
	for i := range uint32(10) {
		tell(h, alive(i+1, "m"+strconv.Itoa(int(i))))
	}
	want := []string{"LOST 10"}
	for i := range 10 {
		want = append(want, fmt.Sprintf("SNAP %d m%d alive in", i+1, i))
	}
	wantBodies(t, readAll(t, r), append(want, "SNAPEND")...)
	drop(h, "m0")
	wantBodies(t, readAll(t, r), "MEMBER_LEFT 1 m0")
}

func TestReader_OverflowInTheMiddleOfARecord(t *testing.T) {
	h := NewHub()
	tell(h, alive(1, "a"))
	r := h.Open(nil, 1)
	buf := make([]byte, 10)
	n, _ := r.Read(buf)
	got := string(buf[:n])
	tell(h, alive(2, "b"))
	tell(h, alive(3, "c"))
	got += readAll(t, r)
	wantBodies(t, got, "SNAP 1 a alive in", "LOST 2",
		"SNAP 1 a alive in", "SNAP 2 b alive in", "SNAP 3 c alive in", "SNAPEND")
}

func TestReader_OverflowBeforeTheLastLossIsRead(t *testing.T) {
	h := NewHub()
	r := h.Open([]Kind{MemberJoined}, 1)
	tell(h, alive(1, "a"))
	buf := make([]byte, 10)
	n, _ := r.Read(buf) // a part of the first record
	got := string(buf[:n])
	tell(h, alive(2, "b"))
	tell(h, alive(3, "c"))
	// The read ends with the rest of the record, and LOST 2 does not fit.
	rest := make([]byte, len(" 2000-01-01T00:00:00.000Z MEMBER_JOINED 1 a\n")+1-10)
	n, _ = r.Read(rest)
	got += string(rest[:n])
	r.resume()
	tell(h, alive(4, "d"))
	tell(h, alive(5, "e"))
	wantBodies(t, got+readAll(t, r), "MEMBER_JOINED 1 a", "LOST 4")
}

func TestReader_NotifyAfterEachPost(t *testing.T) {
	h := NewHub()
	r := h.Open(nil, 0)
	var lines []string
	r.Notify(func() { lines = append(lines, bodies(readAll(t, r))...) }) // no lock is held, so reading works
	tell(h, alive(1, "a"))
	tell(h, alive(1, "a"))
	drop(h, "a")
	want := "SNAPEND|MEMBER_JOINED 1 a|MEMBER_LEFT 1 a"
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestReader_CloseEndsIt(t *testing.T) {
	h := NewHub()
	r := h.Open(nil, 0)
	r.Notify(func() { t.Error("woken after Close") })
	r.Close()
	r.Close()
	tell(h, alive(1, "a"))
	if n, ok := r.Read(make([]byte, 100)); n != 0 || ok || r.Ready() {
		t.Errorf("Read after Close = %d, %v; Ready = %v", n, ok, r.Ready())
	}
	if len(h.readers) != 0 {
		t.Errorf("the hub still holds %d readers", len(h.readers))
	}
}

// replay holds what a reader knows: the members that are in.
type replay struct {
	in    map[string]string // name to id
	fresh map[string]string // of the snapshot that is being read
	seq   uint64
	lost  uint64
	kinds map[string]int
}

func (p *replay) line(line string) error {
	f := strings.Fields(line)
	seq, err := strconv.ParseUint(f[0], 10, 64)
	if err != nil || seq != p.seq+1 {
		return fmt.Errorf("number %s after %d in %q", f[0], p.seq, line)
	}
	p.seq = seq
	p.kinds[f[2]]++
	switch f[2] {
	case "SNAP":
		if p.fresh == nil {
			p.fresh = map[string]string{}
		}
		if f[6] == "in" {
			p.fresh[f[4]] = f[3]
		}
	case "SNAPEND":
		p.in, p.fresh = p.fresh, nil
		if p.in == nil {
			p.in = map[string]string{}
		}
	case "MEMBER_JOINED":
		if _, there := p.in[f[4]]; there {
			return fmt.Errorf("joined twice: %q", line)
		}
		p.in[f[4]] = f[3]
	case "MEMBER_LEFT":
		if p.in[f[4]] != f[3] {
			return fmt.Errorf("left, but was not in: %q", line)
		}
		delete(p.in, f[4])
	case "LOST":
		n, err := strconv.ParseUint(f[3], 10, 64)
		if err != nil || n == 0 {
			return fmt.Errorf("bad loss: %q", line)
		}
		p.lost += n
		p.fresh = nil // a snapshot that was not read to its end begins anew
	default:
		return fmt.Errorf("unknown kind: %q", line)
	}
	return nil
}

// TestHub_ReplayEqualsTable lets readers of different speed and buffer size
// follow random changes, and compares what each has replayed with the table.
func TestHub_ReplayEqualsTable(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { replayOnce(t, seed) })
	}
}

func replayOnce(t *testing.T, seed uint64) {
	h := NewHub()
	var posted atomic.Uint64
	count := h.Open([]Kind{MemberJoined, MemberLeft}, 1<<20)
	defer count.Close()
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range 8 {
		wg.Add(1)
		r := h.Open(nil, 8+i*40)
		wake := make(chan struct{}, 1)
		r.Notify(func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		go func() {
			defer wg.Done()
			defer r.Close()
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			p := &replay{in: map[string]string{}, kinds: map[string]int{}}
			var part string
			last := false
			for {
				n, ok := 0, false
				buf := make([]byte, 1+rnd.IntN(400))
				if n, ok = r.Read(buf); !ok {
					if last {
						break
					}
					select {
					case <-wake:
					case <-done:
						last = true
					}
					continue
				}
				part += string(buf[:n])
				for {
					line, rest, whole := strings.Cut(part, "\n")
					if !whole {
						break
					}
					part = rest
					if err := p.line(line); err != nil {
						t.Errorf("reader %d: %v", i, err)
						return
					}
				}
				if i%2 == 1 && rnd.IntN(3) == 0 { // a slow one
					select {
					case <-wake:
					case <-done:
					}
				}
			}
			want := map[string]string{}
			for _, m := range h.Members() {
				if takesPart(m) {
					want[m.Name] = id(m)
				}
			}
			if fmt.Sprint(p.in) != fmt.Sprint(want) || part != "" {
				t.Errorf("reader %d replayed %v, rest %q, want %v", i, p.in, part, want)
			}
			told := uint64(p.kinds["MEMBER_JOINED"]+p.kinds["MEMBER_LEFT"]) + p.lost
			if told != posted.Load() {
				t.Errorf("reader %d: %d records read and lost, %d posted", i, told, posted.Load())
			}
		}()
	}
	rnd := rand.New(rand.NewPCG(seed, 99))
	states := []string{"alive", "alive", "alive", "leaving", "left", "failed"}
	for range 2000 {
		n := rnd.IntN(12)
		name := fmt.Sprintf("m%d", n)
		if rnd.IntN(8) == 0 {
			drop(h, name)
			continue
		}
		tell(h, Member{ID: uint32(n + 1), Name: name,
			State: states[rnd.IntN(len(states))], Boot: uint64(rnd.IntN(2))})
	}
	posted.Store(uint64(len(bodies(readAll(t, count)))))
	close(done)
	wg.Wait()
}
