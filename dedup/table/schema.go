package table

import (
	"context"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/shuffle/columns"
)

// layout is what all files of the input have in common.
type layout struct {
	schema *arrow.Schema
	codec  *columns.Codec
	keys   []int
	// dict says which leaf columns are worth a dictionary when they are written: those that are in one, throughout, in
	// the first file that has rows. Elsewhere it would be made in vain.
	dict map[string]bool
	// numbered says that a column has dictionaries, whose numbers mean something.
	numbered bool
}

// readLayout looks at the schemas of all files.
func readLayout(ctx context.Context, set *corpus.Set, on []string) (*layout, error) {
	l := &layout{}
	var fields []arrow.Field
	for i := range set.Files {
		f, dict, err := readSchema(ctx, set, i)
		if err != nil {
			return nil, err
		}
		if l.dict == nil {
			l.dict = dict
		}
		if fields == nil {
			fields = f
			continue
		}
		if err := sameColumns(set, i, fields, f); err != nil {
			return nil, err
		}
	}
	l.schema = arrow.NewSchema(fields, nil)
	var err error
	if l.codec, err = columns.NewCodec(l.schema); err != nil {
		return nil, fmt.Errorf("%s: %w", set.Files[0].Name, err)
	}
	l.numbered = l.codec.Dictionaries()
	for _, name := range on {
		at := l.schema.FieldIndices(name)
		switch {
		case len(at) == 0:
			return nil, fmt.Errorf("--on: %s has no column %q; its columns are %s", set.Files[0].Name, name, names(fields))
		case len(at) > 1:
			return nil, fmt.Errorf("--on: %s has %d columns %q; rename all but one", set.Files[0].Name, len(at), name)
		}
		l.keys = append(l.keys, at[0])
	}
	return l, nil
}

func names(fields []arrow.Field) string {
	var out []string
	for i, f := range fields {
		if i == 30 {
			out = append(out, fmt.Sprintf("and %d more", len(fields)-i))
			break
		}
		out = append(out, fmt.Sprintf("%s (%s)", f.Name, f.Type))
	}
	return strings.Join(out, ", ")
}

// readSchema returns the columns of a file, without metadata, and which leaves are in dictionaries; nil if it has no rows.
func readSchema(ctx context.Context, set *corpus.Set, i int) (fields []arrow.Field, dict map[string]bool, err error) {
	t, err := set.OpenTable(ctx, i)
	if err != nil {
		return nil, nil, err
	}
	defer t.Close()
	err = t.Guard(-1, func() error {
		r, err := openReader(t)
		if err != nil {
			return err
		}
		schema, err := r.Schema()
		if err != nil {
			return err
		}
		for _, f := range schema.Fields() {
			f.Metadata = arrow.Metadata{}
			f.Type = plain(f.Type)
			fields = append(fields, f)
		}
		dict = inDictionaries(t.Metadata())
		return nil
	})
	return fields, dict, err
}

// plain returns a type without the metadata of its fields, such as the numbers that Parquet files give to columns.
func plain(t arrow.DataType) arrow.DataType {
	bare := func(f arrow.Field) arrow.Field {
		f.Metadata = arrow.Metadata{}
		f.Type = plain(f.Type)
		return f
	}
	switch t := t.(type) {
	case *arrow.StructType:
		fs := make([]arrow.Field, t.NumFields())
		for i, f := range t.Fields() {
			fs[i] = bare(f)
		}
		return arrow.StructOf(fs...)
	case *arrow.MapType:
		k, v := bare(t.KeyField()), bare(t.ItemField())
		m := arrow.MapOfFields(k, v)
		m.KeysSorted = t.KeysSorted
		return m
	case *arrow.ListType:
		return arrow.ListOfField(bare(t.ElemField()))
	case *arrow.LargeListType:
		return arrow.LargeListOfField(bare(t.ElemField()))
	case *arrow.FixedSizeListType:
		return arrow.FixedSizeListOfField(t.Len(), bare(t.ElemField()))
	}
	return t
}

// dictionaryPage is the PageType of the Parquet format, whose constants the library does not export.
const dictionaryPage = 2

func inDictionaries(meta *metadata.FileMetaData) map[string]bool {
	if meta.NumRowGroups() == 0 || meta.GetNumRows() == 0 {
		return nil
	}
	dict := make(map[string]bool)
	rg := meta.RowGroup(0)
	for c := range rg.NumColumns() {
		chunk, err := rg.ColumnChunk(c)
		if err != nil || !chunk.HasDictionaryPage() {
			continue
		}
		all := true
		for _, s := range chunk.EncodingStats() {
			data := s.PageType != dictionaryPage
			if data && s.Encoding != parquet.Encodings.PlainDict && s.Encoding != parquet.Encodings.RLEDict {
				all = false
			}
		}
		dict[meta.Schema.Column(c).Path()] = all
	}
	return dict
}

// sameColumns compares the columns of file i with those of the first file.
func sameColumns(set *corpus.Set, i int, first, f []arrow.Field) error {
	name, was := set.Files[i].Name, set.Files[0].Name
	for k := range max(len(first), len(f)) {
		switch {
		case k >= len(f):
			return fmt.Errorf("%s lacks the column %q that %s has; all files must have the same columns", name, first[k].Name, was)
		case k >= len(first):
			return fmt.Errorf("%s has a column %q that %s lacks; all files must have the same columns", name, f[k].Name, was)
		case f[k].Name != first[k].Name:
			return fmt.Errorf("%s: column %d is %q, in %s it is %q; all files must have the same columns in the same order",
				name, k+1, f[k].Name, was, first[k].Name)
		case !arrow.TypeEqual(f[k].Type, first[k].Type):
			return fmt.Errorf("%s: column %q has type %s, in %s it has type %s; convert one of them",
				name, f[k].Name, f[k].Type, was, first[k].Type)
		}
		first[k].Nullable = first[k].Nullable || f[k].Nullable
	}
	return nil
}

// openReader makes the reader that turns Parquet into Arrow. Pages are read one by one rather than column chunks as wholes.
func openReader(t *corpus.Table) (*pqarrow.FileReader, error) {
	props := parquet.NewReaderProperties(memory.DefaultAllocator)
	props.BufferedStreamEnabled = true
	props.BufferSize = 64 << 10
	r, err := file.NewParquetReader(t.Reader(), file.WithReadProps(props), file.WithMetadata(t.Metadata()))
	if err != nil {
		return nil, err
	}
	return pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
}
