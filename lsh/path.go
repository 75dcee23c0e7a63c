package lsh

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// PathVariable is the environment variable that chooses the path of a process that does not call [UsePath]. An empty
// one is "auto".
const PathVariable = "DOVETAIL_CPU"

// A path is a set of instructions that signatures are computed with. All give the same bits, at different speeds.
var paths = []string{"avx512", "avx2", "generic"}

// chosenLoops are those of UsePath, nil before.
var chosenLoops atomic.Pointer[loops]

// Paths returns the names of the paths that this build can take on this processor, the best first. The last is
// always "generic", plain Go.
func Paths() []string {
	var names []string
	for _, l := range availableLoops() {
		names = append(names, l.name)
	}
	return names
}

// UsePath makes every [CPU] and [Windows] that this process makes from now on take a path; "auto" is the best. It
// overrides the environment. The error says which paths there are.
func UsePath(name string) error {
	l, err := findLoops(name)
	if err != nil {
		return err
	}
	chosenLoops.Store(l)
	return nil
}

// Path returns the name of the path that a [CPU] made now takes. The error is one about [PathVariable].
func Path() (string, error) {
	l, err := currentLoops()
	if err != nil {
		return "", err
	}
	return l.name, nil
}

func currentLoops() (*loops, error) {
	if l := chosenLoops.Load(); l != nil {
		return l, nil
	}
	l, err := findLoops(os.Getenv(PathVariable))
	if err != nil {
		return nil, fmt.Errorf("environment variable %s: %w", PathVariable, err)
	}
	return l, nil
}

func findLoops(name string) (*loops, error) {
	available := availableLoops()
	if name == "" || name == "auto" {
		return available[0], nil
	}
	for _, l := range available {
		if l.name == name {
			return l, nil
		}
	}
	here := strings.Join(append([]string{"auto"}, Paths()...), ", ")
	for _, p := range paths {
		if p == name {
			return nil, fmt.Errorf("lsh: this build or processor has no %s: choose one of %s", name, here)
		}
	}
	return nil, fmt.Errorf("lsh: %q is no processor path: choose one of %s", name, here)
}
