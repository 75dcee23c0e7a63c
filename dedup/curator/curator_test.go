package curator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dovetail-dedup/dovetail/executor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// smallParams catch similar short texts.
func smallParams(in string) caseParams {
	return caseParams{
		Input: in, TextField: "text", Seed: 42, CharNgrams: 5, NumBands: 6, MinhashesPerBand: 2, TotalNparts: 3, PerIteration: 4,
		ComponentsFiles: 2, ExactNparts: 2, InputBlocksize: 20_000,
	}
}

// No way of running changes a byte.
func TestSameBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := smallParams(corpusFolder(t, rng, 400, 5, "jsonl", true))
	dir := filepath.Join(t.TempDir(), "run") // the same for all: paths are in names
	var want map[string]string
	for _, e := range []Exec{
		{Workers: 1}, {Ranks: 3, Workers: 3}, {Ranks: 2, Workers: 5, SplitBytes: 500, onDisk: true},
		{Workers: 2, MemoryLimit: 160 << 20, SplitBytes: 3000},
	} {
		fuzzy, exact := p.workflows(t, dir, e)
		got := files(t, dir)
		if want == nil {
			want = got
			if fuzzy.NumDuplicates == 0 || exact.NumDuplicates == 0 || fuzzy.NumDuplicates < exact.NumDuplicates {
				t.Errorf("%d fuzzy and %d exact duplicates", fuzzy.NumDuplicates, exact.NumDuplicates)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%+v: the files differ", e)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*", "*.*")); slices.ContainsFunc(left, func(s string) bool { return !strings.HasSuffix(s, ".json") }) {
			t.Errorf("%+v left %v", e, left)
		}
		if fuzzy, _ = p.workflows(t, dir, e); !fuzzy.MinHash.AlreadyDone || !fuzzy.LSH.AlreadyDone || !fuzzy.Components.AlreadyDone {
			t.Errorf("%+v: a second call does it again", e)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// stopper ends a run when stages have started or finished a number of times.
type stopper struct {
	left int
	stop context.CancelFunc
}

func (s *stopper) tick() {
	if s.left--; s.left == 0 {
		s.stop()
	}
}

func (s *stopper) StageStarted(executor.StageInfo)   { s.tick() }
func (s *stopper) StageProgress(executor.Progress)   {}
func (s *stopper) StageFinished(executor.StageStats) { s.tick() }
func (s *stopper) Note(string, string)               {}

// A run that is stopped anywhere goes on from there, with other workers, and ends with the same bytes.
func TestResume(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	p := smallParams(corpusFolder(t, rng, 200, 4, "parquet", false))
	dir := filepath.Join(t.TempDir(), "run")
	p.workflows(t, dir, Exec{Workers: 2})
	want := files(t, dir)
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		stops := 0
		for try := 0; ; try++ {
			ctx, cancel := context.WithCancel(t.Context())
			s := &stopper{1 + rng.IntN(8), cancel}
			if try > 30 {
				s.left = 1 << 30
			}
			o := FuzzyOptions{
				Exec:         Exec{Ranks: 1 + rng.IntN(2), Workers: 1 + rng.IntN(3), SplitBytes: 4000, Progress: s, onDisk: round%2 == 0},
				InputOptions: InputOptions{Inputs: []string{p.Input}, InputBlocksize: "20000"},
				Cache:        filepath.Join(dir, "cache"), Output: filepath.Join(dir, "out"), Seed: p.Seed, CharNgrams: p.CharNgrams,
				NumBands: p.NumBands, MinhashesPerBand: p.MinhashesPerBand, BandsPerIteration: p.PerIteration,
				LSHNumOutputPartitions: p.TotalNparts, ComponentsFiles: p.ComponentsFiles,
			}
			_, err := Fuzzy(ctx, o)
			if err == nil {
				_, err = Exact(ctx, ExactOptions{Exec: o.Exec, InputOptions: o.InputOptions, Output: o.Output, TotalNparts: p.ExactNparts})
			}
			cancel()
			if err == nil {
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			stops++
		}
		if stops == 0 {
			t.Errorf("round %d was never stopped", round)
		}
		if got := files(t, dir); !maps.Equal(got, want) {
			t.Errorf("round %d, after %d stops: %v, want %v", round, stops, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
}

// The cases of Curator's tests of the whole workflow: five documents, groups {4, -1} and {1, 2, 300}, one survivor each.
func TestFuzzyWorkflow(t *testing.T) {
	texts := []string{
		"A test string", "A different test string", "A different object", "The quick brown fox jumps over the lazy dog",
		"The quick black cat jumps over the lazy dog",
	}
	in := filepath.Join(t.TempDir(), "in")
	for i, s := range []string{texts[0], texts[0] + "", texts[3], texts[3] + "s"} {
		writeJSONL(t, filepath.Join(in, fmt.Sprintf("%d.jsonl", i)), []*string{&s})
	}
	for _, wide := range []bool{false, true} {
		o := DefaultFuzzyOptions()
		dir := t.TempDir()
		o.Inputs, o.Cache, o.Output = []string{in}, filepath.Join(dir, "cache"), filepath.Join(dir, "out")
		o.CharNgrams, o.NumBands, o.MinhashesPerBand, o.Use64BitHash, o.LSHNumOutputPartitions = 5, 5, 1, wide, 4
		res, err := Fuzzy(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if res.NumDuplicates != 2 || res.Components.Groups != 2 || res.MinHash.Documents != 4 {
			t.Errorf("64 bit %v: %+v %+v", wide, res, res.Components)
		}
		ids := readTable(t, filepath.Join(o.Output, FuzzyIDsDir, "part.0.parquet"))[IDColumn]
		if !slices.Equal(ids, []string{fmt.Sprint(1 << 32), fmt.Sprint(3 << 32)}) {
			t.Errorf("64 bit %v: removes %v", wide, ids)
		}
		parts, _ := filepath.Glob(filepath.Join(o.Cache, LSHDir, "band_0-band_5", "part.*.parquet"))
		if len(parts) != 4 {
			t.Errorf("%d partitions, want 4", len(parts))
		}
	}
	// Without candidates the later folders are never made.
	for i, s := range texts {
		writeJSONL(t, filepath.Join(in, "..", "other", fmt.Sprintf("%d.jsonl", i)), []*string{&s})
	}
	o := DefaultFuzzyOptions()
	dir := t.TempDir()
	o.Inputs, o.Cache, o.Output = []string{filepath.Join(in, "..", "other")}, filepath.Join(dir, "cache"), filepath.Join(dir, "out")
	res, err := Fuzzy(t.Context(), o)
	if err != nil || res.NumDuplicates != 0 {
		t.Fatalf("%+v (%v)", res, err)
	}
	for _, gone := range []string{filepath.Join(o.Cache, EdgesDir), filepath.Join(o.Cache, ComponentsDir), filepath.Join(o.Output, FuzzyIDsDir)} {
		if _, err := os.Stat(gone); err == nil {
			t.Errorf("%s was made", gone)
		}
	}
}

// Signatures of five documents, three bands of two: pairs (1,2), (2,3) and (4,5), whatever the iterations.
func TestLSHStage(t *testing.T) {
	sigs := [][]uint32{{1, 2, 1, 2, 1, 2}, {1, 2, 3, 4, 5, 6}, {3, 2, 3, 4, 3, 4}, {4, 8, 4, 8, 4, 8}, {4, 8, 6, 10, 6, 9}}
	in := filepath.Join(t.TempDir(), "sigs.parquet")
	writeTable(t, in, len(sigs), func(tb *table, i int) {
		tb.int(0, int64(i+1))
		var raw []byte
		for _, v := range sigs[i] {
			raw = append(raw, byte(v), 0, 0, 0)
		}
		tb.signature(1, raw)
	}, field{"doc", kindInt64}, field{"m", kindSig32})
	for _, c := range []struct{ per, nparts int }{{2, 4}, {3, 0}, {1, 1}} {
		o := DefaultLSHOptions()
		o.Inputs, o.Output, o.IDField, o.MinhashField = []string{in}, t.TempDir(), "doc", "m"
		o.NumBands, o.MinhashesPerBand, o.BandsPerIteration, o.TotalNparts = 3, 2, c.per, c.nparts
		res, err := LSH(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var pairs []string
		for path := range files(t, filepath.Join(o.Output, LSHDir)) {
			for i, name := range readTable(t, path)[BucketColumn] {
				pairs = append(pairs, readTable(t, path)["doc"][i])
				if len(name) != len("b0_")+32 {
					t.Errorf("bucket %q", name)
				}
			}
		}
		slices.Sort(pairs)
		if !slices.Equal(pairs, []string{"[1 2]", "[2 3]", "[4 5]"}) || res.Buckets != 3 || res.Members != 6 {
			t.Errorf("%+v: %v, %+v", c, pairs, res)
		}
	}
}

// writeBuckets writes an LSHStage folder of one partition for each list of buckets.
func writeBuckets(t testing.TB, dir string, parts ...[][]int64) {
	t.Helper()
	for p, buckets := range parts {
		writeTable(t, filepath.Join(dir, "band_0-band_1", fmt.Sprintf("part.%d.parquet", p)), len(buckets), func(tb *table, i int) {
			tb.string(0, fmt.Appendf(nil, "b0_%d", i))
			for k, id := range buckets[i] {
				tb.id(1, k == 0, id)
			}
		}, field{BucketColumn, kindString}, field{IDColumn, kindIDs})
	}
}

// Curator's cases of edges and components: chains, not cliques; negative ids are ids.
func TestComponents(t *testing.T) {
	for _, c := range []struct {
		name  string
		parts [][][]int64
		want  string // groups, smallest id first
	}{
		{"one file", [][][]int64{{{10, 11, 12, 13}, {13, 120}, {14, 15}, {15, 110}}}, "[[10 11 12 13 120] [14 15 110]]"},
		{"two files", [][][]int64{{{10, 11, 12, 13}, {13, 120}, {14, 15}, {15, 110}}, {{15, 16}, {16, 17, 18}, {18, 19}, {19, 111}}},
			"[[10 11 12 13 120] [14 15 16 17 18 19 110 111]]"},
		{"an empty file between", [][][]int64{{{1, 2}}, {}, {{3, 4}, {2, 3}}}, "[[1 2 3 4]]"},
		{"negative", [][][]int64{{{-5, 3}, {3, 9}}}, "[[-5 3 9]]"},
	} {
		for _, onDisk := range []bool{false, true} {
			dir := t.TempDir()
			writeBuckets(t, filepath.Join(dir, "lsh"), c.parts...)
			o := DefaultComponentsOptions()
			o.Inputs, o.Cache, o.Output, o.Files = []string{filepath.Join(dir, "lsh")}, filepath.Join(dir, "cache"), dir, 2
			o.onDisk = onDisk
			res, err := Components(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if (res.Rounds > 0) != onDisk {
				t.Errorf("%s: %d rounds on disk", c.name, res.Rounds)
			}
			var edges, want []string
			for k := 0; ; k++ {
				path := filepath.Join(o.Cache, EdgesDir, fmt.Sprintf("0_%d.parquet", k))
				if _, err := os.Stat(path); err != nil {
					break
				}
				table := readTable(t, path)
				for i, x := range table[IDColumn+"_x"] {
					edges = append(edges, x+" "+table[IDColumn+"_y"][i])
				}
			}
			for _, p := range c.parts {
				for _, ids := range p {
					for i := 1; i < len(ids); i++ {
						want = append(want, fmt.Sprint(ids[i-1], ids[i]))
					}
				}
			}
			if !slices.Equal(edges, want) || res.Edges != int64(len(want)) {
				t.Errorf("%s: edges %v, want %v", c.name, edges, want)
			}
			groups := make(map[string][]int64)
			removed := 0
			for path := range files(t, filepath.Join(o.Cache, ComponentsDir)) {
				table := readTable(t, path)
				for i, id := range table[IDColumn] {
					var n int64
					if _, err := fmt.Sscan(id, &n); err != nil {
						t.Fatal(err)
					}
					groups[table[GroupColumn][i]] = append(groups[table[GroupColumn][i]], n)
				}
			}
			for path := range files(t, filepath.Join(o.Output, FuzzyIDsDir)) {
				removed += len(readTable(t, path)[IDColumn])
			}
			var got [][]int64
			docs := 0
			for label, ids := range groups {
				slices.Sort(ids)
				docs += len(ids)
				if fmt.Sprint(ids[0]) != label {
					t.Errorf("%s: group %v has label %s", c.name, ids, label)
				}
				got = append(got, ids)
			}
			slices.SortFunc(got, func(a, b []int64) int { return slices.Compare(a, b) })
			if fmt.Sprint(got) != c.want || res.Groups != int64(len(got)) || removed != docs-len(got) || res.NumDuplicates != int64(removed) {
				t.Errorf("%s: %v, want %s; %d removed, %+v", c.name, got, c.want, removed, res)
			}
		}
	}
}

// A bucket that is many times larger than a row group is one row, in whatever share of memory.
func TestGiantBucket(t *testing.T) {
	n := 700_000
	if testing.Short() {
		n = 400_000 // above twice bucketGroupBytes
	}
	dir := t.TempDir()
	writeTable(t, filepath.Join(dir, "sigs", "a.parquet"), n+4, func(tb *table, i int) {
		tb.int(0, int64(i))
		switch {
		case i < 2:
			tb.signature(1, []byte{1, 0, 0, 0})
		case i < n+2:
			tb.null(1)
		default:
			tb.signature(1, []byte{2, 0, 0, 0})
		}
	}, field{IDColumn, kindInt64}, field{MinhashColumn, kindSig32})
	lo := DefaultLSHOptions()
	lo.Inputs, lo.Output, lo.NumBands, lo.MinhashesPerBand, lo.BandsPerIteration = []string{filepath.Join(dir, "sigs")}, dir, 1, 1, 1
	lo.MemoryLimit, lo.Workers = 128<<20, 2
	res, err := LSH(t.Context(), lo)
	if err != nil {
		t.Fatal(err)
	}
	if res.Buckets != 3 || res.Largest != int64(n) || res.Members != int64(n)+4 {
		t.Errorf("%+v", res)
	}
	co := DefaultComponentsOptions()
	co.Inputs, co.Cache, co.Output = []string{filepath.Join(dir, LSHDir)}, dir, dir
	found, err := Components(t.Context(), co)
	if err != nil {
		t.Fatal(err)
	}
	if found.Edges != int64(n)+1 || found.NumDuplicates != int64(n)+1 || found.Groups != 3 {
		t.Errorf("%+v", found)
	}
	// Curator's row groups: a tenth of the ids, at least 1,000.
	ids, err := openTable(t.Context(), filepath.Join(dir, FuzzyIDsDir, "part.0.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	defer ids.close()
	if got, want := ids.groupRows(0), found.NumDuplicates/10; got != want || ids.rows() != found.NumDuplicates {
		t.Errorf("row groups of %d, want %d", got, want)
	}
}

// Curator's cases of exact deduplication: groups {1, -1} and {2, 4}, with assigned ids and with one's own, and null is empty.
func TestExact(t *testing.T) {
	texts := []string{"one", "two", "three", "two", "one"}
	ids := []int64{1, 2, 300, 4, -1}
	in := filepath.Join(t.TempDir(), "in")
	for f, from := range []int{0, 3} {
		to := []int{3, 5}[f]
		writeTable(t, filepath.Join(in, fmt.Sprintf("%d.parquet", f)), to-from, func(tb *table, i int) {
			tb.int(0, ids[from+i])
			tb.string(1, []byte(texts[from+i]))
			tb.string(2, fmt.Appendf(nil, "doc%+d", ids[from+i]))
		}, field{"id", kindInt64}, field{"content", kindString}, field{"name", kindString})
	}
	for _, c := range []struct {
		id     string
		nparts int
		want   string
	}{
		{"", 2, fmt.Sprint([]string{fmt.Sprint(1 << 32), fmt.Sprint(1<<32 + 1)})}, {"id", 4, "[1 4]"}, {"id", 0, "[1 4]"},
		{"name", 3, "[doc+4 doc-1]"}, // bytewise the smaller of doc+1 and doc-1 stays, and of doc+2 and doc+4
	} {
		o := DefaultExactOptions()
		o.Inputs, o.Output, o.TextField, o.IDField, o.TotalNparts = []string{in}, t.TempDir(), "content", c.id, c.nparts
		res, err := Exact(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		column := c.id
		if column == "" {
			column = IDColumn
		}
		parts := 0
		for path := range files(t, filepath.Join(o.Output, ExactIDsDir)) {
			got = append(got, readTable(t, path)[column]...)
			parts++
		}
		slices.Sort(got)
		if fmt.Sprint(got) != c.want || parts != max(1, c.nparts) || res.Groups != 2 || res.NumDuplicates != 2 {
			t.Errorf("%+v: %v in %d parts, %+v", c, got, parts, res)
		}
		_, err = os.Stat(filepath.Join(o.Output, ExactIDGenerator))
		if (err == nil) != (c.id == "") {
			t.Errorf("%+v: id generator: %v", c, err)
		}
	}
	// A third of the groups, at least 1, is the default number of partitions.
	for i := range 8 {
		writeJSONL(t, filepath.Join(in, "..", "many", fmt.Sprintf("%d.jsonl", i)), []*string{&texts[0]})
	}
	many := ExactOptions{InputOptions: InputOptions{Inputs: []string{filepath.Join(in, "..", "many")}}, Output: t.TempDir()}
	if res, err := Exact(t.Context(), many); err != nil || res.Partitions != 2 || res.NumDuplicates != 7 {
		t.Errorf("%+v (%v)", res, err)
	}
	empty := ""
	writeJSONL(t, filepath.Join(in, "..", "nulls", "a.jsonl"), []*string{nil, &empty, nil})
	o := DefaultExactOptions()
	o.Inputs, o.Output = []string{filepath.Join(in, "..", "nulls")}, t.TempDir()
	if res, err := Exact(t.Context(), o); err != nil || res.Groups != 1 || res.NumDuplicates != 2 {
		t.Errorf("%+v (%v)", res, err)
	}
}

func TestIDGenerator(t *testing.T) {
	files := []fileSize{{0, "/data/a.jsonl", 1}, {1, "/data/b.jsonl", 1}, {2, "/data/c.jsonl", 1}}
	g := newIDGenerator(files, []int64{9, 1<<32 - 1, 2<<32 + 4})
	data, err := g.encode()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		NextID   int64              `json:"next_id"`
		Registry map[string][]int64 `json:"batch_registry"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	// From Python: uuid.uuid5(uuid.NAMESPACE_URL, "/data/a.jsonl")
	const a = "64532fd2-bf04-55ac-a4f0-6f50fb616607"
	if batchKey("/data/a.jsonl") == batchKey("/data/a.jsonl", "/data/b.jsonl") || batchKey("x", "y") == batchKey("y", "x") {
		t.Error("keys do not tell lists of files apart")
	}
	if got.NextID != 2<<32+5 || len(got.Registry) != 3 || fmt.Sprint(got.Registry[batchKey("/data/b.jsonl")]) != fmt.Sprint([]int64{1 << 32, 1<<32 - 1}) {
		t.Errorf("%s", data)
	}
	if key := batchKey("/data/a.jsonl"); key != a {
		t.Errorf("%s, want %s", key, a)
	}
}

// FilePartitioningStage: ascending size, greedy, a file that is too large alone.
func TestPartition(t *testing.T) {
	files := []fileSize{{0, "/a", 50}, {1, "/b", 10}, {2, "/c", 100}, {3, "/d", 10}, {4, "/e", 30}}
	for _, c := range []struct {
		block int64
		want  string
	}{
		{0, "[[0] [1] [2] [3] [4]]"}, {50, "[[1 3 4] [0] [2]]"}, {49, "[[1 3] [4] [0] [2]]"}, {1000, "[[1 3 4 0 2]]"}, {1, "[[1] [3] [4] [0] [2]]"},
	} {
		var got [][]int
		groups := partition(files, c.block)
		for _, g := range groups {
			got = append(got, g.Files)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%d: %v, want %s", c.block, got, c.want)
		}
	}
	// sha256 of "/a|/b|", whatever the order
	if got := fileGroupID([]string{"/b", "/a"}); got != "39606fddb3c1" {
		t.Errorf("%s", got)
	}
	for size, want := range map[string]int64{"1GiB": 1 << 30, "512MB": 512e6, "1.5GiB": 3 << 29, "1000": 1000, "2 kib": 2048} {
		if n, err := ParseSize(size); n != want || err != nil {
			t.Errorf("%q is %d, want %d (%v)", size, n, want, err)
		}
	}
	for _, bad := range []string{"", "much", "-1", "1XB"} {
		if _, err := ParseSize(bad); err == nil {
			t.Errorf("%q is a size", bad)
		}
	}
}

func TestNaturalOrder(t *testing.T) {
	want := []string{"band_0-band_5/part.0", "band_0-band_5/part.2", "band_0-band_5/part.10", "band_5-band_10/part.0", "band_10-band_15/part.1"}
	got := slices.Clone(want)
	slices.Sort(got)
	slices.SortFunc(got, naturalCompare)
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// Defaults are Curator's, and what a workflow says of itself has Curator's names.
func TestDefaults(t *testing.T) {
	m, l, f, e, c := DefaultMinHashOptions(), DefaultLSHOptions(), DefaultFuzzyOptions(), DefaultExactOptions(), DefaultComponentsOptions()
	for _, got := range []struct{ is, want any }{
		{[]any{m.CharNgrams, m.NumHashes, m.Seed, m.Use64BitHash}, []any{24, 260, 42, false}},
		{[]any{l.BandsPerIteration, l.TotalNparts, l.InputBlocksize, l.IDField, l.MinhashField}, []any{5, 0, "2GiB", "_curator_dedup_id", "_minhash_signature"}},
		{[]any{f.NumBands, f.MinhashesPerBand, f.CharNgrams, f.Seed, f.Use64BitHash}, []any{20, 13, 24, 42, false}},
		{[]any{f.BandsPerIteration, f.LSHNumOutputPartitions, f.InputBlocksize}, []any{5, 0, "1GiB"}},
		{[]any{e.InputBlocksize, e.TotalNparts, e.IDField}, []any{"2GiB", 0, ""}},
		{[]any{c.IDField, c.Files, c.TotalNparts}, []any{"_curator_dedup_id", 1, 0}},
	} {
		if fmt.Sprint(got.is) != fmt.Sprint(got.want) {
			t.Errorf("%v, want %v", got.is, got.want)
		}
	}
	data, err := json.Marshal(FuzzyResult{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"minhash_time", "lsh_time", "connected_components_pipeline_time", "total_time", "num_duplicates", "id_generator_path"} {
		if !strings.Contains(string(data), `"`+key+`"`) {
			t.Errorf("%s has no %s", data, key)
		}
	}
	// Windows of fewer than 20 characters are worth a warning.
	s := "text"
	in := filepath.Join(t.TempDir(), "in")
	writeJSONL(t, filepath.Join(in, "a.jsonl"), []*string{&s})
	for width, warned := range map[int]bool{19: true, 20: false} {
		notes := ""
		m := DefaultMinHashOptions()
		m.Inputs, m.Output, m.CharNgrams, m.Note = []string{in}, t.TempDir(), width, func(line string) { notes += line }
		if _, err := MinHash(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(notes, "false positives") != warned {
			t.Errorf("width %d: %q", width, notes)
		}
	}
}
