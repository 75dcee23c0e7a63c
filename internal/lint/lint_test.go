// Package lint checks, as Go tests, rules of this repository that no other tool knows.
package lint

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/dovetail-dedup/dovetail"

// mayImport is the import table of the design: which packages of the project a package may import, directly or not.
// Keys and values are prefixes of paths below the module; a value with = stands for that package alone. Leaves of
// internal/ are allowed everywhere.
var mayImport = map[string][]string{
	"mem":          {},
	"lsh":          {"mem"},
	"shuffle":      {"mem"},
	"shuffle/tcp":  {"mem", "=shuffle", "internal/link"},
	"executor":     {"mem", "shuffle", "internal/link"},
	"dedup/corpus": {"mem"},
	"dedup/report": {"lsh", "mem"},
	"dedup":        {"lsh", "shuffle", "executor", "mem", "internal/link"},
	"bench":        {"mem", "lsh", "shuffle", "executor", "dedup", "internal/link", "ucx"},
	"cuda":         {"mem", "lsh", "shuffle"},
	"ucx":          {"mem", "=shuffle", "internal/link"},
	// What transports over a network share.
	"internal/link": {"mem", "=shuffle"},
	// What a launcher says is for mains, and for nobody below them.
	"internal/bootstrap": {},
	// It brings together what must not know of each other: devices and the executor, transports and the shuffle.
	"internal/engine": {"mem", "lsh", "shuffle", "executor", "cuda", "ucx", "internal/link"},
}

// onlyImporter are modules that one package and what is below it may import, with any build tags and in tests too.
var onlyImporter = map[string]string{"github.com/NVIDIA/go-nvml": "cuda", "gorgonia.org/cu": "cuda"}

// tags are those with which the rules hold as well.
const tags = "cuda,pmix,ucx"

// mustNotImport are packages that would be allowed by the table and are not: the core never knows what is compatible with
// what, and what is compatible stands on parts of the core, not on the whole.
var mustNotImport = map[string]string{"dedup": "dedup/curator", "dedup/curator": "dedup"}

// leaves of internal/ import nothing of the project and may be imported by all.
var leaves = []string{"internal/invariants", "internal/colfile", "internal/buildtags", "internal/lockfile", "internal/jobtls", "internal/rowloops", "internal/porch", "internal/locality"}

type listed struct {
	ImportPath   string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	CgoFiles     []string
	GoFiles      []string
}

// list returns the packages of a build with tags, which may be empty.
func list(t *testing.T, tags string) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-tags", tags,
		"-json=ImportPath,Dir,Imports,TestImports,XTestImports,Deps,CgoFiles,GoFiles", module+"/...").Output()
	if err != nil {
		var e *exec.ExitError
		if errors.As(err, &e) {
			t.Fatalf("go list: %s", e.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func below(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, module), "/") }

func hasPrefix(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func TestImportTable(t *testing.T) {
	for _, p := range list(t, tags) {
		name := below(p.ImportPath)
		var row string // the longest prefix in the table
		for k := range mayImport {
			if hasPrefix(name, k) && len(k) > len(row) {
				row = k
			}
		}
		if row == "" {
			continue
		}
		for _, dep := range p.Deps {
			d := below(dep)
			if d != dep && d == mustNotImport[name] {
				t.Errorf("%s imports %s", name, d)
			}
			if d == dep || hasPrefix(d, row) {
				continue // not of the project, or its own
			}
			ok := func(prefix string) bool {
				exact, alone := strings.CutPrefix(prefix, "=")
				return alone && d == exact || hasPrefix(d, prefix)
			}
			if !slices.ContainsFunc(mayImport[row], ok) && !slices.Contains(leaves, d) {
				t.Errorf("%s imports %s; %s may import only %v", name, d, row, mayImport[row])
			}
		}
	}
}

// Foreign libraries have one importer each, and the core none of them even with its build tag.
func TestOnlyImporter(t *testing.T) {
	found := 0
	for _, p := range list(t, tags) {
		for _, d := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for mod, owner := range onlyImporter {
				if !hasPrefix(d, mod) {
					continue
				}
				if found++; !hasPrefix(below(p.ImportPath), owner) {
					t.Errorf("%s imports %s; only %s may", below(p.ImportPath), d, owner)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no import was found, so nothing was checked")
	}
}

func TestLeavesImportNothing(t *testing.T) {
	for _, p := range list(t, "") {
		if !slices.Contains(leaves, below(p.ImportPath)) {
			continue
		}
		for _, d := range p.Deps {
			if strings.HasPrefix(d, module) {
				t.Errorf("%s is a leaf and imports %s", below(p.ImportPath), below(d))
			}
		}
	}
}

// Without build tags nothing needs a C compiler.
func TestNoCgo(t *testing.T) {
	for _, p := range list(t, "") {
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s has cgo files in a build without tags: %v", below(p.ImportPath), p.CgoFiles)
		}
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range list(t, tags) {
		fset := token.NewFileSet()
		var files []*ast.File
		for _, f := range p.GoFiles {
			parsed, err := parser.ParseFile(fset, filepath.Join(p.Dir, f), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, parsed)
		}
		if len(files) == 0 {
			continue // tests only
		}
		d, err := doc.NewFromFiles(fset, files, p.ImportPath)
		if err != nil {
			t.Fatal(err)
		}
		name := below(p.ImportPath)
		if !strings.HasPrefix(d.Doc, "Package "+d.Name+" ") && !strings.HasPrefix(d.Doc, "Command ") {
			t.Errorf("%s: its doc should begin with \"Package %s\"", name, d.Name)
		}
		for _, missing := range undocumented(d) {
			t.Errorf("%s: exported %s has no doc", name, missing)
		}
	}
}

// undocumented lists exported names without a comment. Names that only fulfil an interface of the standard
// library need none.
func undocumented(d *doc.Package) []string {
	var out []string
	check := func(name, text string) {
		if ast.IsExported(name) && strings.TrimSpace(text) == "" {
			out = append(out, name)
		}
	}
	known := []string{"String", "Error", "Unwrap", "Is", "MarshalJSON", "UnmarshalJSON"}
	for _, f := range d.Funcs {
		check(f.Name, f.Doc)
	}
	for _, t := range d.Types {
		check(t.Name, t.Doc)
		for _, f := range append(t.Funcs, t.Methods...) {
			if !slices.Contains(known, f.Name) {
				check(f.Name, f.Doc)
			}
		}
	}
	return out
}

// inPackages are files of packages that other programs run inside of themselves: not commands, not test suites.
var inPackages = regexp.MustCompile(`^(mem|lsh|shuffle|executor|dedup|cuda|ucx|internal)/`)

// exempt are commands and test suites below those folders.
var exempt = regexp.MustCompile(`^internal/(soak|simulate)/|^[a-z/]*test/`)

var forbidden = []struct {
	re   *regexp.Regexp
	only *regexp.Regexp // files it is about; nil for all
	why  string
}{
	{regexp.MustCompile(`\bos\.Exit\(`), inPackages, "a package must not end the process"},
	{regexp.MustCompile(`\bpanic\("(TODO|todo|not implemented|unimplemented)`), nil, "unfinished"},
	{regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`), nil, "unfinished; write it down in docs instead"},
	{regexp.MustCompile(`\btime\.Sleep\(`), inPackages, "wait for an event instead"},
}

const root = "../.."

// notSources are folders that hold what commands made.
var notSources = []string{"bin", "run", "testdata"}

// goFiles returns the Go files under version control, or about to be.
func goFiles(t *testing.T) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); path != root && (strings.HasPrefix(n, ".") || slices.Contains(notSources, n)) {
				return filepath.SkipDir
			}
		} else if strings.HasSuffix(path, ".go") {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// eachSource calls f for every line of every Go file that is not a test.
func eachSource(t *testing.T, f func(path string, n int, line string)) {
	t.Helper()
	for _, path := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(data), "\n") {
			f(filepath.ToSlash(rel), i+1, line)
		}
	}
}

func TestForbidden(t *testing.T) {
	eachSource(t, func(path string, n int, line string) {
		for _, r := range forbidden {
			if (r.only == nil || r.only.MatchString(path) && !exempt.MatchString(path)) && r.re.MatchString(line) {
				t.Errorf("%s:%d: %s: %s", path, n, strings.TrimSpace(line), r.why)
			}
		}
	})
}

// Files hold one idea each.
func TestFileLength(t *testing.T) {
	const most = 700
	lines := make(map[string]int)
	eachSource(t, func(path string, n int, _ string) { lines[path] = n })
	for path, n := range lines {
		if n > most {
			t.Errorf("%s has %d lines, more than %d: split it", path, n, most)
		}
	}
}

func TestFormatted(t *testing.T) {
	out, err := exec.Command("gofmt", append([]string{"-l"}, goFiles(t)...)...).CombinedOutput()
	if err != nil {
		t.Fatal(fmt.Errorf("%w: %s", err, out))
	}
	if len(out) > 0 {
		t.Errorf("run gofmt -w on\n%s", out)
	}
}

// Every feature that docs/parity.md says is kept or bettered names tests, and they exist.
func TestParity(t *testing.T) {
	data, err := os.ReadFile("../../docs/parity.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z/]+)\\.(Test\\w+)`")
	sources := make(map[string]string) // of tests, by folder
	exists := func(dir, test string) bool {
		if _, ok := sources[dir]; !ok {
			files, err := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				text, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				sources[dir] += string(text)
			}
		}
		return strings.Contains(sources[dir], "\nfunc "+test+"(")
	}
	rows := 0
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, ""), "|")
		if len(cells) != 7 || strings.Trim(cells[1], " 0123456789") != "" {
			continue
		}
		rows++
		tests := named.FindAllStringSubmatch(cells[5], -1)
		switch verdict := strings.TrimSpace(cells[3]); {
		case (verdict == "declined" || verdict == "open") && strings.TrimSpace(cells[4]) == "":
			t.Errorf("row%sis %s without a reason", cells[1], verdict)
		case verdict == "open":
		case verdict != "declined" && verdict != "kept" && verdict != "bettered":
			t.Errorf("row%sis %q", cells[1], verdict)
		case verdict != "declined" && len(tests) == 0:
			t.Errorf("row%sis %s and names no test", cells[1], verdict)
		}
		for _, m := range tests {
			if !exists(m[1], m[2]) {
				t.Errorf("row%snames %s.%s, which does not exist", cells[1], m[1], m[2])
			}
		}
	}
	if rows < 97 {
		t.Errorf("only %d rows were found", rows)
	}
}
