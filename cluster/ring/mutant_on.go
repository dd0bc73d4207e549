//go:build mutants

package ring

// Mutant names the mistake that all cores make, one of Mutants; none if empty.
// It is not to be changed while cores run.
var Mutant string

func mutated(name string) bool { return name == Mutant }
