//go:build !mutants

package main

import "errors"

// mutate tells that these cores cannot break a rule.
func mutate(string) error { return errors.New("built without the tag mutants") }
