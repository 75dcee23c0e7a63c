package corpus

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// parquetColumns are the indexes of the wanted leaf columns in a file, -1 for those not wanted.
type parquetColumns struct {
	text, keep, id int
	kept           KeepKind
	idKind         IDKind
}

// findColumns looks up the columns that o names and checks that their types will do.
func findColumns(sc *schema.Schema, o Options) (parquetColumns, error) {
	c := parquetColumns{text: -1, keep: -1, id: -1}
	if o.Tables {
		return c, nil
	}
	var err error
	if c.text, err = findColumn(sc, o.TextField, "a text", isText); err != nil {
		return c, err
	}
	if o.KeepField != "" {
		if c.keep, err = findColumn(sc, o.KeepField, "a value to compare documents by", isNumber); err != nil {
			return c, err
		}
		c.kept, _ = columnKeep(sc.Column(c.keep))
	}
	if o.IDField != "" {
		if c.id, err = findColumn(sc, o.IDField, "an id", isID); err != nil {
			return c, err
		}
		c.idKind = columnIDs(sc.Column(c.id))
	}
	return c, nil
}

// findColumn returns the index of the leaf column at a path. A column at the top level whose name has
// dots goes before a nested one.
func findColumn(sc *schema.Schema, name, role string, suits func(*schema.Column) bool) (int, error) {
	at := -1
	for i := range sc.NumColumns() {
		if sc.Column(i).Path() == name && (at < 0 || len(sc.Column(i).ColumnPath()) == 1) {
			at = i
		}
	}
	if at < 0 {
		for i := range sc.Root().NumFields() {
			if f := sc.Root().Field(i); f.Name() == name {
				return 0, unsuitable(sc, name, "has type "+nodeType(f), role)
			}
		}
		return 0, fmt.Errorf("no column %q; the columns are %s", name, columnList(sc))
	}
	col := sc.Column(at)
	if col.MaxRepetitionLevel() > 0 {
		return 0, unsuitable(sc, name, "is inside a list or map", role)
	}
	if !suits(col) && !isNull(col) {
		return 0, unsuitable(sc, name, "has type "+leafType(col), role)
	}
	return at, nil
}

func unsuitable(sc *schema.Schema, name, why, role string) error {
	return fmt.Errorf("column %q %s and cannot be %s; the columns are %s", name, why, role, columnList(sc))
}

// columnList lists the columns at the top level with their types.
func columnList(sc *schema.Schema) string {
	var b strings.Builder
	root := sc.Root()
	for i := range root.NumFields() {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == 30 {
			fmt.Fprintf(&b, "and %d more", root.NumFields()-i)
			break
		}
		fmt.Fprintf(&b, "%s (%s)", root.Field(i).Name(), nodeType(root.Field(i)))
	}
	return b.String()
}

func nodeType(n schema.Node) string {
	switch n := n.(type) {
	case *schema.PrimitiveNode:
		t := primitiveType(n.PhysicalType(), n.LogicalType())
		if n.RepetitionType() == parquet.Repetitions.Repeated {
			return "list of " + t
		}
		return t
	case *schema.GroupNode:
		switch n.LogicalType().(type) {
		case schema.ListLogicalType:
			return "list"
		case schema.MapLogicalType:
			return "map"
		}
		if n.RepetitionType() == parquet.Repetitions.Repeated {
			return "list of structs"
		}
	}
	return "struct"
}

func leafType(c *schema.Column) string { return primitiveType(c.PhysicalType(), c.LogicalType()) }

func primitiveType(p parquet.Type, l schema.LogicalType) string {
	switch t := l.(type) {
	case nil, schema.NoLogicalType, schema.UnknownLogicalType:
	case schema.IntLogicalType:
		if t.IsSigned() {
			return fmt.Sprintf("int%d", t.BitWidth())
		}
		return fmt.Sprintf("uint%d", t.BitWidth())
	case schema.TimestampLogicalType:
		return "timestamp"
	case schema.TimeLogicalType:
		return "time"
	default:
		if l.IsValid() && !l.IsNone() {
			return strings.ToLower(l.String())
		}
	}
	switch p {
	case parquet.Types.ByteArray:
		return "binary"
	case parquet.Types.Boolean:
		return "bool"
	}
	return strings.ToLower(p.String())
}

// isNull reports a column of Arrow's null type, which writers make of a column without a single value.
func isNull(c *schema.Column) bool {
	_, null := c.LogicalType().(schema.NullLogicalType)
	return null
}

func isText(c *schema.Column) bool {
	if c.PhysicalType() != parquet.Types.ByteArray {
		return false
	}
	switch c.LogicalType().(type) {
	case schema.DecimalLogicalType:
		return false
	}
	return true
}

func isID(c *schema.Column) bool { return columnIDs(c) != NoIDs }

// columnIDs returns the kind of the ids in a column, NoIDs if there can be none.
func columnIDs(c *schema.Column) IDKind {
	plain, unsigned, text, uuid := false, false, false, false
	switch t := c.LogicalType().(type) {
	case nil, schema.NoLogicalType, schema.UnknownLogicalType:
		plain = true
	case schema.IntLogicalType:
		plain, unsigned = true, !t.IsSigned() && t.BitWidth() == 64
	case schema.StringLogicalType, schema.EnumLogicalType, schema.JSONLogicalType:
		text = true
	case schema.UUIDLogicalType:
		uuid = true
	}
	switch c.PhysicalType() {
	case parquet.Types.Int32, parquet.Types.Int64:
		switch {
		case unsigned:
			return UintIDs
		case plain:
			return IntIDs
		}
	case parquet.Types.ByteArray:
		switch {
		case text:
			return StringIDs
		case isText(c):
			return BinaryIDs
		}
	case parquet.Types.FixedLenByteArray:
		switch {
		case uuid && c.TypeLength() == 16:
			return UUIDs
		case plain && c.TypeLength() > 0:
			return fixedIDs(c.TypeLength())
		}
	}
	return NoIDs
}

func isNumber(c *schema.Column) bool {
	_, ok := columnKeep(c)
	return ok
}
