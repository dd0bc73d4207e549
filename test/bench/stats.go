package main

import "slices"

// median is the middle of the values, or the mean of the two in the middle; 0 of none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	return (v[(n-1)/2] + v[n/2]) / 2
}

// ratio divides round by round, since two measurements a second apart have more in common than two medians, and
// returns the median, the least and the greatest quotient. Both must have a value of each round.
func ratio(a, b []float64) (mid, low, high float64) {
	if len(a) == 0 || len(a) != len(b) {
		return 0, 0, 0
	}
	q := make([]float64, len(a))
	for i := range q {
		q[i] = a[i] / b[i]
	}
	return median(q), slices.Min(q), slices.Max(q)
}
