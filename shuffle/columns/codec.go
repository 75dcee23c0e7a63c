package columns

import (
	"errors"
	"fmt"
	"hash/fnv"

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
)

// buffersOf is the number of buffers by shape.
var buffersOf = [...]int{
	shapeNull: 0, shapeBool: 2, shapeFixed: 2, shapeBinary: 3,
	shapeList: 2, shapeFixedList: 1, shapeStruct: 1, shapeDict: 2,
}

// node is a column or part of one.
type node struct {
	path  string         // for messages
	dtype arrow.DataType // of the array; of the storage for an extension type
	outer arrow.DataType // the extension type, or nil
	shape shape
	width int
	kids  []*node
	whole bool // may have no nulls: the entries and keys of a map
}

// NewCodec returns a codec for batches of a schema. It fails with [ErrUnsupported], naming the field, for
// unions, views, run-end encoding and whatever Arrow adds later.
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
	c.meta = []byte("columns/1")
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
	if ext, ok := dt.(arrow.ExtensionType); ok {
		n.outer, n.dtype = dt, ext.StorageType()
	}
	kids := func(fields ...arrow.Field) error {
		for _, f := range fields {
			k, err := newNode(path+"."+f.Name, f.Type)
			if err != nil {
				return err
			}
			n.kids = append(n.kids, k)
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
		return n, kids(arrow.Field{Name: "dictionary", Type: t.ValueType})
	case arrow.FixedWidthDataType: // after those above that are fixed-width too
		n.shape, n.width = shapeFixed, t.Bytes()
	default:
		return nil, fmt.Errorf("columns: field %s has type %s: %w", path, dt, ErrUnsupported)
	}
	return n, nil
}
