package dedup

import (
	"bytes"
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

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
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

func TestBucketTableRetain(t *testing.T) {
	var table, want bucketTable
	odd := func(key uint64) bool { return key%2 == 1 }
	for i := range uint64(500) {
		key, r := i*i%77, flow.Ref{Keep: 0, Ord: i}
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
