package ring

// assert stops the program when something is not so that no input can bring
// about: going on could give two nodes two histories.
func assert(ok bool, what string) {
	if !ok {
		panic("ring: " + what)
	}
}
