package corpus

import (
	"bytes"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
)

// AddedType is the type of an added column: [AddedBool], [AddedDouble], or an [IDKind] other than [NoIDs] for
// integers and byte strings of that kind.
type AddedType string

// The types of added columns that are none of ids.
const (
	AddedBool   AddedType = "bool"
	AddedDouble AddedType = "double"
)

func (t AddedType) kind() IDKind {
	if t == AddedBool || t == AddedDouble {
		return NoIDs
	}
	return IDKind(t)
}

// Added is a column that [Set.Rewrite] puts behind those of the file: in Parquet at the end of the schema, in JSON
// Lines at the end of each object.
type Added struct {
	// Name is the column's. A file that has one of this name is refused, see Options.Adds.
	Name string
	Type AddedType
	// Nullable says that there may be nulls.
	Nullable bool
	// Value returns the value of a kept row. Rows ascend within a file, and every kept row is asked for once, but each
	// column by itself: of Parquet a whole row group before the next column. Bytes are borrowed until the next call.
	// Readers of a file that has the column need no Value.
	Value func(row int64) (AddedValue, error)
}

// AddedValue is a value of an added column.
type AddedValue struct {
	Null   bool
	Int    int64 // or the bits of a uint64; of a bool 0 or 1
	Double float64
	Bytes  []byte
}

// AppendAdded appends the fields of added columns as they stand in a JSON object: with commas between and no braces.
// values belong to the columns one by one. It is also the form in which Batch.Added has them.
func AppendAdded(dst []byte, columns []Added, values ...AddedValue) []byte {
	for i, c := range columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendJSONString(dst, []byte(c.Name)), ':')
		dst = appendAddedValue(dst, c.Type, values[i])
	}
	return dst
}

func appendAddedValue(dst []byte, t AddedType, v AddedValue) []byte {
	switch kind := t.kind(); {
	case v.Null:
		return append(dst, "null"...)
	case t == AddedBool:
		return strconv.AppendBool(dst, v.Int != 0)
	case t == AddedDouble:
		if math.IsNaN(v.Double) || math.IsInf(v.Double, 0) { // which JSON has no word for
			return append(dst, "null"...)
		}
		n := len(dst)
		if dst = strconv.AppendFloat(dst, v.Double, 'g', -1, 64); !bytes.ContainsAny(dst[n:], ".e") {
			dst = append(dst, ".0"...) // so that whoever guesses types sees the same in every line
		}
		return dst
	case kind == UintIDs:
		return strconv.AppendUint(dst, uint64(v.Int), 10)
	case kind.Ints():
		return strconv.AppendInt(dst, v.Int, 10)
	}
	return appendJSONString(dst, v.Bytes)
}

// appendJSONString appends a string with the escapes it needs. Bytes that are not UTF-8 are passed on as they are,
// as they are when lines are read.
func appendJSONString(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// addToLine writes a line, whose object is valid, with fields at the end of the object.
func addToLine(w io.Writer, line, fields []byte) error {
	end := bytes.LastIndexByte(line, '}')
	comma := []byte{','}
	if before := bytes.TrimRight(line[:end], " \t\r\n"); before[len(before)-1] == '{' {
		comma = nil
	}
	for _, part := range [][]byte{line[:end], comma, fields, line[end:]} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// takeFromLine is the inverse of addToLine, given where in the line the fields begin: what stands before them and
// behind them in the line without them, and the fields.
func takeFromLine(line []byte, start int) (before, fields, behind []byte) {
	end := bytes.LastIndexByte(line, '}')
	before, fields, behind = line[:start], line[start:end], line[end:]
	return bytes.TrimSuffix(before, []byte{','}), fields, behind
}

// valuesOf asks the columns for the values of a row.
func valuesOf(columns []Added, row int64, into []AddedValue) ([]AddedValue, error) {
	into = into[:0]
	for _, c := range columns {
		v, err := c.Value(row)
		if err != nil {
			return nil, err
		}
		into = append(into, v)
	}
	return into, nil
}

// addsTwice is the error about a file that has a column which is to be added.
func addsTwice(where, what, name string) error {
	return inputError("%s: it has a %s %q already, which would be added; rename it or drop it", where, what, clip(name))
}

// clip keeps names in messages short.
func clip(name string) string {
	for len(name) > 100 {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	return name
}
