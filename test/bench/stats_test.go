package main

import (
	"math"
	"testing"
)

func TestMedian_IsTheMiddleWhateverTheOrder(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{1000, 2, 3, 1, 2}, 2},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v): got %v, want %v", c.values, got, c.want)
		}
	}
}

func TestMedian_LeavesTheRoundsInTheirOrder(t *testing.T) {
	v := []float64{3, 1, 2}
	median(v)
	if v[0] != 3 || v[1] != 1 || v[2] != 2 {
		t.Errorf("got %v, want 3 1 2: ratio needs to know which round a value belongs to", v)
	}
}

// A machine that is twice as slow in one round is so for both.
func TestRatio_ComparesWithinARound(t *testing.T) {
	mid, low, high := ratio([]float64{50, 10, 80}, []float64{100, 20, 100})
	if math.Abs(mid-0.5) > 1e-9 || math.Abs(low-0.5) > 1e-9 || math.Abs(high-0.8) > 1e-9 {
		t.Errorf("got %v %v %v, want 0.5 0.5 0.8", mid, low, high)
	}
}

func TestRatio_OfUnequalRoundsIsNone(t *testing.T) {
	if mid, _, _ := ratio([]float64{1, 2}, []float64{1}); mid != 0 {
		t.Errorf("got %v, want 0", mid)
	}
}
