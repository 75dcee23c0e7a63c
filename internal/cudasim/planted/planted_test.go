package planted

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	play = flag.Bool("play", false, "plant the bugs and run the checks, which takes minutes; `make cuda-mutants`")
	only = flag.String("bug", "", "play only bugs whose name has this")
	half = flag.Int("half", -1, "play only every other bug: an even or an odd number says which half")
)

const root = "../../.."

// Every bug can be planted: what it changes is there, once, and its check exists.
func TestBugsCanBePlanted(t *testing.T) {
	seen := make(map[string]bool)
	for _, b := range Bugs {
		data, err := os.ReadFile(filepath.Join(root, b.File))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(data), b.Old); n != 1 {
			t.Errorf("%s: what it changes is in %s %d times", b.Name, b.File, n)
		}
		if seen[b.Name] {
			t.Errorf("%s: there are two of that name", b.Name)
		}
		seen[b.Name] = true
		tests, err := filepath.Glob(filepath.Join(root, b.Package, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, f := range tests {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(data)
		}
		for _, name := range regexp.MustCompile(`Test\w+`).FindAllString(b.Test, -1) {
			if !strings.Contains(all.String(), "func "+name+"(") {
				t.Errorf("%s: %s has no %s", b.Name, b.Package, name)
			}
		}
	}
}

// With each bug its check fails, and it fails for the bug: the build works.
func TestPlantedBugs(t *testing.T) {
	if !*play {
		t.Skip("make cuda-mutants plays them")
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range Bugs {
		if !strings.Contains(b.Name, *only) || *half >= 0 && i%2 != *half%2 {
			continue
		}
		t.Run(b.Name, func(t *testing.T) {
			path := filepath.Join(abs, b.File)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			changed := filepath.Join(dir, filepath.Base(b.File))
			if err := os.WriteFile(changed, []byte(strings.Replace(string(data), b.Old, b.New, 1)), 0o666); err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
			if err != nil {
				t.Fatal(err)
			}
			list := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(list, overlay, 0o666); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("go", "test", "-short", "-count", "1", "-vet", "off", "-timeout", "100s", "-tags", "cuda", "-overlay", list, "-run", b.Test, b.Package)
			cmd.Dir = abs
			cmd.Env = append(os.Environ(), "DOVETAIL_CUDASIM_QUIET=1")
			out, err := cmd.CombinedOutput()
			switch {
			case err == nil:
				t.Errorf("%s passes with the bug: %s", b.Test, out)
			case !strings.Contains(string(out), "--- FAIL") && !strings.Contains(string(out), "SIGSEGV") && !strings.Contains(string(out), "panic:"):
				t.Errorf("no test fails, something else does: %s", out)
			case strings.Contains(string(out), "no tests to run"):
				t.Errorf("there is no such test: %s", out)
			default:
				line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
				t.Logf("found by %s", strings.TrimPrefix(line, "--- FAIL: "))
			}
		})
	}
}
