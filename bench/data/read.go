package data

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// errEnough ends reading early.
var errEnough = errors.New("enough")

// Each calls f with the documents of a set in the order of their ids, until it returns false. The texts are f's to keep.
func (s *Set) Each(f func(Doc) bool) error {
	for _, name := range s.Files {
		err := eachDoc(filepath.Join(s.dir, name.Name), f)
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func eachDoc(path string, f func(Doc) bool) error {
	r, err := file.OpenParquetFile(path, false)
	if err != nil {
		return err
	}
	defer r.Close()
	a, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{BatchSize: groupRows}, memory.DefaultAllocator)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	batches, err := a.GetRecordReader(context.Background(), nil, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer batches.Release()
	for batches.Next() {
		b := batches.RecordBatch()
		text, okText := b.Column(1).(*array.String)
		source, okSource := b.Column(2).(*array.String)
		if !okText || !okSource {
			return fmt.Errorf("%s: not columns of strings", path)
		}
		for i := range int(b.NumRows()) {
			if !f(Doc{Source: strings.Clone(source.Value(i)), Text: strings.Clone(text.Value(i))}) {
				return errEnough
			}
		}
	}
	if err := batches.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// WriteDocs writes documents to a Parquet file as those of sets are written, with ids from 0.
func WriteDocs(path string, docs []Doc) error {
	return writeParquet(path, schema, len(docs), groupRows, func(b *array.RecordBuilder, from, to int) {
		for k := from; k < to; k++ {
			b.Field(0).(*array.Int64Builder).Append(int64(k))
			b.Field(1).(*array.StringBuilder).Append(docs[k].Text)
			b.Field(2).(*array.StringBuilder).Append(docs[k].Source)
		}
	})
}
