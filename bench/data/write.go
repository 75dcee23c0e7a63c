package data

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/zeebo/xxh3"
)

// Doc is a document.
type Doc struct {
	Source string // where it is from
	Text   string
}

// Files and row groups of a set are such that two workers have something to do at every size.
const (
	setFiles    = 4
	groupRows   = 4096
	tableGroups = 1 << 17 // of rows without text
)

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	{Name: "text", Type: arrow.BinaryTypes.String},
	{Name: "source", Type: arrow.BinaryTypes.String},
}, nil)

// shuffled orders documents by a hash of their source, so that similar ones are apart, and drops what is not text.
func shuffled(docs []Doc) []Doc {
	docs = slices.DeleteFunc(docs, func(d Doc) bool { return strings.ContainsRune(d.Text, 0) })
	slices.SortFunc(docs, func(a, b Doc) int {
		if x, y := xxh3.HashString(a.Source), xxh3.HashString(b.Source); x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Source, b.Source)
	})
	return docs
}

// write makes the files of a set from documents, whose ids are their places, and its manifest.
func (s *Set) write(dir string, docs []Doc) error {
	out, err := emptyDir(dir, s.Name)
	if err != nil {
		return err
	}
	s.Documents = int64(len(docs))
	per := (len(docs) + setFiles - 1) / setFiles
	for i := range setFiles {
		first, end := min(i*per, len(docs)), min((i+1)*per, len(docs))
		path := filepath.Join(out, fmt.Sprintf("part-%05d.parquet", i))
		if err := writeParquet(path, schema, end-first, groupRows, func(b *array.RecordBuilder, from, to int) {
			for k := first + from; k < first+to; k++ {
				b.Field(0).(*array.Int64Builder).Append(int64(k))
				b.Field(1).(*array.StringBuilder).Append(docs[k].Text)
				b.Field(2).(*array.StringBuilder).Append(docs[k].Source)
				s.TextBytes += int64(len(docs[k].Text))
			}
		}); err != nil {
			return err
		}
	}
	return s.finish(dir)
}

func emptyDir(dir, name string) (string, error) {
	out := setDir(dir, name)
	if err := os.RemoveAll(out); err != nil {
		return "", err
	}
	return out, os.MkdirAll(out, 0o777)
}

// writeParquet writes rows in groups, which fill adds to a builder.
func writeParquet(path string, schema *arrow.Schema, rows, group int, fill func(b *array.RecordBuilder, from, to int)) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd), parquet.WithDictionaryDefault(false),
		parquet.WithMaxRowGroupLength(int64(group)), parquet.WithStats(true))
	w, err := pqarrow.NewFileWriter(schema, f, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return err
	}
	defer func() {
		if e := w.Close(); err == nil { // closes the file too
			err = e
		}
	}()
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for from := 0; from < rows; from += group {
		fill(b, from, min(from+group, rows))
		batch := b.NewRecordBatch()
		err := w.Write(batch)
		batch.Release()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}
