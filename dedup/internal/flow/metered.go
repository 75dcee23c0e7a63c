package flow

import (
	"context"
	"io"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/executor"
)

// Metered returns a file system that is fs, and counts the time of reads as reading by the attempt that asked for them.
func Metered(fs corpus.FS) corpus.FS {
	if _, ok := fs.(meteredFS); ok {
		return fs
	}
	return meteredFS{fs}
}

type meteredFS struct{ corpus.FS }

func (f meteredFS) Open(ctx context.Context, name string) (corpus.Object, error) {
	o, err := f.FS.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return meteredObject{o, executor.ReaderAt(ctx, o)}, nil
}

type meteredObject struct {
	corpus.Object
	at io.ReaderAt
}

func (o meteredObject) ReadAt(b []byte, off int64) (int, error) { return o.at.ReadAt(b, off) }
