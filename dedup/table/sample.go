package table

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// How the bounds of range partitions come about. Each row has a rank: a hash of its place in the input. The sample is the rows
// of the smallest ranks. A split's own smallest contain all of them that lie in it, so the sample is the same however the
// input is split.

const (
	samplesPerPart = 100
	leastSamples   = 10_000
	maxSamples     = 1 << 20
	// maxSampleKey is how much of a key is kept. A key that was cut still is a bound between others.
	maxSampleKey = 1 << 10
)

func (s *Spec) samples() int {
	return min(maxSamples, max(leastSamples, samplesPerPart*s.TotalParts))
}

// sample is a sampled row.
type sample struct {
	rank uint64
	place
	key []byte
}

func compareSamples(a, b sample) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.file, b.file), cmp.Compare(a.row, b.row))
}

// rankOf hashes the place of a row.
func rankOf(p place) uint64 {
	hi, lo := bits.Mul64(uint64(p.file)*0x9e3779b97f4a7c15^0xd6e8feb86659fd93, uint64(p.row)^0xa0761d6478bd642f)
	x := hi ^ lo ^ uint64(p.row)*0xe7037ed1a0b428db
	x = (x ^ x>>32) * 0xd6e8feb86659fd93
	x = (x ^ x>>32) * 0xd6e8feb86659fd93
	return x ^ x>>32
}

// sampler keeps the samples of the smallest ranks.
type sampler struct {
	most int
	all  []sample
	cut  uint64 // larger ranks are not needed
}

func newSampler(most int) *sampler { return &sampler{most: most, cut: math.MaxUint64} }

// wants reports whether a rank may be among the smallest.
func (s *sampler) wants(rank uint64) bool { return rank <= s.cut }

func (s *sampler) add(x sample) {
	s.all = append(s.all, x)
	if len(s.all) >= 2*s.most {
		s.shrink()
	}
}

func (s *sampler) shrink() {
	slices.SortFunc(s.all, compareSamples)
	if len(s.all) > s.most {
		clear(s.all[s.most:])
		s.all = s.all[:s.most]
		s.cut = s.all[s.most-1].rank
	}
}

// sampleStage samples the keys of splits.
type sampleStage struct{ *run }

func (s sampleStage) Name() string { return "sample" }

func (s sampleStage) NewActor(context.Context, *executor.Env) (executor.Actor, error) {
	keys := slices.Sorted(slices.Values(s.layout.keys))
	var fields []arrow.Field
	order := make([]int, len(s.layout.keys)) // of the keys among the columns read
	for _, k := range keys {
		fields = append(fields, s.layout.schema.Field(k))
	}
	for i, k := range s.layout.keys {
		order[i] = slices.Index(keys, k)
	}
	sorter, err := columns.NewSorter(arrow.NewSchema(fields, nil), order)
	return &sampleActor{run: s.run, cols: keys, sorter: sorter}, err
}

type sampleActor struct {
	*run
	cols   []int
	sorter *columns.Sorter
}

func (a *sampleActor) Close() error { return nil }

// fileResult names a file that a task made.
type fileResult struct {
	File string `json:"file"`
}

func (a *sampleActor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	in, err := decodeTask[splitInput](task)
	if err != nil {
		return nil, err
	}
	s := newSampler(a.Spec.samples())
	var key []byte
	err = a.readSplit(ctx, a.splits[in.Split], a.cols, a.plan.batch, func(at place, b arrow.RecordBatch) error {
		a.sorter.Reset(b)
		for i := range int(b.NumRows()) {
			p := place{at.file, at.row + int64(i)}
			if rank := rankOf(p); s.wants(rank) {
				key = a.sorter.Append(key[:0], i)
				s.add(sample{rank, p, slices.Clone(key[:min(len(key), maxSampleKey)])})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.shrink()
	f, err := out.Create("samples")
	if err != nil {
		return nil, err
	}
	var buf []byte
	for _, x := range s.all {
		buf = binary.AppendUvarint(buf[:0], x.rank)
		buf = binary.AppendUvarint(buf, uint64(x.file))
		buf = binary.AppendUvarint(buf, uint64(x.row))
		buf = binary.AppendUvarint(buf, uint64(len(x.key)))
		if _, err := f.Write(append(buf, x.key...)); err != nil {
			return nil, err
		}
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return oneResult(task, fileResult{f.Name()})
}

// findSplitters samples the input and returns the bounds between partitions, ascending.
func (r *run) findSplitters(ctx context.Context, tasks []executor.Task) ([][]byte, error) {
	if len(tasks) == 0 {
		return make([][]byte, r.Spec.TotalParts-1), nil
	}
	done, err := r.ex.Execute(ctx, []executor.Stage{sampleStage{r}}, tasks)
	if err != nil {
		return nil, err
	}
	s := newSampler(r.Spec.samples())
	for _, t := range done {
		res, err := decodeTask[fileResult](t)
		if err != nil {
			return nil, err
		}
		if err := r.readSamples(res.File, s); err != nil {
			return nil, err
		}
	}
	s.shrink()
	slices.SortFunc(s.all, func(a, b sample) int { return cmp.Or(bytes.Compare(a.key, b.key), compareSamples(a, b)) })
	splitters := make([][]byte, r.Spec.TotalParts-1)
	for i := range splitters {
		if len(s.all) > 0 {
			splitters[i] = s.all[(i+1)*len(s.all)/r.Spec.TotalParts].key
		}
	}
	return splitters, nil
}

func (r *run) readSamples(name string, s *sampler) error {
	f, err := r.work.OpenCommitted(name)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		rank, err := binary.ReadUvarint(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		var vs [3]uint64
		for i := range vs {
			if err == nil {
				vs[i], err = binary.ReadUvarint(in)
			}
		}
		if err == nil && vs[2] > maxSampleKey {
			err = errors.New("a key is too long")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		x := sample{rank, place{int(vs[0]), int64(vs[1])}, make([]byte, vs[2])}
		if _, err := io.ReadFull(in, x.key); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		if s.wants(rank) {
			s.add(x)
		}
	}
}
