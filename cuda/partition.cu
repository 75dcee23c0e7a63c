// Which partition rows belong to, and rows in the order of their partitions: columns.HashPartition and flow.PartOf.
#include "common.cuh"

// MurmurHash3_x86_32, whose blocks are taken in by murmur3_word.

DV_FN u32 murmur3_mix(u32 k) { return rotate_left(k * 0xcc9e2d51, 15) * 0x1b873593; }
DV_FN u32 murmur3_word(u32 h, u32 k) { return rotate_left(h ^ murmur3_mix(k), 13) * 5 + 0xe6546b64; }
DV_FN u32 murmur3_end(u32 h, u32 n) {
    h ^= n;
    h = (h ^ h >> 16) * 0x85ebca6b;
    h = (h ^ h >> 13) * 0xc2b2ae35;
    return h ^ h >> 16;
}

DV_FN u32 murmur3(const u8 *b, u64 n, u32 seed) {
    u32 h = seed;
    u64 i = 0;
    for (; i + 4 <= n; i += 4)
        h = murmur3_word(h, b[i] | (u32)b[i + 1] << 8 | (u32)b[i + 2] << 16 | (u32)b[i + 3] << 24);
    u32 tail = 0;
    for (u32 k = 0; i + k < n; k++)
        tail |= (u32)b[i + k] << (8 * k);
    if (i < n)
        h ^= murmur3_mix(tail);
    return murmur3_end(h, (u32)n);
}

// take_in is boost's hash_combine of a further key column.
DV_FN u32 take_in(i64 first, u32 h, u32 x) { return first ? x : h ^ (x + 0x9e3779b9 + (h << 6) + (h >> 2)); }

// normalized gives all NaNs one form and both zeros another: of a float of `width` bytes.
DV_FN u64 normalized(u64 v, i64 width) {
    const u64 sign = 1ull << (8 * width - 1);
    const u64 infinity = width == 2 ? 0x7c00ull : width == 4 ? 0x7f800000ull : 0x7ff0000000000000ull;
    const u64 nan = width == 2 ? 0x7e00ull : width == 4 ? 0x7fc00000ull : 0x7ff8000000000000ull;
    v = (v & ~sign) == 0 ? 0 : v;
    return (v & ~sign) > infinity ? nan : v;
}

DV_KERNEL dv_hash_fixed(const u8 *values, i64 width, i64 kind, const u8 *validity, i64 rows, i64 seed, i64 first, u32 *hashes) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid()) {
        u32 x = 0xffffffff;
        if (is_valid(validity, row)) {
            if (kind == DV_BOOL || width == 1 || width == 2 || width == 4 || width == 8) {
                u64 v = 0;
                if (kind == DV_BOOL)
                    v = bit_at(values, row);
                else
                    for (i64 k = 0; k < width; k++)
                        v |= (u64)values[row * width + k] << (8 * k);
                if (kind == DV_FLOAT)
                    v = normalized(v, width);
                u32 h = (u32)seed;
                if (width < 4) {
                    h ^= murmur3_mix((u32)v);
                } else {
                    h = murmur3_word(h, (u32)v);
                    if (width == 8)
                        h = murmur3_word(h, (u32)(v >> 32));
                }
                x = murmur3_end(h, (u32)width);
            } else {
                x = murmur3(values + row * width, width, (u32)seed);
            }
        }
        hashes[row] = take_in(first, first ? 0 : hashes[row], x);
    }
}

DV_KERNEL dv_hash_strings(const void *offsets, i64 offset_bytes, const u8 *data, const u8 *validity, i64 rows, i64 seed, i64 first,
                          u32 *hashes) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid()) {
        u32 x = 0xffffffff;
        if (is_valid(validity, row)) {
            u64 from = offset_at(offsets, offset_bytes, row);
            x = murmur3(data + from, offset_at(offsets, offset_bytes, row + 1) - from, (u32)seed);
        }
        hashes[row] = take_in(first, first ? 0 : hashes[row], x);
    }
}

DV_KERNEL dv_part_of_hash(const u32 *hashes, i64 rows, i64 parts, i64 base, u32 *part) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid())
        part[row] = (u32)base + hashes[row] % (u32)parts;
}

DV_KERNEL dv_part_of_key(const u64 *keys, i64 rows, i64 parts, i64 base, u32 *part) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid()) {
        u64 h = keys[row];
        h = (h ^ h >> 32) * 0xd6e8feb86659fd93;
        h = (h ^ h >> 32) * 0xd6e8feb86659fd93;
        part[row] = (u32)base + (u32)__umul64hi(h, parts);
    }
}

// Rows in the order of their partitions by counting, as in a pass of a radix sort. A warp owns a tile of neighbouring rows and so
// the tile's counter of each partition; what it does with them is ordered by barriers of the warp alone.

DV_KERNEL dv_part_count(const u32 *part, i64 rows, i64 parts, u64 *counts) {
    const i64 tiles = DV_PART_TILES(rows);
    const u32 lane = threadIdx.x % 32;
    for (i64 tile = warp_of_grid(); tile < tiles; tile += warps_in_grid()) {
        for (i64 k = 0; k < DV_PART_TILE; k += 32) {
            const i64 row = tile * DV_PART_TILE + k + lane;
            const u32 here = __ballot_sync(DV_ALL, row < rows);
            if (row < rows) {
                const u32 mine = part[row], same = __match_any_sync(here, mine);
                if ((same & ((1u << lane) - 1)) == 0) // the first of its partition counts for all
                    counts[mine * tiles + tile] += __popc(same);
            }
            __syncwarp();
        }
    }
}

DV_KERNEL dv_part_order(const u32 *part, i64 rows, i64 parts, u64 *starts, u32 *order) {
    const i64 tiles = DV_PART_TILES(rows);
    const u32 lane = threadIdx.x % 32;
    for (i64 tile = warp_of_grid(); tile < tiles; tile += warps_in_grid()) {
        for (i64 k = 0; k < DV_PART_TILE; k += 32) {
            const i64 row = tile * DV_PART_TILE + k + lane;
            const u32 here = __ballot_sync(DV_ALL, row < rows);
            if (row < rows) {
                const u32 mine = part[row], same = __match_any_sync(here, mine), before = __popc(same & ((1u << lane) - 1));
                u64 *next = starts + (mine * tiles + tile), at = *next;
                order[at + before] = (u32)row;
                __syncwarp(here); // all have read
                if (before == 0)
                    *next = at + __popc(same);
            }
            __syncwarp();
        }
    }
}

DV_KERNEL dv_part_bounds(const u64 *starts, i64 rows, i64 parts, u64 *bounds) {
    const i64 tiles = DV_PART_TILES(rows);
    for (i64 p = thread_of_grid(); p <= parts; p += threads_in_grid())
        bounds[p] = p < parts && rows > 0 ? starts[p * tiles] : rows;
}
