// Package corpus finds, splits, reads and rewrites collections of documents.
//
// A [Set] is what [Resolve] makes of the files, folders and globs that a user named: a list of files of one
// format, sorted bytewise by their path relative to the input they came from. It is the same list whatever
// the order of the arguments, so the index of a file in it, and with it the [Ordinal] of every document, is
// a function of the input alone.
//
// [Set.Splits] cuts a set into units of work, [Set.Open] reads one of them in batches whose memory is
// bounded whatever the size of the file, its row groups or its pages, and [Set.Rewrite] writes the kept rows
// of one file as a file of the same format, with all other columns unchanged. [Set.Changed] tells whether a
// file is still the one that was resolved.
//
// # Formats
//
// Parquet: .parquet, .pq. The text column is any BYTE_ARRAY column, at the top level or inside structs
// ("meta.text"). Row i of the file is document i.
//
// JSON Lines: .jsonl, .json, .ndjson, and each of them with .gz or .zst behind it. A document is a line
// that is not blank; its row is the number of the line from 0. The file [Extract] documents what a line may be.
//
// Files: every regular file is one document, whatever its bytes; its row is 0.
//
// # Errors
//
// An error that is due to the bytes of a file is a [FileError] that wraps one of [ErrCorrupt], [ErrColumn],
// [ErrRecord] and [ErrChanged], and names the file and, where there is one, the line, row or row group. Errors
// of the file system are passed on as they are and wrap none of these, so that a caller that skips bad files
// never skips one because a disk or a network failed.
//
// All methods of a Set are safe for concurrent use. A [Reader] belongs to one goroutine at a time.
package corpus
