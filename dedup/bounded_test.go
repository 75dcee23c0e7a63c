package dedup

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"pgregory.net/rapid"
)

// shapes are corpora of which something is far larger than an actor's share: documents of a split, members of a class,
// of a component, of a cluster, of a bucket.
func shapes(n int) map[string]func(i int) string {
	rng := rand.New(rand.NewPCG(21, 22))
	base := strings.Repeat("every page of this site ends like this ", 3)
	return map[string]func(int) string{
		"tiny":   func(int) string { return fmt.Sprint(rng.IntN(n)) },
		"class":  func(i int) string { return fmt.Sprint("the same text ", min(1, i%97)) },
		"bucket": func(i int) string { return base + fmt.Sprint(i) },
	}
}

// TestAnyShapeInAShare runs corpora of every shape with a share of memory that holds little of any of them. The result is
// the reference's, and no table is larger than the share.
func TestAnyShapeInAShare(t *testing.T) {
	n := 12_000
	if testing.Short() {
		n = 3000
	}
	const share = 48 << 10
	type way struct {
		name   string
		spec   func(*Spec)
		onDisk bool
	}
	ways := []way{
		{"exact", func(*Spec) {}, true},
		{"ids", func(s *Spec) { s.IDField, s.Keep = "id", KeepLongest }, false},
		{"all kept", func(s *Spec) { s.Threshold = "1" }, false},
		{"none", func(s *Spec) { s.Verify = VerifyNone }, true},
		{"none in memory", func(s *Spec) { s.Verify, s.Keep = VerifyNone, "field:score" }, false},
	}
	for shape, text := range shapes(n) {
		c := testCorpus{nil}
		for i := range n {
			s, score := text(i), float64(i%7)
			c[0] = append(c[0], testDoc{Text: &s, ID: int64(n - i), Score: &score})
		}
		dir := t.TempDir()
		c.write(t, dir)
		for _, w := range ways {
			t.Run(shape+" "+w.name, func(t *testing.T) {
				t.Parallel()
				s := smallSpec()
				s.NumBands = 5
				w.spec(&s)
				want, _ := c.expected(t, s)
				var mu sync.Mutex
				held := make(map[string]int64)
				_, res := testRun(t, dir, s, Exec{
					Workers: 2, MemoryLimit: 256 << 20, SplitBytes: 1 << 30, share: share, onDisk: w.onDisk,
					watch: func(table string, n int64) {
						mu.Lock()
						defer mu.Unlock()
						held[table] = max(held[table], n)
					},
				})
				if res.Digest != want {
					t.Errorf("digest %s, the reference has %s", res.Digest, want)
				}
				largest := int64(0)
				for table, n := range held {
					if largest = max(largest, n); n > share {
						t.Errorf("%s took %d bytes of a share of %d", table, n, share)
					}
				}
				if largest < share/5 {
					t.Errorf("the tables took %v: the test shows little", held)
				}
				if shape == "bucket" && (res.Steps.Components != 1 || res.Steps.Candidates != int64(n)) {
					t.Errorf("%d candidates in %d components, want %d in one", res.Steps.Candidates, res.Steps.Components, n)
				}
			})
		}
	}
}

// A component whose list cannot be held even with the turn is refused with the limit that works.
func TestHugeComponentIsRefused(t *testing.T) {
	const n = 2000
	c := testCorpus{nil}
	text := shapes(n)["bucket"]
	for i := range n {
		s := text(i)
		c[0] = append(c[0], testDoc{Text: &s})
	}
	dir := t.TempDir()
	c.write(t, dir)
	s := smallSpec()
	o := Options{Spec: s, Inputs: []string{dir}, Output: filepath.Join(t.TempDir(), "out"), Exec: Exec{Workers: 2, share: 48 << 10, budget: 64 << 10, onDisk: true}}
	_, err := Run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "deciding 2000 documents that are connected needs 1 MiB; the smallest --memory-limit that works is") {
		t.Errorf("%v", err)
	}
	o.Exec.budget = 88_000 + 1<<20
	if res, err := Run(t.Context(), o); err != nil {
		t.Error(err)
	} else if want, _ := c.expected(t, s); res.Digest != want || res.TasksReused == 0 {
		t.Errorf("digest %s, want %s, %d tasks reused", res.Digest, want, res.TasksReused)
	}
}

func TestSorter(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		kind := rowKind{
			width: rapid.IntRange(1, 4).Draw(t, "width"), blob: rapid.Bool().Draw(t, "blob"), distinct: rapid.Bool().Draw(t, "distinct"),
		}
		kind.keys = rapid.SliceOfNDistinct(rapid.IntRange(0, kind.width-1), 1, kind.width, rapid.ID[int]).Draw(t, "keys")
		if kind.blob {
			kind.distinct = false
		}
		s := &sorter{rowKind: kind, dir: dir, limit: rapid.Int64Range(1, 4000).Draw(t, "limit")}
		defer s.close()
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "rows"), 0))
		type row struct {
			words []uint64
			blob  string
		}
		var want []row
		for range rapid.IntRange(0, 600).Draw(t, "n") {
			r := row{words: make([]uint64, kind.width)}
			for i := range r.words {
				r.words[i] = rng.Uint64N(12) << (8 * rng.IntN(8))
			}
			if kind.blob {
				r.blob = strings.Repeat("b", rng.IntN(20))
			}
			if err := s.add(r.words, []byte(r.blob)); err != nil {
				t.Fatal(err)
			}
			if s.rows > 1 && s.held() > s.limit+int64(len(r.blob)+blobBlock) {
				t.Fatalf("%d bytes are held, the limit is %d", s.held(), s.limit)
			}
			want = append(want, r)
		}
		slices.SortFunc(want, func(a, b row) int { return cmp.Or(kind.compare(a.words, b.words), slices.Compare(a.words, b.words)) })
		if kind.distinct {
			want = slices.CompactFunc(want, func(a, b row) bool { return kind.compare(a.words, b.words) == 0 })
		}
		for range 2 {
			c, err := s.cursor()
			if err != nil {
				t.Fatal(err)
			}
			var got []row
			for c.next() {
				got = append(got, row{slices.Clone(c.row), string(c.bytes)})
			}
			if c.err != nil || len(got) != len(want) {
				t.Fatalf("%d rows, want %d (%v)", len(got), len(want), c.err)
			}
			for i := range got {
				if kind.compare(got[i].words, want[i].words) != 0 {
					t.Fatalf("row %d is %v, want %v", i, got[i].words, want[i].words)
				}
			}
			if !kind.distinct { // the same rows, whatever the order of equal ones
				all := func(rows []row) []string {
					var out []string
					for _, r := range rows {
						out = append(out, fmt.Sprint(r))
					}
					slices.Sort(out)
					return out
				}
				if !slices.Equal(all(got), all(want)) {
					t.Fatal("the rows are not those that were added")
				}
			}
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v left behind (%v)", left, err)
	}
}

// A scratch file that does not give back what was written is noticed.
func TestSorterNoticesDamage(t *testing.T) {
	s := &sorter{rowKind: rowKind{width: 1, keys: []int{0}}, dir: t.TempDir(), limit: 1000}
	defer s.close()
	for i := range uint64(200) {
		if err := s.add([]uint64{i}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.cursor(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.levels[0].file.WriteAt([]byte{1}, 11); err != nil {
		t.Fatal(err)
	}
	c, err := s.cursor()
	if err != nil {
		t.Fatal(err)
	}
	for c.next() {
	}
	if c.err == nil {
		t.Error("a changed byte was not noticed")
	}
}

// However few keys fit, passes find what one table would.
func TestPasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type rec struct {
			key uint64
			ref ref
		}
		recs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) rec {
			return rec{rapid.Uint64Range(0, 40).Draw(t, "key"), ref{rapid.Uint64Range(0, 2).Draw(t, "keep"), rapid.Uint64Range(0, 60).Draw(t, "ord")}}
		}), 0, 200).Draw(t, "records")
		want := make(map[uint64]ref)
		for _, r := range recs {
			if old, ok := want[r.key]; !ok || r.ref.before(old) {
				want[r.key] = r.ref
			}
		}
		limit := rapid.IntRange(1, 50).Draw(t, "limit")
		seen := 0
		err := smallest(limit, passHash, func(row func(uint64, ref) error) error {
			for _, r := range recs {
				if err := row(r.key, r.ref); err != nil {
					return err
				}
			}
			return nil
		}, func(k uint64, _, least ref) error {
			seen++
			if least != want[k] {
				return fmt.Errorf("the smallest of %d is %v, want %v", k, least, want[k])
			}
			return nil
		}, func(keys int) {
			if keys > limit {
				t.Errorf("%d keys are held, the limit is %d", keys, limit)
			}
		})
		if err != nil || seen != len(recs) {
			t.Fatalf("%d of %d records seen (%v)", seen, len(recs), err)
		}
	})
}

func TestBucketTableRetain(t *testing.T) {
	var table, want bucketTable
	odd := func(key uint64) bool { return key%2 == 1 }
	for i := range uint64(500) {
		key, r := i*i%77, ref{0, i}
		table.add(key, r)
		if odd(key) {
			want.add(key, r)
		}
	}
	table.retain(odd)
	for key := range uint64(77) {
		if got := table.leadersOf(key); !slices.Equal(got, want.leadersOf(key)) {
			t.Errorf("leaders of %d are %v, want %v", key, got, want.leadersOf(key))
		}
	}
	if len(table.entries) != len(want.entries) || table.bytes() > want.bytes()+int64(4*len(table.slots)) {
		t.Errorf("%d entries are left, want %d", len(table.entries), len(want.entries))
	}
}

// What a refused limit names works at the next try, whatever stage refused it first.
func TestRefusedLimitNamesOneThatWorks(t *testing.T) {
	sizes := []int{3 << 20, 9 << 20}
	formats, normalizations := []string{"a.jsonl"}, []string{"none", "lower,whitespace"}
	if !testing.Short() {
		normalizations = append(normalizations, "nfc")
		sizes = append(sizes, 30<<20)
		formats = append(formats, "a.jsonl.gz", "a.parquet")
	}
	for _, size := range sizes {
		text := strings.Repeat("x", 100)
		rng := rand.New(rand.NewPCG(uint64(size), 0))
		var b strings.Builder
		for b.Len() < size {
			fmt.Fprintf(&b, "%X ", rng.Uint64())
		}
		texts := []string{b.String(), b.String() + text, "short"}
		for _, format := range formats {
			for _, normalize := range normalizations {
				t.Run(fmt.Sprintf("%d MB %s %s", size>>20, format, normalize), func(t *testing.T) {
					dir := t.TempDir()
					writeTexts(t, filepath.Join(dir, format), texts)
					s := DefaultSpec()
					s.Normalize, s.NumBands = normalize, 8
					e := Exec{Workers: 4, MemoryLimit: 128 << 20}
					out := filepath.Join(t.TempDir(), "out")
					_, err := Run(t.Context(), Options{Spec: s, Exec: e, Inputs: []string{dir}, Output: out})
					if err == nil {
						t.Fatal("not refused: the test shows little")
					}
					var works int64
					_, after, _ := strings.Cut(err.Error(), "the smallest --memory-limit that works is ")
					if _, scan := fmt.Sscanf(after, "%dMiB", &works); scan != nil {
						t.Fatal(errors.Join(err, scan))
					}
					e.MemoryLimit = works << 20
					res, err2 := Run(t.Context(), Options{Spec: s, Exec: e, Inputs: []string{dir}, Output: out})
					if err2 != nil || res.Steps.Removed != 1 {
						t.Fatalf("refused with %v; then %v", err, err2)
					}
					t.Logf("%v", err)
				})
			}
		}
	}
}

// writeTexts writes documents in the format that the name says.
func writeTexts(t *testing.T, name string, texts []string) {
	t.Helper()
	var b bytes.Buffer
	switch {
	case strings.HasSuffix(name, ".parquet"):
		node, err := schema.NewPrimitiveNodeLogical("text", parquet.Repetitions.Required, schema.StringLogicalType{}, parquet.Types.ByteArray, -1, -1)
		if err != nil {
			t.Fatal(err)
		}
		root, err := schema.NewGroupNode("schema", parquet.Repetitions.Required, schema.FieldList{node}, -1)
		if err != nil {
			t.Fatal(err)
		}
		props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy), parquet.WithDictionaryDefault(false))
		w := file.NewParquetWriter(&b, root, file.WithWriterProps(props))
		group, err := w.AppendRowGroupChecked()
		if err != nil {
			t.Fatal(err)
		}
		col, err := group.NextColumn()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range texts {
			if _, err := col.(*file.ByteArrayColumnChunkWriter).WriteBatch([]parquet.ByteArray{[]byte(s)}, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(col.Close(), w.Close()); err != nil {
			t.Fatal(err)
		}
	default:
		w := io.Writer(&b)
		z := gzip.NewWriter(&b)
		if strings.HasSuffix(name, ".gz") {
			w = z
		}
		enc := json.NewEncoder(w)
		for _, s := range texts {
			if err := enc.Encode(testDoc{Text: &s}); err != nil {
				t.Fatal(err)
			}
		}
		if w == z {
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(name, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}
