package rivals

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every rival has a script and pinned requirements.
func TestRivals(t *testing.T) {
	pinned := regexp.MustCompile(`^[a-z-]+(\[[a-z,]+\])?==[0-9][0-9a-z.]*$`)
	for _, r := range slices.Concat(Dedup(), Shuffle(256)) {
		if _, err := scripts.ReadFile("scripts/" + r.Script); err != nil {
			t.Error(err)
		}
		data, err := os.ReadFile("requirements/" + r.Env + ".txt")
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(data)) {
			if !pinned.MatchString(strings.TrimSpace(line)) {
				t.Errorf("%s: %q is not pinned", r.Env, line)
			}
		}
		if r.Differs == "" || strings.Contains(r.Name, " ") {
			t.Errorf("%+v", r)
		}
	}
}

func TestCommand(t *testing.T) {
	dir, scratch := t.TempDir(), t.TempDir()
	r := Dedup()[0]
	if _, err := r.Command(dir, scratch, "in", "out"); !errors.Is(err, ErrMissing) {
		t.Errorf("error %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, r.Env+".log"), []byte("first\nno such version\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Command(dir, scratch, "in", "out"); err == nil || !strings.HasSuffix(err.Error(), ": no such version") {
		t.Errorf("error %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, r.Env), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, r.Env, "done"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	c, err := r.Command(dir, scratch, "in", "out")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.Args[1]); err != nil {
		t.Error(err)
	}
	if !filepath.IsAbs(c.Args[0]) || c.Args[2] != "in" || c.Args[3] != "out" {
		t.Errorf("%q", c.Args)
	}
}
