// Exact Jaccard similarity of pairs of documents: the sets of their windows, and how many are in both: lsh.Comparer.
#include "text.cuh"
#include "xxh3.cuh"

// KeyedBytes reads a window from the words that read_tile kept, with a key over all of it: so nobody who does not know the key can
// write windows that have one hash.
struct KeyedBytes {
    const u32 *words;
    u32 at;
    u64 key;
    DV_FN_MEMBER u32 byte(u64 i) const { return (words[(at + i) / 4] >> ((at + i) % 4 * 8) ^ (u32)key) & 0xff; }
    DV_FN_MEMBER u32 word(u64 i) const { return shared32(words, at + (u32)i) ^ (u32)key; }
    DV_FN_MEMBER u64 word2(u64 i) const { return shared64(words, at + (u32)i) ^ key; }
};

// Window is where a window begins in its text.
struct Window {
    u64 at, begin, end;
};

// four_at returns the four bytes from `at` on, of any address, with 0 for those beyond the end of the text.
DV_FN u32 four_at(const u8 *data, const Window &w) {
    const u32 by = ((u64)data + w.at) & 3;
    const i64 first = (i64)w.at - by;
    const u32 low = word_at(data, first, w.begin, w.end);
    return by == 0 ? low : __funnelshift_r(low, word_at(data, first + 4, w.begin, w.end), by * 8);
}

// same_window reports whether two windows have the same code points: width of them, or all of a text that has fewer.
DV_FN bool same_window(const u8 *data, Window a, Window b, u32 width) {
    for (u32 n = 0; n < width;) {
        if (a.at >= a.end || b.at >= b.end)
            return a.at >= a.end && b.at >= b.end;
        const u32 x = four_at(data, a), y = four_at(data, b);
        if (n + 4 <= width && ((x | y) & 0x80808080) == 0 && a.at + 4 <= a.end && b.at + 4 <= b.end) {
            if (x != y)
                return false;
            a.at += 4, b.at += 4, n += 4;
            continue;
        }
        u32 p, q;
        const u32 bytes = decode(x, &p);
        decode(y, &q);
        if (p != q)
            return false; // code points that are equal have encodings of one length
        a.at += bytes, b.at += bytes, n++;
    }
    return true;
}

// A slot of a set is 0 if it is free, and else the upper half of a window's hash, and 1 + where the window begins in its text.
DV_FN u64 home_of(u64 slot, u64 slots) { return __umul64hi(slot >> 32 << 32, slots); }
DV_FN Window window_of(u64 slot, u64 begin, u64 end) {
    Window w = {begin + (u32)slot - 1, begin, end};
    return w;
}

DV_KERNEL dv_window_slots(const void *offsets, i64 offset_bytes, const u8 *validity, i64 rows, u64 *counts) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid()) {
        const u64 bytes = offset_at(offsets, offset_bytes, row + 1) - offset_at(offsets, offset_bytes, row);
        counts[row] = is_valid(validity, row) ? 2 * bytes : 0;
    }
}

// A set is a hash table with linear probing in slots [set_start[row], set_start[row + 1]). At least half of them stay free, since
// a document has no more windows than bytes.
DV_KERNEL dv_window_sets(const void *offsets, i64 offset_bytes, const u8 *data, i64 rows, const u64 *piece_first, i64 piece,
                         i64 width, i64 key, const u64 *set_start, u64 *sets, u64 *distinct) {
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
            const u64 base = at - (((u64)data + at) & 3); // what starts are counted from
            for (u32 i = threadIdx.x; i < t.windows; i += DV_BLOCK) {
                KeyedBytes r = {words, starts[i], (u64)key};
                const u64 h = xxh3_64(r, starts[i + t.width] - starts[i]);
                const u64 mine = h >> 32 << 32 | (u32)(base + starts[i] - p.begin + 1);
                for (u64 slot = home_of(mine, slots);; slot = slot + 1 < slots ? slot + 1 : 0) {
                    u64 there = dv_load(set + slot);
                    if (there == 0) {
                        there = atomicCAS(set + slot, 0ull, mine);
                        fresh += there == 0;
                        if (there == 0)
                            break;
                    }
                    if (there >> 32 == mine >> 32 &&
                        same_window(data, window_of(there, p.begin, p.end), window_of(mine, p.begin, p.end), (u32)width))
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

DV_KERNEL dv_jaccard(const void *offsets, i64 offset_bytes, const u8 *data, i64 width, const u32 *a, const u32 *b, i64 pairs,
                     const u64 *set_start, const u64 *sets, const u64 *distinct, u64 *intersections, u64 *unions) {
    DV_SHARED(u64, scratch, DV_BLOCK / 32);
    for (i64 i = blockIdx.x; i < pairs; i += gridDim.x) {
        // Every window of the smaller set is looked up in the larger.
        u32 small = a[i], large = b[i];
        if (set_start[small + 1] - set_start[small] > set_start[large + 1] - set_start[large]) {
            const u32 other = small;
            small = large;
            large = other;
        }
        const u64 small_begin = offset_at(offsets, offset_bytes, small), small_end = offset_at(offsets, offset_bytes, small + 1);
        const u64 large_begin = offset_at(offsets, offset_bytes, large), large_end = offset_at(offsets, offset_bytes, large + 1);
        const u64 *set = sets + set_start[large];
        const u64 slots = set_start[large + 1] - set_start[large];
        u64 both = 0;
        for (u64 k = set_start[small] + threadIdx.x; k < set_start[small + 1]; k += DV_BLOCK) {
            const u64 mine = sets[k];
            if (mine == 0)
                continue;
            const Window w = window_of(mine, small_begin, small_end);
            for (u64 slot = home_of(mine, slots);; slot = slot + 1 < slots ? slot + 1 : 0) {
                const u64 there = set[slot];
                if (there == 0)
                    break;
                if (there >> 32 == mine >> 32 && same_window(data, w, window_of(there, large_begin, large_end), (u32)width)) {
                    both++;
                    break;
                }
            }
        }
        u64 total;
        before_in_block(both, &total, scratch);
        if (threadIdx.x == 0) {
            intersections[i] = total;
            unions[i] = distinct[a[i]] + distinct[b[i]] - total;
        }
    }
}
