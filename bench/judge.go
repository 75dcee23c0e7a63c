package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/dovetail-dedup/dovetail/bench/data"
	"github.com/dovetail-dedup/dovetail/bench/process"
	"github.com/dovetail-dedup/dovetail/bench/rivals"
	"github.com/dovetail-dedup/dovetail/bench/truth"
	"github.com/dovetail-dedup/dovetail/dedup"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// judge scores the last output of each side by the pairs of the set that are similar by exact Jaccard similarity: of the
// side's own windows, and Dovetail's by all windows in use.
func (j *job) judge(ctx context.Context, name string) ([]Score, error) {
	set, err := j.e.set(name)
	if errors.Is(err, ErrUnavailable) || j.e.Quick {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var texts []string
	place := make(map[string]int) // by source
	if err := set.Each(func(d data.Doc) bool {
		place[d.Source] = len(texts)
		texts = append(texts, d.Text)
		return true
	}); err != nil {
		return nil, err
	}
	own := truth.Window{Chars: dedup.DefaultSpec().CharNgrams}
	pairs := make(map[truth.Window][]truth.Pair)
	for _, w := range []truth.Window{own, {Words: 5}} {
		j.e.note("%s: all pairs at %s, windows of %s", name, dedup.DefaultSpec().Threshold, w)
		if pairs[w], err = truePairs(texts, w); err != nil {
			return nil, err
		}
	}
	var scores []Score
	score := func(side string, w truth.Window, removed []bool) {
		s := truth.Judge(pairs[w], removed)
		scores = append(scores, Score{Side: side, Window: w.String(), Pairs: s.Pairs, Recall: s.Recall(), Removed: s.Removed,
			Precision: s.Precision()})
	}
	removed, err := j.removed(ctx, rivals.Rival{Name: "dovetail"}, place)
	if err != nil {
		return nil, err
	}
	score("dovetail", own, removed)
	score("dovetail", truth.Window{Words: 5}, removed)
	for _, r := range rivals.Dedup() {
		removed, err := j.removed(ctx, r, place)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it did not run, or failed
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
		score(r.Name, r.Window, removed)
	}
	return scores, nil
}

func truePairs(texts []string, w truth.Window) ([]truth.Pair, error) {
	t, err := lsh.ParseThreshold(dedup.DefaultSpec().Threshold)
	if err != nil {
		return nil, err
	}
	sets, err := w.Sets(texts)
	if err != nil {
		return nil, err
	}
	return truth.Pairs(sets, t), nil
}

// removed says of each document whether a side left it out. The error wraps fs.ErrNotExist if the side has no output.
func (j *job) removed(ctx context.Context, r rivals.Rival, place map[string]int) ([]bool, error) {
	out := j.outs[r.Name]
	removed := make([]bool, len(place))
	for i := range removed {
		removed[i] = true
	}
	c, listed, err := r.ListKept(j.e.Rivals, j.e.Scratch, out)
	if errors.Is(err, rivals.ErrMissing) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	if listed {
		if _, err := os.Stat(filepath.Join(out, "kept")); err != nil {
			return nil, err
		}
		if _, _, err := process.Run(ctx, c); err != nil {
			return nil, err
		}
		lines, err := os.ReadFile(filepath.Join(out, "kept.txt"))
		if err != nil {
			return nil, err
		}
		for source := range strings.FieldsFuncSeq(string(lines), func(r rune) bool { return r == '\n' }) {
			i, ok := place[source]
			if !ok {
				return nil, fmt.Errorf("it kept %q, which is no document of the set", source)
			}
			removed[i] = false
		}
		return removed, nil
	}
	names, err := filepath.Glob(filepath.Join(out, "kept", "*.parquet"))
	if err == nil && len(names) == 0 {
		names, err = filepath.Glob(filepath.Join(out, "clean", "kept", "*.parquet"))
	}
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fs.ErrNotExist
	}
	for _, name := range names {
		if err := eachID(name, func(id int64) error {
			if id < 0 || id >= int64(len(removed)) {
				return fmt.Errorf("it kept document %d of %d", id, len(removed))
			}
			removed[id] = false
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return removed, nil
}

// eachID calls f for every value of the column id of a Parquet file.
func eachID(path string, f func(int64) error) error {
	r, err := file.OpenParquetFile(path, false)
	if err != nil {
		return err
	}
	defer r.Close()
	at := r.MetaData().Schema.ColumnIndexByName("id")
	if at < 0 {
		return fmt.Errorf("%s has no column id", path)
	}
	for g := range r.NumRowGroups() {
		c, err := r.RowGroup(g).Column(at)
		if err != nil {
			return err
		}
		ints, ok := c.(*file.Int64ColumnChunkReader)
		if !ok {
			return fmt.Errorf("%s: the column id is not of int64", path)
		}
		n := r.RowGroup(g).NumRows()
		values := make([]int64, n)
		for got := int64(0); got < n; {
			_, k, err := ints.ReadBatch(n-got, values, make([]int16, n), nil)
			if err == nil && k == 0 {
				err = fmt.Errorf("%d values in %d rows", got, n)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			for _, id := range values[:k] {
				if err := f(id); err != nil {
					return err
				}
			}
			got += int64(k)
		}
	}
	return nil
}
