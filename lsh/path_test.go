package lsh

import (
	"slices"
	"strings"
	"testing"
)

func TestPaths(t *testing.T) {
	available := Paths()
	if available[len(available)-1] != "generic" {
		t.Errorf("paths are %v: plain Go is not the last resort", available)
	}
	t.Cleanup(func() {
		if err := UsePath(""); err != nil {
			t.Error(err)
		}
	})
	path := func() string {
		t.Helper()
		c, err := NewCPU(DefaultParams())
		if err != nil {
			t.Fatal(err)
		}
		p, err := Path()
		if err != nil || p != c.Path() {
			t.Errorf("Path says %q, %v, and a CPU takes %q", p, err, c.Path())
		}
		return p
	}
	for _, name := range []string{"", "auto"} {
		if t.Setenv(PathVariable, name); path() != available[0] {
			t.Errorf("%s=%q chooses %s, not the best of %v", PathVariable, name, path(), available)
		}
	}
	for _, name := range available {
		if t.Setenv(PathVariable, name); path() != name {
			t.Errorf("%s=%s chooses %s", PathVariable, name, path())
		}
		if c, err := NewCPUPath(DefaultParams(), name); err != nil || c.Path() != name {
			t.Errorf("NewCPUPath(%q) returns %v, %v", name, c, err)
		}
	}
	if err := UsePath("generic"); err != nil || path() != "generic" {
		t.Errorf("UsePath does not override %s: %v", PathVariable, err)
	}
	if err := UsePath("sse9"); err == nil || path() != "generic" {
		t.Errorf("UsePath of a path that does not exist: %v", err)
	}
	if err := UsePath(""); err != nil || path() != available[len(available)-1] {
		t.Errorf("UsePath of nothing does not go back to %s: %v", PathVariable, err)
	}
	t.Setenv(PathVariable, "sse9")
	_, err := NewCPU(DefaultParams())
	if err == nil || !strings.Contains(err.Error(), `"sse9"`) || !strings.Contains(err.Error(), PathVariable) ||
		!strings.Contains(err.Error(), strings.Join(append([]string{"auto"}, available...), ", ")) {
		t.Errorf("error %v", err)
	}
	for _, name := range paths {
		if _, err := findLoops(name); (err == nil) != slices.Contains(available, name) {
			t.Errorf("%s of %v: %v", name, available, err)
		}
	}
}
