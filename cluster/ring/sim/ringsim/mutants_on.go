//go:build mutants

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// mutate has all cores break a rule.
func mutate(name string) error {
	if !slices.Contains(ring.Mutants, name) {
		return fmt.Errorf("the mutants are:\n%s", strings.Join(ring.Mutants, "\n"))
	}
	ring.Mutant = name
	return nil
}
