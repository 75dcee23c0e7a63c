// Exact Jaccard similarity of pairs of documents: the sets of their windows, as hashes, and how many are in both: lsh.Windows.
#include "text.cuh"
#include "xxh3.cuh"

// TileBytes reads a window from the words that read_tile kept.
struct TileBytes {
    const u32 *words;
    u32 at;
    DV_FN_MEMBER u32 byte(u64 i) const { return words[(at + i) / 4] >> ((at + i) % 4 * 8) & 0xff; }
    DV_FN_MEMBER u32 word(u64 i) const { return shared32(words, at + (u32)i); }
    DV_FN_MEMBER u64 word2(u64 i) const { return shared64(words, at + (u32)i); }
};

DV_KERNEL dv_window_slots(const void *offsets, i64 offset_bytes, const u8 *validity, i64 rows, u64 *counts) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid()) {
        const u64 bytes = offset_at(offsets, offset_bytes, row + 1) - offset_at(offsets, offset_bytes, row);
        counts[row] = is_valid(validity, row) ? 2 * bytes : 0;
    }
}

// A set is a hash table with linear probing in slots [set_start[row], set_start[row + 1]), 0 for a free slot. At least half of them
// stay free, since a document has no more windows than bytes.
DV_KERNEL dv_window_sets(const void *offsets, i64 offset_bytes, const u8 *data, i64 rows, const u64 *piece_first, i64 piece,
                         i64 width, const u64 *set_start, u64 *sets, u64 *distinct) {
    DV_DYNAMIC(shared);
    DV_SHARED(Scratch, scratch, 1);
    const u32 size = DV_SIGN_TILE(width);
    u32 *starts = (u32 *)shared, *words = starts + size + width;
    const u64 pieces = piece_first[rows];
    for (u64 index = blockIdx.x; index < pieces; index += gridDim.x) {
        Piece p = piece_at(piece_first, rows, index, offsets, offset_bytes, piece);
        u64 *set = sets + set_start[p.row];
        const u64 slots = set_start[p.row + 1] - set_start[p.row];
        u64 fresh = 0, at = p.from;
        for (;;) {
            Tile t = read_tile<true>(data, p, at, size, (u32)width, starts, words, scratch);
            for (u32 i = threadIdx.x; i < t.windows; i += DV_BLOCK) {
                TileBytes r = {words, starts[i]};
                u64 h = xxh3_64(r, starts[i + t.width] - starts[i]);
                h = h != 0 ? h : 1;
                for (u64 slot = __umul64hi(h, slots);; slot = slot + 1 < slots ? slot + 1 : 0) {
                    u64 there = dv_load(set + slot);
                    if (there == 0) {
                        there = atomicCAS(set + slot, 0ull, h);
                        fresh += there == 0;
                    }
                    if (there == 0 || there == h)
                        break;
                }
            }
            __syncthreads();
            if (t.last)
                break;
            at = t.next;
        }
        fresh = sum_of_warp(fresh);
        if (threadIdx.x % 32 == 0 && fresh > 0)
            atomicAdd(distinct + p.row, fresh);
    }
}

DV_KERNEL dv_jaccard(const u32 *a, const u32 *b, i64 pairs, const u64 *set_start, const u64 *sets, const u64 *distinct,
                     u64 *intersections, u64 *unions) {
    DV_SHARED(u64, scratch, DV_BLOCK / 32);
    for (i64 i = blockIdx.x; i < pairs; i += gridDim.x) {
        // Every hash of the smaller set is looked up in the larger.
        u32 small = a[i], large = b[i];
        if (set_start[small + 1] - set_start[small] > set_start[large + 1] - set_start[large]) {
            const u32 other = small;
            small = large;
            large = other;
        }
        const u64 *set = sets + set_start[large];
        const u64 slots = set_start[large + 1] - set_start[large];
        u64 both = 0;
        for (u64 k = set_start[small] + threadIdx.x; k < set_start[small + 1]; k += DV_BLOCK) {
            const u64 h = sets[k];
            if (h == 0)
                continue;
            u64 slot = __umul64hi(h, slots);
            while (set[slot] != 0 && set[slot] != h)
                slot = slot + 1 < slots ? slot + 1 : 0;
            both += set[slot] == h;
        }
        u64 total;
        before_in_block(both, &total, scratch);
        if (threadIdx.x == 0) {
            intersections[i] = total;
            unions[i] = distinct[a[i]] + distinct[b[i]] - total;
        }
    }
}
