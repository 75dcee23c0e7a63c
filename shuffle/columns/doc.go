// Package columns lets Arrow record batches travel through a shuffle: it says which partition a row belongs
// to, packs the rows of each partition into chunks, and makes batches of chunks again.
//
//	codec, err := columns.NewCodec(schema)
//	parts, err := columns.HashPartition(batch, []int{0}, n, 0) // or columns.SplitAt
//	for chunk, err := range codec.Pack(batch, parts, alloc, s.MaxChunk()) {
//		err = in.Insert(ctx, chunk)
//	}
//	...
//	for chunk, err := range partition.Chunks(ctx) {
//		batch, err := codec.Unpack(chunk)
//	}
//
// It is apart from package shuffle so that programs with records of their own do not link Arrow.
//
// # Which partition
//
// [HashPartition] puts a row where cuDF's hash_partition puts it, so that the two can share one partitioning
// of a data set: MurmurHash3_x86_32 of the key's bytes, boost's hash_combine for each further key column,
// 2^32-1 for null, and h mod n. See [HashRows] for the definition and the versions it holds for.
//
// # Format of a chunk
//
// Version 1, little-endian. A chunk holds the rows of one partition in the order of the batch, laid out as
// Arrow's buffers, so that [Codec.Unpack] need not copy:
//
//	magic "DVcb", version   4 + 4 bytes
//	rows                    8
//	schema fingerprint      8
//	per node                8 length, 8 number of nulls
//	per buffer              8 length in bytes
//	buffers                 each padded to a multiple of 8
//
// Nodes are the columns and, after each, its children, depth first: the items of a list, the fields of a
// struct or a union, the values of a dictionary or of runs. The buffers of a node follow Arrow's order: validity
// (empty if no value is null; runs and unions have none), then the values of a fixed-width type, the offsets and
// bytes of a string, the headers and bytes of a view, the offsets of a list or the offsets and lengths of a list
// view, the indices into a dictionary, the run ends, or the type codes and offsets of a union. A dictionary
// holds only the values that the chunk uses, in the order of their first use, and whatever could lie in any order
// lies in the order of the rows. The bytes of a null are zero.
//
// All types of Arrow are supported, but for dictionaries of unions. For each there is a hash (ledger), a key hash
// (partition) and an order ([Sorter]).
//
// Schemas do not travel, since a rank needs one for a partition without rows too; the fingerprint makes sure
// that both sides have the same.
package columns
