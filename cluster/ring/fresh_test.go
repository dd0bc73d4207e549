package ring

import "testing"

// Numbers of nodes that have lost their disks are apart from each other, and so
// near that everybody believes them.
func TestFresh_NumbersAreApartAndPlausible(t *testing.T) {
	r := rnd(1)
	seen := make(map[uint64]bool)
	for range 1000 {
		seen[Fresh(r())] = true
	}
	if len(seen) < 999 {
		t.Errorf("got %d different numbers of 1000", len(seen))
	}
	if top := Fresh(^uint64(0)); top == 0 || top+maxSeqStep/4 > maxSeqStep {
		t.Errorf("the highest number is %d: others at 0 would not believe what comes after it", top)
	}
}
