// Package corpus finds, splits, reads and rewrites collections of documents.
//
// A [Set] is what [Resolve] makes of the files, folders and globs that a user named: a list of files of one
// format, sorted bytewise by their path relative to the input they came from. It is the same list whatever
// the order of the arguments, so the index of a file in it, and with it the [Ordinal] of every document, is
// a function of the input alone.
//
// [Set.Splits] cuts a set into units of work, [Set.Open] reads one of them in batches, and [Set.Rewrite]
// writes the kept rows of one file as a file of the same format, with all other columns unchanged.
// [Set.Changed] tells whether a file is still the one that was resolved.
//
// # Formats
//
// Parquet: .parquet, .pq. The text column is any column of byte strings, at the top level or inside structs
// ("meta.text"), however it is encoded or compressed; binary, dictionary and large types of Arrow are such
// columns. Row i of the file is document i. Checksums of pages are verified where a file has them. Encrypted
// files are refused.
//
// JSON Lines: .jsonl, .json, .ndjson, and each of them with .gz or .zst behind it, of several gzip members
// or zstd frames, too. A document is a line that is not blank, and must be a JSON object (RFC 8259); its
// row is the number of the line from 0, blank lines counted. A text that is missing or null makes a document
// without a text; any other type is an error. Of several fields with one name the last counts. A surrogate
// without its partner is U+FFFD; bytes that are not UTF-8 are passed on as they are. A byte order mark,
// CRLF, and a last line without an end are fine.
//
// Files: every regular file is one document, whatever its bytes; its row is 0.
//
// # Memory
//
// Batches are bounded by [ReadOptions] whatever the size of files, row groups, pages and lines. Besides, a
// reader holds the line or the Parquet page it is at. Pages larger than 1 MiB are decoded piece by piece
// where their codec allows it (none, gzip, brotli, zstd; not snappy and LZ4) and their values are plain;
// others are held whole, compressed and decompressed. All of it comes from ReadOptions.Alloc, but for
// buffers of fixed size and the windows of gzip, brotli and zstd.
//
// # Errors
//
// An error that is due to the bytes of a file is a [FileError] that wraps one of [ErrCorrupt], [ErrColumn],
// [ErrRecord] and [ErrChanged], and names the file and, where there is one, the line, row or row group. Errors
// of the file system, of the allocator and of the context are passed on and wrap none of these, so that a
// caller that skips bad files never skips one because a disk failed or memory was short. [BadFile] and [BadRecord]
// tell them apart; with Options.SkipFiles and Options.SkipRecords they are left out instead.
//
// All methods of a Set are safe for concurrent use. A [Reader] belongs to one goroutine at a time.
package corpus
