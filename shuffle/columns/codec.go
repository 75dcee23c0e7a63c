package columns

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
)

// ErrUnsupported means that a column's type cannot be packed or hashed.
var ErrUnsupported = errors.New("unsupported column type")

// Codec packs and unpacks batches of one schema. It is immutable and safe for concurrent use.
type Codec struct {
	schema      *arrow.Schema
	columns     []*node
	nodes       int // including children
	buffers     int
	fingerprint uint64
	meta        []byte
}

// shape is how a type is laid out.
type shape uint8

const (
	shapeNull      shape = iota // no buffers
	shapeBool                   // bits
	shapeFixed                  // width bytes each
	shapeBinary                 // offsets of width 4 or 8, bytes
	shapeList                   // offsets of width 4 or 8, one child
	shapeFixedList              // width items each, one child
	shapeStruct                 // children
	shapeDict                   // indices of width bytes, the values as child
	shapeView                   // headers of 16 bytes, and the bytes that do not fit into them
	shapeListView               // offsets and lengths of width 4 or 8, one child
	shapeRuns                   // run ends of width 2, 4 or 8, the values as child
	shapeSparse                 // type codes, children of as many elements
	shapeDense                  // type codes, offsets, children
)

// valid reports whether arrays of the shape have a validity of their own.
func (s shape) valid() bool {
	return s != shapeNull && s != shapeRuns && s != shapeSparse && s != shapeDense
}

// free reports whether a node may have any number of elements without a byte for each of them.
func (n *node) free() bool {
	switch n.shape {
	case shapeNull, shapeRuns:
		return true
	case shapeFixedList:
		return n.width == 0 || n.kids[0].free()
	case shapeStruct:
		return !slices.ContainsFunc(n.kids, func(k *node) bool { return !k.free() })
	}
	return false
}

// maxElements is how many elements of a node may be in one chunk. Where elements need no bytes, a few bytes could
// otherwise stand for more elements than whoever reads them has memory to look at.
func (n *node) maxElements() uint64 {
	switch {
	case n.shape == shapeRuns && n.width == 2:
		return math.MaxInt16
	case n.free() && n.shape != shapeNull: // nulls are never looked at one by one
		return 1 << 24
	}
	return math.MaxInt32
}

// buffersOf is the number of buffers by shape.
var buffersOf = [...]int{
	shapeNull: 0, shapeBool: 2, shapeFixed: 2, shapeBinary: 3,
	shapeList: 2, shapeFixedList: 1, shapeStruct: 1, shapeDict: 2,
	shapeView: 3, shapeListView: 3, shapeRuns: 1, shapeSparse: 1, shapeDense: 2,
}

// node is a column or part of one.
type node struct {
	path  string         // for messages
	dtype arrow.DataType // of the array; of the storage for an extension type
	outer arrow.DataType // the extension type, or nil
	shape shape
	width int
	kids  []*node
	whole bool  // may have no nulls: the entries and keys of a map
	union bool  // it is a union or has one below
	child []int // of a union: the child by type code, or -1
}

// NewCodec returns a codec for batches of a schema. It fails with [ErrUnsupported], naming the field, for
// dictionaries whose values are or contain unions, which Arrow cannot merge, and for whatever Arrow adds later.
func NewCodec(schema *arrow.Schema) (*Codec, error) {
	c := &Codec{schema: schema}
	for _, f := range schema.Fields() {
		n, err := newNode(f.Name, f.Type)
		if err != nil {
			return nil, err
		}
		c.columns = append(c.columns, n)
		c.count(n)
	}
	h := fnv.New64a()
	fmt.Fprint(h, schema.NumFields())
	for _, f := range schema.Fields() {
		fmt.Fprintf(h, "\n%q %s", f.Name, f.Type)
	}
	c.fingerprint = h.Sum64()
	c.meta = Meta()
	return c, nil
}

// Schema returns the schema of the batches.
func (c *Codec) Schema() *arrow.Schema { return c.schema }

func (c *Codec) count(n *node) {
	c.nodes++
	c.buffers += buffersOf[n.shape]
	for _, k := range n.kids {
		c.count(k)
	}
}

func newNode(path string, dt arrow.DataType) (*node, error) {
	n := &node{path: path, dtype: dt}
	for ext, ok := dt.(arrow.ExtensionType); ok; ext, ok = n.dtype.(arrow.ExtensionType) {
		n.outer, n.dtype = dt, ext.StorageType()
	}
	kids := func(fields ...arrow.Field) error {
		for _, f := range fields {
			k, err := newNode(path+"."+f.Name, f.Type)
			if err != nil {
				return err
			}
			n.kids = append(n.kids, k)
			n.union = n.union || k.union
		}
		return nil
	}
	switch t := n.dtype.(type) {
	case *arrow.NullType:
		n.shape = shapeNull
	case *arrow.BooleanType:
		n.shape = shapeBool
	case *arrow.StringType, *arrow.BinaryType:
		n.shape, n.width = shapeBinary, 4
	case *arrow.LargeStringType, *arrow.LargeBinaryType:
		n.shape, n.width = shapeBinary, 8
	case *arrow.ListType:
		n.shape, n.width = shapeList, 4
		return n, kids(t.ElemField())
	case *arrow.LargeListType:
		n.shape, n.width = shapeList, 8
		return n, kids(t.ElemField())
	case *arrow.MapType:
		n.shape, n.width = shapeList, 4
		if err := kids(arrow.Field{Name: "entries", Type: t.Elem()}); err != nil {
			return nil, err
		}
		n.kids[0].whole, n.kids[0].kids[0].whole = true, true
	case *arrow.FixedSizeListType:
		n.shape, n.width = shapeFixedList, int(t.Len())
		return n, kids(t.ElemField())
	case *arrow.StructType:
		n.shape = shapeStruct
		return n, kids(t.Fields()...)
	case *arrow.DictionaryType:
		n.shape, n.width = shapeDict, t.Bytes()
		if err := kids(arrow.Field{Name: "dictionary", Type: t.ValueType}); err != nil {
			return nil, err
		}
		if n.union {
			return nil, fmt.Errorf("columns: field %s has type %s: %w", path, dt, ErrUnsupported)
		}
	case arrow.BinaryViewDataType:
		n.shape, n.width = shapeView, arrow.ViewHeaderSizeBytes
	case *arrow.ListViewType:
		n.shape, n.width = shapeListView, 4
		return n, kids(t.ElemField())
	case *arrow.LargeListViewType:
		n.shape, n.width = shapeListView, 8
		return n, kids(t.ElemField())
	case *arrow.RunEndEncodedType:
		ends, ok := t.RunEnds().(arrow.FixedWidthDataType)
		if !ok {
			return nil, fmt.Errorf("columns: field %s has type %s: %w", path, dt, ErrUnsupported)
		}
		n.shape, n.width = shapeRuns, ends.Bytes()
		return n, kids(arrow.Field{Name: "values", Type: t.Encoded()})
	case arrow.UnionType:
		n.shape, n.union, n.child = shapeSparse, true, t.ChildIDs()
		if t.Mode() == arrow.DenseMode {
			n.shape = shapeDense
		}
		return n, kids(t.Fields()...)
	case arrow.FixedWidthDataType: // after those above that are fixed-width too
		n.shape, n.width = shapeFixed, t.Bytes()
	default:
		return nil, fmt.Errorf("columns: field %s has type %s: %w", path, dt, ErrUnsupported)
	}
	return n, nil
}

// Meta returns the Meta of every chunk, for programs that keep chunks by themselves.
func Meta() []byte { return []byte("columns/1") }
