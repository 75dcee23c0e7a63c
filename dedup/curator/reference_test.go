package curator

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// caseParams are the parameters of a run as reference.py calls them.
type caseParams struct {
	Input            string `json:"input,omitempty"`
	Cache            string `json:"cache,omitempty"`
	TextField        string `json:"text_field"`
	Seed             uint64 `json:"seed"`
	CharNgrams       int    `json:"char_ngrams"`
	NumBands         int    `json:"num_bands"`
	MinhashesPerBand int    `json:"minhashes_per_band"`
	Use64BitHash     bool   `json:"use_64bit_hash"`
	TotalNparts      int    `json:"total_nparts"`
	PerIteration     int    `json:"bands_per_iteration"`
	ComponentsFiles  int    `json:"components_files"`
	ExactNparts      int    `json:"exact_nparts"`
	InputBlocksize   int    `json:"input_blocksize"` // bytes, 0 for one file each
}

// workflows runs both workflows over p.Input into dir/cache and dir/out.
func (p *caseParams) workflows(t testing.TB, dir string, e Exec) (*FuzzyResult, *ExactResult) {
	t.Helper()
	in := InputOptions{Inputs: []string{p.Input}, TextField: p.TextField}
	if p.InputBlocksize > 0 {
		in.InputBlocksize = fmt.Sprint(p.InputBlocksize)
	}
	f := FuzzyOptions{
		Exec: e, InputOptions: in, Cache: filepath.Join(dir, "cache"), Output: filepath.Join(dir, "out"), Seed: p.Seed,
		CharNgrams: p.CharNgrams, NumBands: p.NumBands, MinhashesPerBand: p.MinhashesPerBand, Use64BitHash: p.Use64BitHash,
		BandsPerIteration: p.PerIteration, LSHNumOutputPartitions: p.TotalNparts, ComponentsFiles: p.ComponentsFiles,
	}
	fuzzy, err := Fuzzy(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	exact, err := Exact(t.Context(), ExactOptions{Exec: e, InputOptions: in, Output: f.Output, TotalNparts: p.ExactNparts})
	if err != nil {
		t.Fatal(err)
	}
	return fuzzy, exact
}

// What testdata/reference.py made of a small corpus, checked without Python.
func TestGolden(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Corpus map[string][]*string `json:"corpus"`
		Cases  []struct {
			Params caseParams                              `json:"params"`
			Tables map[string]map[string][]json.RawMessage `json:"tables"`
		} `json:"cases"`
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	for i, c := range golden.Cases {
		in := filepath.Join(t.TempDir(), "in")
		for name, texts := range golden.Corpus {
			// as Python writes it, because sizes decide groups
			var b strings.Builder
			for _, s := range texts {
				q, err := json.Marshal(s)
				if err != nil {
					t.Fatal(err)
				}
				b.WriteString(`{"text": ` + asciiJSON(string(q)) + "}\n")
			}
			writeFile(t, filepath.Join(in, name), []byte(b.String()))
		}
		c.Params.Input = in
		dir := t.TempDir()
		c.Params.workflows(t, dir, Exec{Workers: 2})
		got := make(map[string]map[string][]string)
		for _, sub := range []string{"cache", "out"} {
			for path := range files(t, filepath.Join(dir, sub)) {
				if filepath.Ext(path) != ".parquet" {
					continue
				}
				rel, err := filepath.Rel(filepath.Join(dir, sub), path)
				if err != nil {
					t.Fatal(err)
				}
				got[rel] = readTable(t, path)
			}
		}
		for name, columns := range c.Tables {
			file := name
			switch stage, rest, _ := strings.Cut(name, "/"); stage {
			case MinHashDir: // named by its input files
				var paths []string
				for p := range strings.SplitSeq(rest, ",") {
					paths = append(paths, filepath.Join(in, p))
				}
				file = MinHashDir + "/0_" + fileGroupID(paths) + ".parquet"
			case ComponentsDir: // named by the file of edges
				file = name + "_" + fileGroupID([]string{filepath.Join(dir, "cache", EdgesDir, rest+".parquet")}) + ".parquet"
			}
			table, ok := got[file]
			if !ok {
				t.Errorf("case %d: %s is missing as %s", i, name, file)
				continue
			}
			delete(got, file)
			if len(table) != len(columns) {
				t.Errorf("case %d: %s has columns %v", i, name, slices.Sorted(maps.Keys(table)))
			}
			for column, values := range columns {
				want := []string{}
				for _, v := range values {
					want = append(want, plain(string(v)))
				}
				if !slices.Equal(table[column], want) {
					t.Errorf("case %d: %s, column %s:\n%v, want\n%v", i, name, column, table[column], want)
				}
			}
		}
		for name := range got {
			t.Errorf("case %d: %s should not be there", i, name)
		}
	}
}

// plain turns JSON into what readTable says.
func plain(v string) string {
	if v == "null" {
		return "<nil>"
	}
	return strings.ReplaceAll(strings.Trim(v, `"`), ",", " ")
}

// asciiJSON escapes what is not ASCII, as Python's json does.
func asciiJSON(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			r -= 0x10000
			fmt.Fprintf(&b, "\\u%04x\\u%04x", 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return b.String()
}

// TestPythonReference compares every file of both workflows over random corpora with those of testdata/reference.py, if
// DOVETAIL_PYTHON names a Python that has numpy and pyarrow.
func TestPythonReference(t *testing.T) {
	python := os.Getenv("DOVETAIL_PYTHON")
	if python == "" {
		t.Skip("DOVETAIL_PYTHON is not set")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	type job struct {
		Config    caseParams `json:"config"`
		Ours      string     `json:"ours"`
		Reference string     `json:"reference"`
	}
	var jobs []job
	for i := range 8 {
		format := []string{"jsonl", "parquet"}[i%2]
		p := caseParams{
			Input:     corpusFolder(t, rng, 150+rng.IntN(350), 1+rng.IntN(9), format, i < 2),
			TextField: "text", Seed: uint64(rng.Uint32()), CharNgrams: []int{24, 5, 2, 13}[rng.IntN(4)],
			NumBands: 1 + rng.IntN(12), MinhashesPerBand: 1 + rng.IntN(13), Use64BitHash: i/2%2 == 1,
			TotalNparts: rng.IntN(9), ComponentsFiles: 1 + rng.IntN(4), ExactNparts: rng.IntN(6),
			InputBlocksize: []int{0, 1, 5000, 50_000, 1 << 30}[rng.IntN(5)],
		}
		p.PerIteration = 1 + rng.IntN(p.NumBands)
		if i == 0 {
			p.Seed, p.CharNgrams, p.NumBands, p.MinhashesPerBand, p.PerIteration = 42, 24, 20, 13, 5
		}
		dir := t.TempDir()
		p.Cache = filepath.Join(dir, "cache")
		p.workflows(t, dir, Exec{Workers: 2, Ranks: 1 + rng.IntN(3), SplitBytes: 1 + rng.Int64N(1<<16), onDisk: rng.IntN(2) == 0})
		jobs = append(jobs, job{p, dir, filepath.Join(t.TempDir(), "reference")})
	}
	list, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "jobs.json")
	writeFile(t, file, list)
	out, err := exec.Command(python, "testdata/reference.py", "check", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	// Signatures that pyarrow wrote do as well as ours.
	for _, j := range jobs[:4] {
		o, p := DefaultLSHOptions(), j.Config
		o.Inputs, o.Output, o.TotalNparts = []string{filepath.Join(j.Reference, "cache", MinHashDir)}, t.TempDir(), p.TotalNparts
		o.NumBands, o.MinhashesPerBand, o.BandsPerIteration = p.NumBands, p.MinhashesPerBand, p.PerIteration
		if _, err := LSH(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		ours := files(t, filepath.Join(j.Ours, "cache", LSHDir))
		for path, data := range files(t, filepath.Join(o.Output, LSHDir)) {
			if rel, err := filepath.Rel(o.Output, path); err != nil || ours[filepath.Join(j.Ours, "cache", rel)] != data {
				t.Errorf("%s differs from what was made of our own signatures (%v)", rel, err)
			}
		}
	}
}
