package lsh

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
)

// PathVariable is the environment variable that chooses the path, a set of instructions that signatures are computed
// with, of a process that does not call [UsePath]. An empty one is "auto". All paths give the same bits, at different
// speeds.
const PathVariable = "DOVETAIL_CPU"

// paths are the names of all, wherever they are available.
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

// UsePath makes every [CPU] that [NewCPU] makes from now on in this process take a path, whatever the environment says;
// "auto" is the best one, and "" leaves it to the environment again. The error says which paths there are. It may be
// called at any time.
func UsePath(name string) error {
	if name == "" {
		chosenLoops.Store(nil)
		return nil
	}
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
		return nil, fmt.Errorf("%w (environment variable %s)", err, PathVariable)
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
	if slices.Contains(paths, name) {
		return nil, fmt.Errorf("lsh: CPU path %q is not in this build or not for this processor: choose one of %s", name, here)
	}
	return nil, fmt.Errorf("lsh: there is no CPU path %q: choose one of %s", name, here)
}
