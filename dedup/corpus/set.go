package corpus

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Format is the form of the files of a set.
type Format string

// The formats.
const (
	Parquet Format = "parquet"
	JSONL   Format = "jsonl"
	Files   Format = "files"
)

// Compression is how a JSON Lines file is compressed. Compression inside Parquet is not its business.
type Compression string

// The compressions.
const (
	Uncompressed Compression = ""
	Gzip         Compression = "gz"
	Zstd         Compression = "zst"
)

// Limits of a set. They follow from the layout of an ordinal.
const (
	MaxFiles = 1 << 31 // files in a set
	MaxRows  = 1 << 32 // rows or lines in a file
)

// Ordinal returns the ordinal of a document: the index of its file in the high half, its row in the low.
func Ordinal(file int, row int64) uint64 { return uint64(file)<<32 | uint64(row) }

// SplitOrdinal is the inverse of [Ordinal].
func SplitOrdinal(ord uint64) (file int, row int64) {
	return int(ord >> 32), int64(ord & (MaxRows - 1))
}

// Options say what the files are and which of their fields matter. They decide results; all but Workers
// belong to the identity of a run.
type Options struct {
	// Format is the format of all inputs; empty means: by the names of the files, which must agree.
	Format Format `json:"format,omitempty"`
	// TextField is the column or JSON field with the text; empty means "text". For [Files] it is ignored. A
	// name with dots is that of a nested field, unless there is a field with the whole name at the top level.
	TextField string `json:"text_field,omitempty"`
	// IDField is the column or JSON field with the user's document id; empty means there is none.
	IDField string `json:"id_field,omitempty"`
	// KeepField is the column or JSON field that says which of several documents is kept: the one with the
	// larger value. Empty means there is none.
	KeepField string `json:"keep_field,omitempty"`
	// Tables says that the files are Parquet tables rather than documents: no column is looked for, and the files
	// are read with [Set.OpenTable].
	Tables bool `json:"tables,omitempty"`
	// SkipFiles leaves files out that are damaged or lack a column, and SkipRecords single lines and rows that
	// cannot be used, instead of failing. See File.Bad and Batch.Bad.
	SkipFiles   bool `json:"skip_files,omitempty"`
	SkipRecords bool `json:"skip_records,omitempty"`
	// Adds are the names of fields that are going to be added to the files, see [Added]: a file that has one of them at
	// its top level is an error that wraps [ErrInput], which nothing skips. Parquet files are looked at by Resolve, lines
	// when they are read.
	Adds []string `json:"adds,omitempty"`
	// Workers bounds how many files are looked at or counted at a time; 0 means GOMAXPROCS. It never
	// changes a result.
	Workers int `json:"-"`
}

// File is one file of a set, as it was when the set was resolved.
type File struct {
	// Index is the position in Set.Files.
	Index int `json:"index"`
	// Path is the slash-separated path relative to the file's input root, unique in the set. It is also the
	// path of the rewritten file in an output folder. It has no "." or ".." parts.
	Path string `json:"path"`
	// Name is what the file system opens, and what messages say.
	Name string `json:"name"`
	// Format and Compression are how the file is read.
	Format      Format      `json:"format"`
	Compression Compression `json:"compression,omitempty"`
	// Size is the length in bytes, ModTime the time of the last change, Mode the permission bits.
	Size    int64       `json:"size"`
	ModTime time.Time   `json:"mtime"`
	Mode    fs.FileMode `json:"mode"`
	// Footer is the hex SHA-256 of the Parquet footer (metadata and its length), or of the length and the
	// first and last 64 KiB of any other file.
	Footer string `json:"footer"`
	// Rows is the number of rows of a Parquet file, 1 for a file of format Files, and -1 (unknown) otherwise.
	Rows int64 `json:"rows"`
	// Reference marks a file of a reference set, whose documents others are compared with.
	Reference bool `json:"reference,omitempty"`
	// Work is about how many bytes of wanted columns reading the file yields, for scheduling.
	Work int64 `json:"work"`
	// Bad says why the file is left out, if it is: no split has its rows, and readers pass over it. Resolve finds what
	// the footer and the beginning of files tell; whoever reads the rest and comes upon a [FileError] for which
	// BadFile is true sets it. The file keeps its index.
	Bad string `json:"bad,omitempty"`
}

// IDKind is the type of the values of the id field.
type IDKind string

// The kinds of ids. A set has one of them, or "binary[N]" for byte strings of N bytes each. Integers of fewer
// bits are of kind IntIDs, and byte strings that the file does not call text are BinaryIDs.
const (
	NoIDs     IDKind = ""
	IntIDs    IDKind = "int64"
	UintIDs   IDKind = "uint64"
	StringIDs IDKind = "string"
	BinaryIDs IDKind = "binary"
	UUIDs     IDKind = "uuid" // 16 bytes each
)

// Ints reports whether ids are in IDs.Int.
func (k IDKind) Ints() bool { return k == IntIDs || k == UintIDs }

// Bytes reports whether ids are in IDs.String.
func (k IDKind) Bytes() bool { return k != NoIDs && !k.Ints() }

// Width returns the length that every id has; 0 stands for any.
func (k IDKind) Width() int {
	if k == UUIDs {
		return 16
	}
	s, _ := strings.CutPrefix(string(k), "binary[")
	n, err := strconv.Atoi(strings.TrimSuffix(s, "]"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func fixedIDs(width int) IDKind { return IDKind(fmt.Sprintf("binary[%d]", width)) }

// Set is a resolved collection. It may be written as JSON and read back in another process, which then sets
// FS before use.
type Set struct {
	FS      FS      `json:"-"`
	Format  Format  `json:"format"`
	Options Options `json:"options"`
	IDKind  IDKind  `json:"id_kind,omitempty"` // NoIDs unless Options.IDField is set and there is a document
	// Keep says how values of Options.KeepField become keys. It means nothing for JSON Lines.
	Keep  KeepKind `json:"keep,omitzero"`
	Files []File   `json:"files"`
	// References is the number of files at the start of Files that are a reference set; see [Join].
	References int     `json:"references,omitempty"`
	Aliases    []Alias `json:"aliases,omitempty"` // names left out because they are other names of a file in Files
	// Warnings are what the user should be told though it is no error, one line each.
	Warnings []string `json:"warnings,omitempty"`
}

// Alias is a second name under which inputs contained a file that is in the set already.
type Alias struct {
	Name string `json:"name"` // the name left out
	Of   string `json:"of"`   // File.Name of the file it is
}

// Size returns the bytes of all files as they are stored.
func (s *Set) Size() int64 {
	var n int64
	for i := range s.Files {
		n += s.Files[i].Size
	}
	return n
}
