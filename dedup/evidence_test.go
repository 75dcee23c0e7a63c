package dedup

import (
	"bytes"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
)

// readTable reads a table of the result as a user's program would: by its Parquet files, column by name.
func readTable(t *testing.T, dir string) map[string][]any {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "part-*.parquet"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no tables in %s (%v)", dir, err)
	}
	slices.Sort(names)
	out := make(map[string][]any)
	for _, name := range names {
		r, err := file.OpenParquetFile(name, false)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for g := range r.NumRowGroups() {
			for c := range r.MetaData().Schema.NumColumns() {
				col, err := r.RowGroup(g).Column(c)
				if err != nil {
					t.Fatal(err)
				}
				n := int(r.RowGroup(g).NumRows())
				key := r.MetaData().Schema.Column(c).Name()
				out[key] = append(out[key], columnValues(t, col, n)...)
			}
		}
	}
	return out
}

// columnValues reads n values; a null is nil.
func columnValues(t *testing.T, col file.ColumnChunkReader, n int) []any {
	t.Helper()
	def := make([]int16, n)
	var values []any
	var read int
	var err error
	switch r := col.(type) {
	case *file.Int64ColumnChunkReader:
		v := make([]int64, n)
		_, read, err = r.ReadBatch(int64(n), v, def, nil)
		for _, x := range v[:read] {
			values = append(values, x)
		}
	case *file.Float64ColumnChunkReader:
		v := make([]float64, n)
		_, read, err = r.ReadBatch(int64(n), v, def, nil)
		for _, x := range v[:read] {
			values = append(values, x)
		}
	case *file.ByteArrayColumnChunkReader:
		v := make([]parquet.ByteArray, n)
		_, read, err = r.ReadBatch(int64(n), v, def, nil)
		for _, x := range v[:read] {
			values = append(values, string(x))
		}
	default:
		t.Fatalf("unexpected column %T", col)
	}
	if err != nil {
		t.Fatal(err)
	}
	if read == n {
		return values
	}
	all := make([]any, n)
	for i := range all {
		if def[i] > 0 {
			all[i], values = values[0], values[1:]
		}
	}
	return all
}

// TestEvidence checks the promises to whoever reads the result, from the result and the input alone: the Jaccard similarity
// of every removal is at least the threshold, its kept document is kept, and of identical texts one is left.
func TestEvidence(t *testing.T) {
	c := makeCorpus(rand.New(rand.NewPCG(seedOf(t, 4), 0)), 6, 800)
	dir := t.TempDir()
	c.write(t, dir)
	s := smallSpec()
	s.Threshold, s.IDField = "0.6", "id"
	out, res := testRun(t, dir, s, Exec{})

	docs := make(map[int64]testDoc) // by the user's id
	for _, d := range c.ordered() {
		docs[d.ID] = d
	}
	kept := make(map[int64]bool)
	texts := make(map[string]int)
	err := filepath.WalkDir(filepath.Join(out, "kept"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for dec := json.NewDecoder(bytes.NewReader(plain(t, path, data))); dec.More(); {
			var d testDoc
			if err := dec.Decode(&d); err != nil {
				return err
			}
			kept[d.ID] = true
			if d.Text != nil && *d.Text != "" {
				texts[*d.Text]++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for text, n := range texts {
		if n > 1 {
			t.Errorf("%d copies of %.40q were kept", n, text)
		}
	}
	for id, d := range docs {
		if d.Text != nil && *d.Text != "" && texts[*d.Text] == 0 && kept[id] {
			t.Errorf("document %d is both kept and not", id)
		}
	}

	removed := readTable(t, filepath.Join(out, "removed"))
	threshold := big.NewRat(6, 10)
	for i := range removed["id"] {
		id, keptID := removed["id"][i].(int64), removed["kept_id"][i].(int64)
		if kept[id] || !kept[keptID] || removed["cluster_id"][i] != keptID {
			t.Errorf("removed %d (kept: %v) for %d (kept: %v) in cluster %v", id, kept[id], keptID, kept[keptID], removed["cluster_id"][i])
		}
		inter, union := referenceJaccard(*docs[id].Text, *docs[keptID].Text, s.CharNgrams)
		if big.NewRat(inter, union).Cmp(threshold) < 0 {
			t.Errorf("%d was removed for %d at similarity %d/%d", id, keptID, inter, union)
		}
		switch removed["evidence"][i] {
		case "exact":
			if *docs[id].Text != *docs[keptID].Text || removed["similarity"][i] != 1.0 || removed["intersection"][i] != nil {
				t.Errorf("%d and %d are said to be identical", id, keptID)
			}
		case "jaccard":
			if removed["intersection"][i] != inter || removed["union"][i] != union || removed["similarity"][i] != float64(inter)/float64(union) {
				t.Errorf("%d: %v/%v, computed again %d/%d", id, removed["intersection"][i], removed["union"][i], inter, union)
			}
		default:
			t.Errorf("%d: evidence %v", id, removed["evidence"][i])
		}
	}
	if n := len(removed["id"]); n+len(kept) != len(docs) || int64(n) != res.Steps.Removed || n < 100 {
		t.Errorf("%d removed and %d kept of %d", n, len(kept), len(docs))
	}

	clusters := readTable(t, filepath.Join(out, "clusters"))
	sizes := make(map[any]int64)
	for i := range clusters["id"] {
		sizes[clusters["cluster_id"][i]]++
	}
	for i := range clusters["id"] {
		cluster := clusters["cluster_id"][i]
		if clusters["cluster_size"][i] != sizes[cluster] || sizes[cluster] < 2 {
			t.Errorf("cluster %v has %d members and says %v", cluster, sizes[cluster], clusters["cluster_size"][i])
		}
	}
	if int64(len(sizes)) != res.Steps.Clusters {
		t.Errorf("%d clusters, run.json says %d", len(sizes), res.Steps.Clusters)
	}
}
