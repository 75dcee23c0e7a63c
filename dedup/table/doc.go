// Package table shuffles Parquet tables that may be larger than memory: every row goes to the partition that its key belongs
// to, and each partition becomes a file.
//
//	res, err := table.Run(ctx, table.Options{
//		Spec:   table.Spec{On: []string{"user"}, TotalParts: 256, Partition: table.Hash},
//		Inputs: []string{"data"}, Output: "shuffled",
//	})
//
// The output folder holds part.<n>.parquet for every partition n from 0, empty ones too, and run.json. It appears when all of
// it is complete. A run that was interrupted goes on where it was when Run is called again with the same Spec and inputs.
//
// # Partitions
//
// With [Hash] a row goes where cuDF's hash_partition, and so NeMo Curator's shuffle, puts it:
// MurmurHash3_x86_32 of the key, modulo the number of partitions; see [columns.HashRows] for every type.
//
// With [Range] partition n holds keys that come before those of partition n+1, in the order of [columns.Sorter] (nulls last,
// floats in IEEE total order). Equal keys are in one partition. The bounds are quantiles of a sample: the rows with the
// smallest hashes of (index of the file, row), so it is a function of the input alone. Keys longer than 1 KiB are told
// apart by their first KiB only.
//
// Rows of a partition are in the order of the input: by file (sorted by path) and row. With Spec.Sort they are in the order
// of the key, and rows with equal keys in that of the input.
//
// # One result
//
// Bytes of the files are a function of the input and the Spec. Ranks, workers, the memory limit, the sizes of splits and
// batches, kills and resumes change nothing: row groups are cut by the sizes of rows, and written as wholes. The digest in
// run.json names the rows of each partition in their order, independent of encodings and compression.
//
// # Nothing lost
//
// Every row is hashed when it is read and when it is written, and the sums are compared: per partition with the
// ledger of the shuffle, and overall. A difference stops the run and nothing is put in place.
//
// # Schemas
//
// All files must have the same columns with the same types, in the same order; a column is nullable if it is in any file.
// Whatever Parquet can carry passes through: nested columns, decimals, and, since the metadata of the first file is kept, the
// types that Arrow notes beside the Parquet schema (dictionaries, durations, extension types and so on). For
// partitions and order such a column counts as what Parquet has: a duration is its integer, a dictionary its values.
//
// # Memory
//
// With Exec.MemoryLimit, half belongs to the shuffle, which spills, and the other half to the actors in equal shares. An actor
// holds a batch of rows, or a row group that is being made. A row must fit into an eighth of what the limit leaves; the
// error for one that does not names the file.
package table
