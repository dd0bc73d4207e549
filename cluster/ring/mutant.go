//go:build !mutants

package ring

// mutated tells whether the core is to make the mistake of that name. Outside
// of the mutation gate it never is, and the compiler drops the mistakes.
func mutated(string) bool { return false }
