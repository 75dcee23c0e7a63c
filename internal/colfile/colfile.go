// Package colfile is the format of work files: columns of uint64 and of byte strings, written once from
// front to back in blocks of rows, each column of a block under its own CRC32C, so that a reader takes
// only the columns it needs and notices a changed byte before it uses it.
//
// A file is
//
//	"DVTLCOL1"                        8 bytes
//	column data                       block after block, in the order of the columns
//	index                             see below
//	length of the index               uint32
//	CRC32C of the index               uint32
//	"DVTLCOL1"                        8 bytes
//
// and the index is a sequence of unsigned varints: number of columns; per column the kind and the length
// of its name, then the name; number of blocks; per block the number of rows, and per column the length
// of its data and its CRC32C. Offsets are sums of lengths. All integers are little-endian.
//
// A uint64 column is stored relative to its smallest value in the fewest of 0, 1, 2, 4 or 8 bytes per
// row: data = width (1 byte), smallest value (8 bytes), rows x width bytes. A constant column costs 9
// bytes, and ordinals of one file cost four bytes each. A bytes column is the rows' lengths, stored like
// a uint64 column, followed by the bytes.
//
// Files are not meant to outlive the run that wrote them; there is no schema evolution.
package colfile

import (
	"errors"
	"hash/crc32"
)

const magic = "DVTLCOL1"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt is wrapped by errors that mean a file is not what its writer wrote.
var ErrCorrupt = errors.New("work file is damaged")

// Kind is the type of a column.
type Kind uint8

// The kinds of column.
const (
	Uint64 Kind = 1
	Bytes  Kind = 2
)

// Column names a column and its kind.
type Column struct {
	Name string
	Kind Kind
}

// limits that an index read from a file must keep; a writer never comes near them.
const (
	maxColumns   = 1 << 12
	maxName      = 1 << 10
	maxBlockRows = 1 << 31
	tailSize     = 4 + 4 + len(magic)
)
