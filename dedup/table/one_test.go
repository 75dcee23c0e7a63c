package table

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dovetail-dedup/dovetail/dedup/internal/crashtest"
)

// TestMain runs one shuffle instead of the tests when a test started this binary for that.
func TestMain(m *testing.M) {
	os.Exit(crashtest.Main(m, func(j childJob) error {
		_, err := Run(context.Background(), Options{Spec: j.Spec, Exec: j.Exec, Inputs: j.Inputs, Output: j.Output})
		return err
	}))
}

// childJob is what a child process runs.
type childJob struct {
	Spec   Spec
	Exec   Exec
	Inputs []string
	Output string
}

// hashFiles hashes all part files of a result.
func hashFiles(t testing.TB, dir string, parts int) string {
	t.Helper()
	h := sha256.New()
	for p := range parts {
		data, err := os.ReadFile(filepath.Join(dir, partName(p)))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(h, p, len(data))
		h.Write(data)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// The bytes of all files are the same for all ranks, workers, memory limits, splits and batches.
func TestOneResult(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 1))
	dir, _ := corpusOf(t, rng, 5, 500)
	for name, edit := range map[string]func(*Spec){
		"hash": func(*Spec) {}, "hash sorted": func(s *Spec) { s.Sort = true; s.Compression = "zstd" }, "range": func(s *Spec) { s.Partition = Range },
		"range sorted": func(s *Spec) { s.Partition, s.Sort, s.RowGroupRows = Range, true, 50 },
	} {
		s := smallSpec("c9", "c20")
		edit(&s)
		want, digest := "", ""
		for _, e := range []Exec{
			{Workers: 1, SplitBytes: 1 << 30},
			{Ranks: 3, Workers: 3, SplitBytes: 10 << 10, BatchBytes: 2 << 10, SortBytes: 2 << 10},
			{Workers: 2, SplitBytes: 50 << 10, MemoryLimit: 128 << 20, SortBytes: 20 << 10},
		} {
			res, out := runTable(t, Options{Spec: s, Inputs: []string{dir}, Exec: e})
			got := hashFiles(t, out, s.TotalParts)
			if want == "" {
				want, digest = got, res.Digest
			}
			if got != want || res.Digest != digest {
				t.Errorf("%s: %+v: files %.8s, want %.8s; digest %s, want %s", name, e, got, want, res.Digest, digest)
			}
		}
	}
}

// A table several times larger than the shuffle's memory goes through disk, within the limit, to the same files.
func TestSpill(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	schema := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	dir := t.TempDir()
	b := makeBatch(rng, schema, 40_000, 0)
	for i := range 18 {
		writeTable(t, filepath.Join(dir, fmt.Sprintf("%02d.parquet", i)), b, 10_000)
	}
	s := smallSpec("k")
	s.TotalParts, s.RowGroupBytes = 60, 64<<10
	_, out := runTable(t, Options{Spec: s, Inputs: []string{dir}})
	want := hashFiles(t, out, s.TotalParts)
	e := Exec{Workers: 1, MemoryLimit: baseMemory + 2*minShare}
	res, out := runTable(t, Options{Spec: s, Inputs: []string{dir}, Exec: e})
	if got := hashFiles(t, out, s.TotalParts); got != want {
		t.Error("other files")
	}
	if res.Ledger.SpilledBytes == 0 || res.BudgetPeak > e.plan().budget {
		t.Errorf("%d of %d bytes were spilled, at most %d in memory", res.Ledger.SpilledBytes, res.Ledger.ShuffledBytes, res.BudgetPeak)
	}
}

// Runs that are killed and started again, with other ranks and workers, make the files of one that was not.
func TestKilledAndResumed(t *testing.T) {
	kills := 40
	if testing.Short() {
		kills = 6
	}
	rng := rand.New(rand.NewPCG(6, 1))
	dir, _ := corpusOf(t, rng, 4, 400)
	s := smallSpec("c9")
	s.Partition, s.Sort, s.TotalParts = Range, true, 40
	_, out := runTable(t, Options{Spec: s, Inputs: []string{dir}})
	want := hashFiles(t, out, s.TotalParts)
	k := crashtest.Killer{Rng: rng, Kills: kills, Tries: 6}
	reused := int64(0)
	for k.More() {
		out := filepath.Join(t.TempDir(), "out")
		k.After = func() {
			// A run may be killed after its result is in place; what is there is then complete.
			if _, err := os.Stat(out); err == nil {
				if got := hashFiles(t, out, s.TotalParts); got != want {
					t.Fatal("a run that was killed left an output that is not complete")
				}
			}
		}
		k.Finish(t, func() any {
			return childJob{Spec: s, Inputs: []string{dir}, Output: out,
				Exec: Exec{Ranks: 1 + rng.IntN(3), Workers: 1 + rng.IntN(3), SplitBytes: 30 << 10, SortBytes: 4 << 10}}
		})
		if got := hashFiles(t, out, s.TotalParts); got != want {
			t.Fatal("other files after kills")
		}
		if left := must(os.ReadDir(filepath.Dir(out))); len(left) != 1 {
			t.Errorf("left: %v", left)
		}
		reused += must(ReadResult(out)).TasksReused
	}
	if reused == 0 {
		t.Error("no task was reused: nothing was resumed")
	}
}

func TestRefusals(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 1))
	field := func(name string, dt arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: dt, Nullable: true}
	}
	table := func(fields ...arrow.Field) string {
		path := filepath.Join(t.TempDir(), "in", "x.parquet")
		writeTable(t, path, makeBatch(rng, arrow.NewSchema(fields, nil), 10, 0), 100)
		return path
	}
	i64, str := arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String
	good := table(field("a", i64), field("b", str))
	full := t.TempDir()
	must(0, os.WriteFile(filepath.Join(full, "precious"), nil, 0o666))
	broken := filepath.Join(t.TempDir(), "broken.parquet")
	must(0, os.WriteFile(broken, []byte("PAR1 nothing PAR1"), 0o666))
	for _, tc := range []struct {
		name   string
		on     string
		inputs []string
		output string
		edit   func(*Options)
		says   []string
		is     error
	}{
		{name: "type", on: "a", inputs: []string{good, table(field("a", i64), field("b", i64))}, says: []string{"x.parquet", `"b"`, "int64", "utf8"}},
		{name: "missing", on: "a", inputs: []string{good, table(field("a", i64))}, says: []string{"x.parquet", "lacks", `"b"`}},
		{name: "more", on: "a", inputs: []string{good, table(field("a", i64), field("b", str), field("c", str))}, says: []string{"x.parquet", "has a column", `"c"`}},
		{name: "order", on: "a", inputs: []string{good, table(field("b", str), field("a", i64))}, says: []string{"x.parquet", "column 1", "same order"}},
		{name: "no key", on: "z", inputs: []string{good}, says: []string{"--on", `"z"`, "a (int64)", "b (utf8)"}},
		{name: "full", on: "a", inputs: []string{good}, output: full, says: []string{"something else"}, is: ErrOutput},
		{name: "inside", on: "a", inputs: []string{filepath.Dir(good)}, output: filepath.Join(filepath.Dir(good), "out"), says: []string{"outside of the input"}, is: ErrOutput},
		{name: "broken", on: "a", inputs: []string{broken}, says: []string{"broken.parquet"}},
		{name: "parts", on: "a", inputs: []string{good}, edit: func(o *Options) { o.Spec.TotalParts = 0; o.Spec.Partition = "x" }, says: []string{"--total-nparts 0", "--partition"}},
		{name: "memory", on: "a", inputs: []string{good}, edit: func(o *Options) { o.Exec.MemoryLimit = 1 << 20 }, says: []string{"--memory-limit 1MiB", "smallest"}},
	} {
		o := Options{Spec: smallSpec(tc.on), Inputs: tc.inputs, Output: tc.output}
		if o.Output == "" {
			o.Output = filepath.Join(t.TempDir(), "out")
		}
		if tc.edit != nil {
			tc.edit(&o)
		}
		_, err := Run(t.Context(), o)
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		for _, s := range tc.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", tc.name, err, s)
			}
		}
		if left, _ := filepath.Glob(o.Output + "*"); len(left) > 0 && tc.output == "" {
			t.Errorf("%s: left %v", tc.name, left)
		}
	}
	// The same again is already done, other options or another input are refused, and so is a result that was tampered with.
	o := Options{Spec: smallSpec("a"), Inputs: []string{good}, Output: filepath.Join(t.TempDir(), "out")}
	first := must(Run(t.Context(), o))
	if again := must(Run(t.Context(), o)); !again.AlreadyDone || again.Digest != first.Digest {
		t.Error("the same again was not found done")
	}
	o.Spec.TotalParts++
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), "--total-nparts was 7 and is now 8") {
		t.Error(err)
	}
	o.Spec.TotalParts--
	must(0, os.Truncate(filepath.Join(o.Output, partName(2)), 3))
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), partName(2)) {
		t.Error(err)
	}
}
