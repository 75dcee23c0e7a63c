package table

import (
	"context"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
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
	// dict says which leaf columns are worth a dictionary when they are written: those that are in one, throughout and to
	// some effect, in the first file that has rows. Elsewhere it would be made in vain.
	dict map[string]bool
	// written is the schema with the metadata of the first file. Among it is Arrow's note of the types that the columns
	// have beyond what Parquet knows: dictionaries, durations, lists of fixed size, time zones, extensions. They are read and
	// written as what Parquet knows, and the note passes through, so types that the library lacks are kept too.
	written *arrow.Schema
}

// readLayout looks at the schemas of all files.
func readLayout(ctx context.Context, set *corpus.Set, on []string) (*layout, error) {
	l := &layout{}
	var fields, noted []arrow.Field
	var meta *arrow.Metadata
	for i := range set.Files {
		f, err := readSchema(ctx, set, i)
		if err != nil {
			return nil, err
		}
		if l.dict == nil {
			l.dict = f.dict
		}
		if i == 0 {
			fields, noted, meta = f.stored, f.noted, &f.meta
			continue
		}
		if err := sameColumns(set, i, fields, f.stored); err != nil {
			return nil, err
		}
		if err := sameColumns(set, i, noted, f.noted); err != nil {
			return nil, err
		}
	}
	l.schema = arrow.NewSchema(fields, nil)
	var err error
	if l.codec, err = columns.NewCodec(l.schema); err != nil {
		return nil, fmt.Errorf("%s: %w", set.Files[0].Name, err)
	}
	l.written = arrow.NewSchema(fields, meta)
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

// fileSchema is what a file says of itself.
type fileSchema struct {
	stored []arrow.Field   // the columns as Parquet has them, without metadata
	noted  []arrow.Field   // the same with the types that are noted beside
	meta   arrow.Metadata  // of the file
	dict   map[string]bool // see layout; nil if there are no rows
}

func readSchema(ctx context.Context, set *corpus.Set, i int) (s fileSchema, err error) {
	t, err := set.OpenTable(ctx, i)
	if err != nil {
		return s, err
	}
	defer t.Close()
	err = t.Guard(-1, func() error {
		m := t.Metadata()
		kv := m.KeyValueMetadata()
		s.meta = arrow.NewMetadata(kv.Keys(), kv.Values())
		noted, err := pqarrow.FromParquet(m.Schema, &pqarrow.ArrowReadProperties{}, kv)
		if err != nil {
			return err
		}
		r, err := openReader(t)
		if err != nil {
			return err
		}
		stored, err := r.Schema()
		if err != nil {
			return err
		}
		s.stored, s.noted = bare(stored.Fields()), bare(noted.Fields())
		s.dict = inDictionaries(m)
		return nil
	})
	return s, err
}

// bare returns fields without metadata, such as the numbers that Parquet files give to columns.
func bare(fields []arrow.Field) []arrow.Field {
	out := make([]arrow.Field, len(fields))
	for i, f := range fields {
		f.Metadata = arrow.Metadata{}
		f.Type = plain(f.Type)
		out[i] = f
	}
	return out
}

// plain returns a type with bare fields.
func plain(t arrow.DataType) arrow.DataType {
	one := func(f arrow.Field) arrow.Field { return bare([]arrow.Field{f})[0] }
	switch t := t.(type) {
	case *arrow.StructType:
		return arrow.StructOf(bare(t.Fields())...)
	case *arrow.MapType:
		m := arrow.MapOfFields(one(t.KeyField()), one(t.ItemField()))
		m.KeysSorted = t.KeysSorted
		return m
	case *arrow.ListType:
		return arrow.ListOfField(one(t.ElemField()))
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
		// A dictionary of values that hardly repeat costs more than it saves: it is most of what it stands for.
		if size := chunk.DataPageOffset() - chunk.DictionaryPageOffset(); 2*size > chunk.TotalCompressedSize() {
			all = false
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

// openReader makes the reader that turns Parquet into Arrow, without the types that are noted beside the schema. Pages are read
// one by one rather than column chunks as wholes.
func openReader(t *corpus.Table) (*pqarrow.FileReader, error) {
	t.Metadata().FileMetaData.KeyValueMetadata = nil
	props := parquet.NewReaderProperties(arrays)
	props.BufferedStreamEnabled = true
	props.BufferSize = 64 << 10
	r, err := file.NewParquetReader(t.Reader(), file.WithReadProps(props), file.WithMetadata(t.Metadata()))
	if err != nil {
		return nil, err
	}
	return pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, arrays)
}
