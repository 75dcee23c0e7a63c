/* The kernels: names, parameters, layouts and how they are launched. Whoever launches them needs this file and no other.
 *
 * Launching
 *   - Every parameter has 8 bytes: a device pointer or a 64-bit integer. gorgonia.org/cu copies 8 bytes for each.
 *   - Blocks have DV_BLOCK threads in x, one in y and z. A grid is 1-dimensional, of any size from 1: kernels stride over
 *     their work, so that the grid decides speed and never results. DV_GRID_* says what is worth launching; more is waste.
 *     A kernel marked "one block" strides too, but is useless with more.
 *   - Dynamic shared memory is 0 bytes, except where a macro DV_SHARED_* is named. All are at most 48 KiB, but for
 *     signatures of many slots, for which DV_SHARED_* falls back to none.
 *   - "zeroed" and "filled" say what must be in an array before: by cuMemsetD8Async, or by the kernel that is named.
 *   - Kernels of a pipeline are ordered by their stream alone; none waits for another, none launches another.
 *   - Nothing is read or written outside of the bytes that are described here, not even to the next multiple of 4.
 *   - Pointers to 32-bit and 64-bit values are aligned to them. Bytes and bits may begin anywhere.
 *
 * Columns, as Arrow has them
 *   - offsets, offset_bytes   rows + 1 offsets of 4 or 8 bytes, which do not descend; row i is data[offsets[i], offsets[i+1])
 *   - validity                one bit for each row, least significant first, 0 for null; a null pointer means no nulls.
 *                             What a null's bytes are does not matter anywhere.
 *   - A column of bits (bool) has the layout of a validity.
 *   - rows of fixed width     rows * width bytes
 * Numbers of rows of an Arrow batch, of records of a group and of vertices are below 2^32 - 1; sizes in bytes are not
 * limited.
 *
 * Where they are
 *   - `make kernels` makes cuda/built/kernels.ptx, and of this PTX the cubins in cuda/built/kernels.fatbin, which has the PTX
 *     too. Package cuda embeds the folder with the build tag "cuda"; without `make kernels` it is there and has no
 *     fatbin, and cuda.Fatbin says so. All kernels are in the one module.
 *   - `make kernels-host` makes .build/cuda/libdovetail_kernels.so, the same source as C++: see
 *     cuda/internal/hostmodel/hostmodel.h, by which a simulated driver launches kernels by name.
 *
 * The definitions are those of lsh/FORMAT.md, shuffle/columns and dedup; each kernel names the Go function that it equals.
 */
#ifndef DOVETAIL_KERNELS_H
#define DOVETAIL_KERNELS_H

#ifdef __cplusplus
#define DV_EXTERN extern "C"
#else
#define DV_EXTERN extern
#endif
#ifdef __CUDACC__
#define DV_KERNEL DV_EXTERN __global__ void __launch_bounds__(256, 3)
#else
#define DV_KERNEL DV_EXTERN void
#endif

typedef unsigned char dv_u8;
typedef unsigned int dv_u32;
typedef unsigned long long dv_u64;
typedef long long dv_i64;

#define DV_BLOCK 256
#define DV_MIN(a, b) ((a) < (b) ? (a) : (b))
#define DV_BITS(w) (((w) & 1) + ((w) >> 1 & 1) + ((w) >> 2 & 1) + ((w) >> 3 & 1) + ((w) >> 4 & 1) + ((w) >> 5 & 1) + \
                    ((w) >> 6 & 1) + ((w) >> 7 & 1) + ((w) >> 8 & 1) + ((w) >> 9 & 1) + ((w) >> 10 & 1) + ((w) >> 11 & 1) + ((w) >> 12 & 1))

/* Grids: threads_each is 1 thread, 1 warp or 1 block for each item. */
#define DV_GRID_THREADS(items) (((items) + DV_BLOCK - 1) / DV_BLOCK)
#define DV_GRID_WARPS(items) (((items) + DV_BLOCK / 32 - 1) / (DV_BLOCK / 32))
#define DV_GRID_BLOCKS(items) (items)

/* ---- scan.cu: exclusive prefix sums of 64-bit values, mod 2^64 -------------------------------------------------
 * Three launches: dv_scan_reduce, dv_scan_sums, dv_scan_apply. out may be in. */
#define DV_SCAN_TILE 2048
#define DV_SCAN_TILES(n) (((n) + DV_SCAN_TILE - 1) / DV_SCAN_TILE)
/* sums[tile] = sum of a tile of in; sums has DV_SCAN_TILES(n) + 1 values. A block for each tile. */
DV_KERNEL dv_scan_reduce(const dv_u64 *in, dv_i64 n, dv_u64 *sums);
/* makes sums exclusive in place; sums[tiles] = the total. One block. */
DV_KERNEL dv_scan_sums(dv_u64 *sums, dv_i64 tiles);
/* out[i] = in[0] + ... + in[i-1] for i from 0 to n, so out has n + 1 values. A block for each tile, at least one. */
DV_KERNEL dv_scan_apply(const dv_u64 *in, dv_i64 n, const dv_u64 *sums, dv_u64 *out);

/* ---- sign.cu: signatures, lsh.Reference.Sign ---------------------------------------------------------------------
 * Documents are cut into pieces of `piece` bytes, a block each, so that a long one is signed by many blocks. `piece` is at
 * least 4 * width; DV_PIECE suits every width. Order of launches, on one stream:
 *   dv_pieces, scan of its counts to piece_first (rows + 1 values), dv_sign_init, then
 *   curator32, curator64:  dv_sign_curator32 or dv_sign_curator64
 *   fast:                  dv_sign_fast_map, dv_sign_fast_fill
 * A block for each piece: there are at most rows + bytes / piece of them.
 * slots is num_bands * minhashes_per_band; signatures are rows * slots values of 4 bytes (8: curator64), row after row. */
#define DV_PIECE 16384
/* counts[i] = number of pieces of row i, 0 for null and empty. A thread for each row. */
DV_KERNEL dv_pieces(const void *offsets, dv_i64 offset_bytes, const dv_u8 *validity, dv_i64 rows, dv_i64 piece, dv_u64 *counts);
/* sets the slots of null and empty rows to 0 and all others to their greatest value. A block for each row.
 * slot_bytes is 4 or 8. */
DV_KERNEL dv_sign_init(const dv_u64 *piece_first, dv_i64 rows, dv_i64 slots, dv_i64 slot_bytes, void *signatures);
/* a and b are lsh.Params.Permutations, of 4 or 8 bytes each. */
/* Windows of a tile: so many that its code points, if they are ASCII, are what a block decodes at a time. */
#define DV_SIGN_TILE(width) ((width) <= 256 ? 1020 - (width) : 512)
#define DV_SHARED_SIGN_BYTES(width) ((DV_SIGN_TILE(width) + (width)) * 8 + 1152)                  /* starts and bytes */
#define DV_SHARED_CURATOR32(width) (DV_SHARED_SIGN_BYTES(width) + DV_SIGN_TILE(width) * 4)
#define DV_SHARED_CURATOR64(width) (DV_SHARED_SIGN_BYTES(width) + DV_SIGN_TILE(width) * 8)
DV_KERNEL dv_sign_curator32(const void *offsets, dv_i64 offset_bytes, const dv_u8 *data, dv_i64 rows, const dv_u64 *piece_first,
                            dv_i64 piece, dv_i64 width, const dv_u32 *a, const dv_u32 *b, dv_i64 slots, dv_u32 *signatures);
DV_KERNEL dv_sign_curator64(const void *offsets, dv_i64 offset_bytes, const dv_u8 *data, dv_i64 rows, const dv_u64 *piece_first,
                            dv_i64 piece, dv_i64 width, const dv_u64 *a, const dv_u64 *b, dv_i64 slots, dv_u64 *signatures);
/* quad, final, round, a and b are lsh.FastConstants. */
#define DV_SHARED_FAST(width) ((DV_SIGN_TILE(width) + (width)) * 4 + (DV_BITS(width) - 1) * DV_SIGN_TILE(width) * 4 + 64)
DV_KERNEL dv_sign_fast_map(const void *offsets, dv_i64 offset_bytes, const dv_u8 *data, dv_i64 rows, const dv_u64 *piece_first,
                           dv_i64 piece, dv_i64 width, dv_i64 quad, dv_i64 final, dv_i64 round, dv_i64 slots, dv_u32 *signatures);
DV_KERNEL dv_sign_fast_fill(const void *offsets, dv_i64 offset_bytes, const dv_u8 *data, dv_i64 rows, const dv_u64 *piece_first,
                            dv_i64 piece, dv_i64 width, dv_i64 quad, dv_i64 final, const dv_u32 *a, const dv_u32 *b, dv_i64 slots,
                            dv_u32 *signatures);

/* ---- bands.cu: lsh.BandKey and lsh.CuratorBucket -------------------------------------------------------------------
 * keys[band * rows + row]. A block for each 32 rows and 32 bands: DV_GRID_BANDS. */
#define DV_GRID_BANDS(rows, bands) ((((rows) + 31) / 32) * (((bands) + 31) / 32))
DV_KERNEL dv_band_keys(const void *signatures, dv_i64 slot_bytes, dv_i64 rows, dv_i64 bands, dv_i64 rows_per_band, dv_u64 *keys);
/* The bucket strings of one band, slots [first_slot, first_slot + rows_per_band) of `slots`, called `number` in the string: rows
 * strings of DV_BUCKET_BYTES(number) bytes, one after the other. A thread for each row. */
#define DV_BUCKET_BYTES(number) (34 + ((number) < 10 ? 1 : (number) < 100 ? 2 : (number) < 1000 ? 3 : (number) < 10000 ? 4 : 5))
DV_KERNEL dv_bucket_strings(const void *signatures, dv_i64 slot_bytes, dv_i64 rows, dv_i64 slots, dv_i64 first_slot,
                            dv_i64 rows_per_band, dv_i64 number, dv_u8 *out);

/* ---- partition.cu: columns.HashRows and HashPartition, flow.PartOf -------------------------------------------------
 * One launch for each key column takes it into hashes: first is 1 for the first column and 0 for those that follow. kind is
 * DV_PLAIN, or DV_FLOAT for floats of 2, 4 or 8 bytes, which are normalized, or DV_BOOL for bits (width 1). A thread for
 * each row. */
#define DV_PLAIN 0
#define DV_FLOAT 1
#define DV_BOOL 2
DV_KERNEL dv_hash_fixed(const dv_u8 *values, dv_i64 width, dv_i64 kind, const dv_u8 *validity, dv_i64 rows, dv_i64 seed, dv_i64 first,
                        dv_u32 *hashes);
DV_KERNEL dv_hash_strings(const void *offsets, dv_i64 offset_bytes, const dv_u8 *data, const dv_u8 *validity, dv_i64 rows, dv_i64 seed,
                          dv_i64 first, dv_u32 *hashes);
/* part[i] = base + hashes[i] mod parts. part may be hashes. */
DV_KERNEL dv_part_of_hash(const dv_u32 *hashes, dv_i64 rows, dv_i64 parts, dv_i64 base, dv_u32 *part);
/* part[i] = base + flow.PartOf(keys[i], parts). */
DV_KERNEL dv_part_of_key(const dv_u64 *keys, dv_i64 rows, dv_i64 parts, dv_i64 base, dv_u32 *part);
/* Rows by partition, each in the order of the batch (columns.group), in three steps: dv_part_count; scan of counts, in place;
 * dv_part_order, which uses the starts up. counts has parts * tiles + 1 values, zeroed before, where tiles is
 * DV_PART_TILES(rows); a warp for each tile. After the scan partition p begins at counts[p * tiles], and after
 * dv_part_order at counts[p * tiles - 1], or 0. part values are below parts. */
#define DV_PART_TILE 1024
#define DV_PART_TILES(rows) (((rows) + DV_PART_TILE - 1) / DV_PART_TILE)
DV_KERNEL dv_part_count(const dv_u32 *part, dv_i64 rows, dv_i64 parts, dv_u64 *counts);
DV_KERNEL dv_part_order(const dv_u32 *part, dv_i64 rows, dv_i64 parts, dv_u64 *starts, dv_u32 *order);
/* bounds[p] = where partition p begins in order, bounds[parts] = rows, of starts before dv_part_order. */
DV_KERNEL dv_part_bounds(const dv_u64 *starts, dv_i64 rows, dv_i64 parts, dv_u64 *bounds);

/* ---- pack.cu: columns.Codec.Pack and Concat, column by column -----------------------------------------------------
 * Rows order[first], ..., order[first + rows - 1] of a column, one after the other. The bytes of nulls become 0. */
/* A thread for each row, or for each byte if width is not 1, 2, 4, 8 or 16. values is aligned to width if that is 2, 4 or 8. */
DV_KERNEL dv_pack_fixed(const dv_u8 *values, dv_i64 width, const dv_u8 *validity, const dv_u32 *order, dv_i64 first, dv_i64 rows,
                        dv_u8 *out);
/* Bits: (rows + 7) / 8 bytes, those after the last 0. bits may be null: all 1. validity null: no nulls; bits of nulls
 * become 0. ones, zeroed, is raised by the number of ones. A thread for each byte. To pack a validity, pass it as bits. */
DV_KERNEL dv_pack_bits(const dv_u8 *bits, const dv_u8 *validity, const dv_u32 *order, dv_i64 first, dv_i64 rows, dv_u8 *out,
                       dv_u64 *ones);
/* lengths[i] of the strings, 0 for nulls. Their scan is to, the 64-bit offsets of the packed strings. */
DV_KERNEL dv_pack_lengths(const void *offsets, dv_i64 offset_bytes, const dv_u8 *validity, const dv_u32 *order, dv_i64 first,
                          dv_i64 rows, dv_u64 *lengths);
/* The bytes: to has rows + 1 offsets and to[0] is 0. A warp for each DV_SPAN bytes of out. */
#define DV_SPAN 1024
DV_KERNEL dv_pack_strings(const void *offsets, dv_i64 offset_bytes, const dv_u8 *data, const dv_u32 *order, dv_i64 first,
                          dv_i64 rows, const dv_u64 *to, dv_u8 *out);
/* out[i] = to[i] - to[0] in out_bytes (4 or 8) for i from 0 to n - 1. */
DV_KERNEL dv_pack_offsets(const dv_u64 *to, dv_i64 n, dv_i64 out_bytes, void *out);

/* Concatenation of `sources` pieces. Piece k has rows row_start[k] to row_start[k + 1] of the whole; row_start[0] is 0.
 * from[k] points to its first value. */
DV_KERNEL dv_concat_fixed(const dv_u8 *const *from, const dv_u64 *row_start, dv_i64 sources, dv_i64 width, dv_u8 *out);
/* A null pointer in from means all ones. A thread for each byte of out; ones as above. */
DV_KERNEL dv_concat_bits(const dv_u8 *const *from, const dv_u64 *row_start, dv_i64 sources, dv_u8 *out, dv_u64 *ones);
/* from[k] points to the offsets of a piece, of which it has one more than rows and which need not begin at 0; byte_start[k] is
 * where its bytes begin in the whole. out has one offset more than rows, of out_bytes. sources is at least 1. */
DV_KERNEL dv_concat_offsets(const void *const *from, dv_i64 offset_bytes, const dv_u64 *row_start, const dv_u64 *byte_start,
                            dv_i64 sources, dv_i64 out_bytes, void *out);
/* Bytes byte_start[k] to byte_start[k + 1] of out are from[k]. A warp for each DV_SPAN bytes. */
DV_KERNEL dv_concat_bytes(const dv_u8 *const *from, const dv_u64 *byte_start, dv_i64 sources, dv_u8 *out);

/* ---- rowhash.cu: columns.Codec.Hash, flow.RecordHash, lsh.ContentHash -----------------------------------------------
 * hashes has 2 words for each row, A and B. One launch for each column takes it in; first is 1 for the first. At the end comes
 * dv_row_hash_end. A thread for each row. kind is DV_PLAIN or DV_BOOL. */
DV_KERNEL dv_row_hash_fixed(const dv_u8 *values, dv_i64 width, dv_i64 kind, const dv_u8 *validity, dv_i64 rows, dv_i64 first,
                            dv_u64 *hashes);
DV_KERNEL dv_row_hash_strings(const void *offsets, dv_i64 offset_bytes, const dv_u8 *data, const dv_u8 *validity, dv_i64 rows,
                              dv_i64 first, dv_u64 *hashes);
DV_KERNEL dv_row_hash_end(dv_i64 rows, dv_u64 *hashes);
/* flow.RecordHash of rows of `words` words, with bytes if offsets is not null. */
DV_KERNEL dv_record_hash(const dv_u64 *records, dv_i64 words, dv_i64 rows, const void *offsets, dv_i64 offset_bytes,
                         const dv_u8 *data, dv_u64 *hashes);
/* sums[2 * p], sums[2 * p + 1] = the sums of the hashes of rows order[bounds[p]] to order[bounds[p + 1] - 1]; order null: the
 * rows themselves. A block for each partition. */
DV_KERNEL dv_row_hash_sum(const dv_u64 *hashes, const dv_u32 *order, const dv_u64 *bounds, dv_i64 parts, dv_u64 *sums);
/* hashes[2 * i], hashes[2 * i + 1] = Hi and Lo of lsh.ContentHash; of an empty text for nulls. */
DV_KERNEL dv_content_hash(const void *offsets, dv_i64 offset_bytes, const dv_u8 *data, const dv_u8 *validity, dv_i64 rows,
                          dv_u64 *hashes);

/* ---- group.cu: the leaders of buckets, dedup's bucketTable -----------------------------------------------------------
 * Records are (keys[i], keep[i], ord[i]); keep may be null: all 0. table has DV_LEADERS * capacity values, zeroed before;
 * capacity is a power of two, more than the number of distinct keys, better twice it. full, zeroed before, becomes 1 if there
 * are too many keys: then nothing else is valid. A thread for each record. Launches: dv_group_leaders (more than once with
 * records appended: records begins at from), dv_group_count, scan of counts, dv_group_pairs.
 * table[DV_LEADERS * slot + k] is 1 + the record that is leader k of a bucket, in pi order, 0 if there is none. */
#define DV_LEADERS 4
DV_KERNEL dv_group_leaders(const dv_u64 *keys, const dv_u64 *keep, const dv_u64 *ord, dv_i64 from, dv_i64 records, dv_u32 *table,
                           dv_i64 capacity, dv_u64 *full);
/* counts[i] = number of leaders before record i in its bucket. buckets, zeroed, is raised by the number of buckets of two
 * or more. */
DV_KERNEL dv_group_count(const dv_u64 *keys, const dv_u64 *keep, const dv_u64 *ord, dv_i64 records, const dv_u32 *table,
                         dv_i64 capacity, dv_u64 *counts, dv_u64 *buckets);
/* pairs at starts[i]: doc = i and its leaders as record numbers, pi-smallest first. */
DV_KERNEL dv_group_pairs(const dv_u64 *keys, const dv_u64 *keep, const dv_u64 *ord, dv_i64 records, const dv_u32 *table,
                         dv_i64 capacity, const dv_u64 *starts, dv_u32 *doc, dv_u32 *leader);

/* ---- components.cu: connected components, components.Find --------------------------------------------------------------
 * dv_distinct makes vertices of document ordinals: vertex[i] is the number of one of the entries that have the ordinal of
 * entry i, the same for all of them. table has capacity values, zeroed; capacity and full as above.
 * Then dv_components_init, dv_components_join (once or several times, for lists of edges), dv_components_label. */
DV_KERNEL dv_distinct(const dv_u64 *ord, dv_i64 n, dv_u32 *table, dv_i64 capacity, dv_u32 *vertex, dv_u64 *full);
/* parent[i] = i */
DV_KERNEL dv_components_init(dv_i64 n, dv_u32 *parent);
/* joins u[i] and v[i]. keep and ord, which may be null, are of vertices: pi. If ord is null the order is that of numbers. */
DV_KERNEL dv_components_join(const dv_u32 *u, const dv_u32 *v, dv_i64 edges, const dv_u64 *keep, const dv_u64 *ord, dv_u32 *parent);
/* label[i] = the pi-smallest vertex that vertex[i] is connected with; vertex null: of i itself. */
DV_KERNEL dv_components_label(const dv_u32 *vertex, dv_i64 n, dv_u32 *parent, dv_u32 *label);

/* ---- jaccard.cu: exact similarity, lsh.Comparer ------------------------------------------------------------------------
 * dv_window_slots, scan to set_start (rows + 1 values); dv_pieces and its scan; dv_window_sets with `sets`, of
 * set_start[rows] values, zeroed, and distinct, rows values, zeroed; dv_jaccard for pairs of rows. Windows are the same if their
 * code points are: a slot of a set says where a window is, and hashes only where to look. Texts have less than 2^32 - 1 bytes each. */
/* counts[i] = slots of the set of row i: twice its bytes, 0 for nulls. A thread for each row. */
DV_KERNEL dv_window_slots(const void *offsets, dv_i64 offset_bytes, const dv_u8 *validity, dv_i64 rows, dv_u64 *counts);
/* A block for each piece; shared memory DV_SHARED_SIGN_BYTES(width). key is any number; no result depends on it, and how long it
 * takes for texts that were written by someone who knows it. */
DV_KERNEL dv_window_sets(const void *offsets, dv_i64 offset_bytes, const dv_u8 *data, dv_i64 rows, const dv_u64 *piece_first,
                         dv_i64 piece, dv_i64 width, dv_i64 key, const dv_u64 *set_start, dv_u64 *sets, dv_u64 *distinct);
/* intersections[i] and unions[i] of rows a[i] and b[i]. A block for each pair. */
DV_KERNEL dv_jaccard(const void *offsets, dv_i64 offset_bytes, const dv_u8 *data, dv_i64 width, const dv_u32 *a, const dv_u32 *b,
                     dv_i64 pairs, const dv_u64 *set_start, const dv_u64 *sets, const dv_u64 *distinct, dv_u64 *intersections,
                     dv_u64 *unions);

/* All of them, for tables. */
#define DV_KERNELS(X)                                                                                                        \
    X(dv_scan_reduce) X(dv_scan_sums) X(dv_scan_apply) X(dv_pieces) X(dv_sign_init) X(dv_sign_curator32) X(dv_sign_curator64) \
    X(dv_sign_fast_map) X(dv_sign_fast_fill) X(dv_band_keys) X(dv_bucket_strings) X(dv_hash_fixed) X(dv_hash_strings)         \
    X(dv_part_of_hash) X(dv_part_of_key) X(dv_part_count) X(dv_part_order) X(dv_part_bounds) X(dv_pack_fixed)                 \
    X(dv_pack_bits) X(dv_pack_lengths) X(dv_pack_strings) X(dv_pack_offsets) X(dv_concat_fixed) X(dv_concat_bits)             \
    X(dv_concat_offsets) X(dv_concat_bytes) X(dv_row_hash_fixed) X(dv_row_hash_strings) X(dv_row_hash_end)                    \
    X(dv_record_hash) X(dv_row_hash_sum) X(dv_content_hash) X(dv_group_leaders) X(dv_group_count) X(dv_group_pairs)           \
    X(dv_distinct) X(dv_components_init) X(dv_components_join) X(dv_components_label) X(dv_window_slots) X(dv_window_sets)    \
    X(dv_jaccard)

#endif
