package bench

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// readWorkload is reading texts and signing them, beside reading them and doing nothing. Both take the processor time of the
// whole process, so what a reader does ahead in other threads counts too.
func readWorkload(ctx context.Context, e *Env) (*Workload, error) {
	dir, from, bytes, _, err := e.input(ctx, "code")
	if err != nil {
		return nil, err
	}
	set, err := corpus.Resolve(ctx, corpus.Local(), []string{dir}, corpus.Options{TextField: "text"})
	if err != nil {
		return nil, err
	}
	k, err := lsh.NewCPU(lsh.DefaultParams())
	if err != nil {
		return nil, err
	}
	side := func(each func(context.Context, *corpus.Batch) error) func(context.Context) (Sample, error) {
		return func(ctx context.Context) (Sample, error) {
			if err := e.settle(dir); err != nil {
				return nil, err
			}
			took, err := processorTime(func() error { return eachBatch(ctx, set, each) })
			return perCPU(bytes, took), err
		}
	}
	return &Workload{
		Name: "read", Data: from,
		Sides: []Side{
			{Name: "keys", About: "read, sign, band keys", Run: side(func(ctx context.Context, b *corpus.Batch) error { return keysOf(ctx, k, b) })},
			{Name: "read", About: "read and do nothing", Run: side(func(context.Context, *corpus.Batch) error { return nil })},
		},
		Ratios: []Ratio{{What: "read + sign + band keys, per core, of reading the same files", Of: "keys", By: "read", Unit: PerCPU,
			Target: Target{AtLeast: 0.4}}},
		Close: func() {
			if filepath.Dir(dir) == filepath.Clean(e.Scratch) {
				_ = os.RemoveAll(dir) // scratch is removed as a whole anyway
			}
		},
	}, nil
}

// eachBatch reads a set with the reader that dedup uses.
func eachBatch(ctx context.Context, set *corpus.Set, f func(context.Context, *corpus.Batch) error) error {
	r, err := set.Open(corpus.Split{Last: len(set.Files) - 1, Size: set.Size()}, corpus.ReadOptions{Columns: corpus.ColumnText})
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		b, err := r.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		err = f(ctx, b)
		b.Release()
		if err != nil {
			return err
		}
	}
}

// keysOf signs a batch and makes its band keys, and drops them.
func keysOf(ctx context.Context, k *lsh.CPU, b *corpus.Batch) error {
	p, rows := k.Params(), b.Text.Rows
	signatures, err := mem.Host().Alloc(p.SignatureBytes(rows))
	if err != nil {
		return err
	}
	defer signatures.Release()
	keys, err := mem.Host().Alloc(p.BandKeyBytes(rows))
	if err != nil {
		return err
	}
	defer keys.Release()
	if _, err := k.Sign(ctx, &b.Text, signatures); err != nil {
		return err
	}
	f, err := k.BandKeys(ctx, signatures, rows, keys)
	if err != nil {
		return err
	}
	return f.Wait(ctx)
}
