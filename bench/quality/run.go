package quality

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/dedup/curator"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// removals reads the kept document of every removed one from what a run wrote.
type removals func() (map[int64]int64, error)

// dedup runs dedup's own pipeline with files below dir.
func (r *Result) dedup(ctx context.Context, path, dir string) (removals, error) {
	out := filepath.Join(dir, "out")
	run, err := dedup.Run(ctx, dedup.Options{Spec: r.Spec, Inputs: []string{path}, Output: out})
	if err != nil {
		return nil, err
	}
	r.Digest = run.Digest
	return func() (map[int64]int64, error) {
		keptFor := make(map[int64]int64)
		err := eachRow(filepath.Join(out, "removed"), 2, func(row []int64) { keptFor[row[0]] = row[1] })
		return keptFor, err
	}, nil
}

// curator runs Curator's workflow with files below dir. What it removes is what FuzzyDuplicateIds lists, and each for the
// one document of its group that is not listed.
func (r *Result) curator(ctx context.Context, path, dir string) (removals, error) {
	o := curator.DefaultFuzzyOptions()
	o.Inputs, o.IDField, o.TextField = []string{path}, r.Spec.IDField, r.Spec.TextField
	o.Cache, o.Output = filepath.Join(dir, "cache"), filepath.Join(dir, "out")
	o.NumBands, o.MinhashesPerBand, o.CharNgrams = r.Spec.NumBands, r.Spec.MinhashesPerBand, r.Spec.CharNgrams
	o.Seed, o.Use64BitHash = r.Spec.Seed, r.Spec.Sketch == string(lsh.Curator64)
	o.BandsPerIteration = min(o.BandsPerIteration, o.NumBands)
	if _, err := curator.Fuzzy(ctx, o); err != nil {
		return nil, err
	}
	return func() (map[int64]int64, error) {
		removed := make(map[int64]bool)
		err := eachRow(filepath.Join(o.Output, curator.FuzzyIDsDir), 1, func(row []int64) { removed[row[0]] = true })
		if err != nil {
			return nil, err
		}
		groupOf, keptOf := make(map[int64]int64), make(map[int64]int64)
		err = eachRow(filepath.Join(o.Cache, curator.ComponentsDir), 2, func(row []int64) {
			if groupOf[row[0]] = row[1]; !removed[row[0]] {
				keptOf[row[1]] = row[0]
			}
		})
		if err != nil {
			return nil, err
		}
		keptFor := make(map[int64]int64, len(removed))
		for id := range removed {
			kept, ok := keptOf[groupOf[id]]
			if !ok {
				return nil, fmt.Errorf("document %d is removed, and none of its group stays", id)
			}
			keptFor[id] = kept
		}
		return keptFor, nil
	}, nil
}

// eachRow calls f for the first columns, of integers without nulls, of all rows in the Parquet files of a folder. It
// reuses row.
func eachRow(dir string, columns int, f func(row []int64)) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := eachRowOf(name, columns, f); err != nil {
			return err
		}
	}
	return nil
}

func eachRowOf(name string, columns int, f func(row []int64)) error {
	r, err := file.OpenParquetFile(name, false)
	if err != nil {
		return err
	}
	defer r.Close()
	row := make([]int64, columns)
	for g := range r.NumRowGroups() {
		n := r.RowGroup(g).NumRows()
		values := make([][]int64, columns)
		for i := range values {
			c, err := r.RowGroup(g).Column(i)
			if err != nil {
				return err
			}
			ints, ok := c.(*file.Int64ColumnChunkReader)
			if !ok {
				return fmt.Errorf("%s: column %d is not of integers", name, i)
			}
			values[i] = make([]int64, n)
			_, got, err := ints.ReadBatch(n, values[i], make([]int16, n), nil)
			if err == nil && int64(got) != n {
				err = fmt.Errorf("%d values in %d rows", got, n)
			}
			if err != nil {
				return fmt.Errorf("%s: column %d: %w", name, i, err)
			}
		}
		for k := range n {
			for i := range row {
				row[i] = values[i][k]
			}
			f(row)
		}
	}
	return nil
}
