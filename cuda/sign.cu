// Signatures of documents: the sketches curator32, curator64 and fast of lsh/FORMAT.md. A block works on one piece of a document at
// a time, in tiles of windows whose hashes are in shared memory, and lowers the document's slots by atomic minima, which
// commute: so pieces may be signed in any order and at the same time.
#include "text.cuh"

DV_KERNEL dv_pieces(const void *offsets, i64 offset_bytes, const u8 *validity, i64 rows, i64 piece, u64 *counts) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid()) {
        u64 bytes = offset_at(offsets, offset_bytes, row + 1) - offset_at(offsets, offset_bytes, row);
        counts[row] = is_valid(validity, row) ? (bytes + piece - 1) / piece : 0;
    }
}

DV_KERNEL dv_sign_init(const u64 *piece_first, i64 rows, i64 slots, i64 slot_bytes, void *signatures) {
    for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
        u64 value = piece_first[row] == piece_first[row + 1] ? 0 : ~0ull;
        for (i64 i = row * slots + threadIdx.x; i < (row + 1) * slots; i += DV_BLOCK) {
            if (slot_bytes == 4)
                ((u32 *)signatures)[i] = (u32)value;
            else
                ((u64 *)signatures)[i] = value;
        }
    }
}

// Minima of slots over the hashes of a tile.

DV_FN u32 curator_value(u32 h, u32 a, u32 b) { return h * a + b; }

DV_FN u64 curator_value(u64 h, u64 a, u64 b) {
    const u64 prime = (1ull << 61) - 1;
    u64 x = h * a + b; // wraps before it is reduced, as cuDF's does
    x = (x & prime) + (x >> 61);
    return x < prime ? x : x - prime;
}

// slots_of_lane lowers K values of a lane, for slots 32 apart, over hashes from, from + step ... below to of a tile.
template <int K, typename T>
DV_FN void slots_of_lane(const T *hashes, u32 from, u32 to, u32 step, const T *a, const T *b, T *least) {
    for (u32 i = from; i < to; i += step) {
        T h = hashes[i];
        for (int k = 0; k < K; k++)
            least[k] = min_of(least[k], curator_value(h, a[k], b[k]));
    }
}

// lower_slots lowers `slots` slots by a tile's hashes. a and b are their constants, row where the slots are; where list is not
// null slot j stands for slot list[j]. Each warp takes a part of the hashes and all slots, 32 * K at a time, so that a hash
// is loaded once for K slots and few lanes are idle whatever the number of slots. All threads of the block call it, after a
// barrier. best has a value for each warp and each of 32 * K slots. The values go through `finish` at the end.
template <int K, typename T, typename Finish>
DV_FN void lower_slots(const T *hashes, u32 windows, const T *a, const T *b, u32 slots, const u32 *list, T *row, T *best, Finish finish) {
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = DV_BLOCK / 32;
    const u32 each = (windows + warps - 1) / warps;
    const u32 from = min_of(warp * each, windows), to = min_of(from + each, windows);
    for (u32 first = 0; first < slots; first += 32 * K) {
        // A few slots at the end are shared by groups of lanes, each of which takes some of the hashes.
        u32 group = 32;
        while (group / 2 >= slots - first)
            group /= 2;
        T as[K], bs[K], least[K];
        for (int k = 0; k < K; k++) {
            u32 j = first + 32 * k + lane % group;
            least[k] = ~(T)0;
            as[k] = bs[k] = 0;
            if (j < slots) {
                u32 slot = list ? list[j] : j;
                as[k] = a[slot], bs[k] = b[slot];
            }
        }
        u32 some = (min_of(slots - first, (u32)(32 * K)) + 31) / 32;
        if (some == 1) {
            slots_of_lane<1>(hashes, from + lane / group, to, 32 / group, as, bs, least);
            for (u32 d = group; d < 32; d *= 2)
                least[0] = min_of(least[0], __shfl_xor_sync(DV_ALL, least[0], d));
        } else if (some == 2) {
            slots_of_lane<2>(hashes, from, to, 1, as, bs, least);
        } else {
            slots_of_lane<K>(hashes, from, to, 1, as, bs, least);
        }
        for (int k = 0; k < K; k++)
            best[warp * 32 * K + 32 * k + lane] = least[k];
        __syncthreads();
        for (u32 j = threadIdx.x; j < 32 * K && first + j < slots; j += DV_BLOCK) {
            T value = ~(T)0;
            for (u32 w = 0; w < warps; w++)
                value = min_of(value, best[w * 32 * K + j]);
            value = finish(value);
            T *slot = row + (list ? list[first + j] : first + j);
            if (value < dv_load(slot))
                atomicMin(slot, value);
        }
        __syncthreads();
    }
}

struct AsItIs {
    template <typename T> DV_FN_MEMBER T operator()(T v) const { return v; }
};

// murmur32 is MurmurHash3_x86_32 of bytes [from, to) of a tile.
DV_FN u32 murmur32(const u32 *words, u32 from, u32 to, u32 seed) {
    u32 h = seed, n = to - from, by = from % 4 * 8, left = n;
    const u32 *next = words + from / 4;
    u32 low = *next;
    for (; left >= 4; left -= 4) {
        u32 high = *++next;
        h ^= rotate_left(__funnelshift_r(low, high, by) * 0xcc9e2d51, 15) * 0x1b873593;
        h = rotate_left(h, 13) * 5 + 0xe6546b64;
        low = high;
    }
    if (left > 0) {
        u32 k = __funnelshift_r(low, next[1], by) & ((1u << (8 * left)) - 1);
        h ^= rotate_left(k * 0xcc9e2d51, 15) * 0x1b873593;
    }
    h ^= n;
    h = (h ^ h >> 16) * 0x85ebca6b;
    h = (h ^ h >> 13) * 0xc2b2ae35;
    return h ^ h >> 16;
}

DV_FN u64 murmur_final64(u64 h) {
    h = (h ^ h >> 33) * 0xff51afd7ed558ccd;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53;
    return h ^ h >> 33;
}

// murmur64 is the first word of MurmurHash3_x64_128 with both state words set to seed.
DV_FN u64 murmur64(const u32 *words, u32 from, u32 to, u64 seed) {
    const u64 c1 = 0x87c37b91114253d5, c2 = 0x4cf5ad432745937f;
    u64 h1 = seed, h2 = seed;
    const u32 n = to - from;
    for (; to - from >= 16; from += 16) {
        h1 ^= rotate_left(shared64(words, from) * c1, 31) * c2;
        h1 = (rotate_left(h1, 27) + h2) * 5 + 0x52dce729;
        h2 ^= rotate_left(shared64(words, from + 8) * c2, 33) * c1;
        h2 = (rotate_left(h2, 31) + h1) * 5 + 0x38495ab5;
    }
    u32 left = to - from;
    if (left > 8) {
        u64 k = shared64(words, from + 8) & ~0ull >> (128 - 8 * left);
        h2 ^= rotate_left(k * c2, 33) * c1;
    }
    if (left > 0) {
        u64 k = shared64(words, from);
        if (left < 8)
            k &= ~0ull >> (64 - 8 * left);
        h1 ^= rotate_left(k * c1, 31) * c2;
    }
    h1 ^= n;
    h2 ^= n;
    h1 += h2;
    h2 += h1;
    return murmur_final64(h1) + murmur_final64(h2);
}

DV_FN u32 curator_hash(const u32 *words, u32 from, u32 to, u32 seed) {
    u32 h = murmur32(words, from, to, seed);
    return h != 0 ? h : 1;
}
DV_FN u64 curator_hash(const u32 *words, u32 from, u32 to, u64 seed) {
    u64 h = murmur64(words, from, to, seed);
    return h != 0 ? h : 1;
}

template <int K, typename T>
DV_FN void sign_curator(const void *offsets, i64 offset_bytes, const u8 *data, i64 rows, const u64 *piece_first, i64 piece, i64 width,
                        const T *a, const T *b, i64 slots, T *signatures, u8 *shared, T *best, Scratch *scratch) {
    const u32 size = DV_SIGN_TILE(width);
    T *hashes = (T *)shared;
    u32 *starts = (u32 *)(hashes + size), *words = starts + size + width;
    const u64 pieces = piece_first[rows];
    for (u64 index = blockIdx.x; index < pieces; index += gridDim.x) {
        Piece p = piece_at(piece_first, rows, index, offsets, offset_bytes, piece);
        u64 at = p.from;
        for (;;) {
            Tile t = read_tile<true>(data, p, at, size, (u32)width, starts, words, scratch);
            for (u32 i = threadIdx.x; i < t.windows; i += DV_BLOCK)
                hashes[i] = curator_hash(words, starts[i], starts[i + t.width], a[0]);
            __syncthreads();
            if (t.windows > 0)
                lower_slots<K>(hashes, t.windows, a, b, (u32)slots, 0, signatures + p.row * slots, best, AsItIs());
            if (t.last)
                break;
            at = t.next;
        }
    }
}

DV_KERNEL dv_sign_curator32(const void *offsets, i64 offset_bytes, const u8 *data, i64 rows, const u64 *piece_first, i64 piece,
                            i64 width, const u32 *a, const u32 *b, i64 slots, u32 *signatures) {
    DV_DYNAMIC(shared);
    DV_SHARED(u32, best, DV_BLOCK * 4);
    DV_SHARED(Scratch, scratch, 1);
    sign_curator<4>(offsets, offset_bytes, data, rows, piece_first, piece, width, a, b, slots, signatures, shared, best, scratch);
}

DV_KERNEL dv_sign_curator64(const void *offsets, i64 offset_bytes, const u8 *data, i64 rows, const u64 *piece_first, i64 piece,
                            i64 width, const u64 *a, const u64 *b, i64 slots, u64 *signatures) {
    DV_DYNAMIC(shared);
    DV_SHARED(u64, best, DV_BLOCK * 2);
    DV_SHARED(Scratch, scratch, 1);
    sign_curator<2>(offsets, offset_bytes, data, rows, piece_first, piece, width, a, b, slots, signatures, shared, best, scratch);
}

// The sketch fast.

#define FAST_POINT 0x2055cd73u
#define FAST_JOIN 0x9e3779b1u
#define FAST_LEN 0x9e3779b9u

DV_FN u32 fast_fold(u32 left, u32 right, u32 multiplier) {
    u32 h = left * multiplier + right;
    return h ^ h >> 15;
}

DV_FN u32 fast_level(u32 k) { // multiplier that joins two runs to one of 2^k code points
    u32 i = (k - 3) % 4;
    return i == 0 ? 0x85ebca77 : i == 1 ? 0xc2b2ae3d : i == 2 ? 0x27d4eb2f : 0x165667b1;
}

// fast_hashes replaces the code points of a tile by the hashes of its windows. runs[i] is the hash of the run of 2^k code points at
// i, and k goes up to the longest run of a window, in place: a thread reads two values, and writes after all have read. The shorter
// runs of a window are saved by the thread that will need them. All threads of the block call it after a barrier; a thread
// may read the hashes that it made itself (every DV_BLOCK-th) at once, others after a barrier.
DV_FN void fast_hashes(u32 *runs, u32 *saved, const Tile &t, u32 quad, u32 final) {
    const u32 each = 4; // values of a thread between two barriers
    if (t.windows == 0)
        return;
    const u32 width = t.width, top = 31 - __clz(width);
    u32 bits = 0; // runs saved so far
    for (u32 k = 0; k < top; k++) {
        if (width >> k & 1) {
            u32 at = width >> (k + 1) << (k + 1); // behind the longer ones
            for (u32 i = threadIdx.x; i < t.windows; i += DV_BLOCK)
                saved[bits * t.windows + i] = runs[at + i];
            bits++;
        }
        const u32 half = 1u << k, count = t.windows + width - 2 * half;
        const u32 multiplier = k < 1 ? FAST_POINT : k < 2 ? FAST_POINT * FAST_POINT : fast_level(k + 1);
        for (u32 first = 0; first < count; first += each * DV_BLOCK) {
            u32 values[each];
            for (u32 v = 0; v < each && first + v * DV_BLOCK < count; v++) {
                u32 i = first + v * DV_BLOCK + threadIdx.x;
                if (i >= count)
                    continue;
                u32 h = runs[i] * multiplier + runs[i + half];
                if (k == 1) {
                    h += quad;
                    h = (h ^ h >> 15) * 0x2c1b3c6d;
                    h ^= h >> 13;
                } else if (k > 1) {
                    h ^= h >> 15;
                }
                values[v] = h;
            }
            __syncthreads();
            for (u32 v = 0; v < each && first + v * DV_BLOCK < count; v++) {
                u32 i = first + v * DV_BLOCK + threadIdx.x;
                if (i < count)
                    runs[i] = values[v];
            }
        }
        __syncthreads();
    }
    for (u32 i = threadIdx.x; i < t.windows; i += DV_BLOCK) {
        u32 h = runs[i];
        for (u32 k = bits; k > 0; k--)
            h = fast_fold(h, saved[(k - 1) * t.windows + i], FAST_JOIN);
        h += final + width * FAST_LEN;
        h = (h ^ h >> 16) * 0x7feb352d;
        h = (h ^ h >> 15) * 0x846ca68b;
        runs[i] = h ^ h >> 16;
    }
}

#define FAST_IN_SHARED 1024 // slots that have room in shared memory

// Rounds 0 and 1. A key of round 1 is above every key of round 0, so that the minimum needs no look at which slots a window has.
DV_KERNEL dv_sign_fast_map(const void *offsets, i64 offset_bytes, const u8 *data, i64 rows, const u64 *piece_first, i64 piece,
                           i64 width, i64 quad, i64 final, i64 round, i64 slots, u32 *signatures) {
    DV_DYNAMIC(shared);
    DV_SHARED(u32, least, FAST_IN_SHARED);
    DV_SHARED(Scratch, scratch, 1);
    const u32 size = DV_SIGN_TILE(width);
    u32 *runs = (u32 *)shared, *saved = runs + size + width;
    const u64 pieces = piece_first[rows];
    const bool near = slots <= FAST_IN_SHARED;
    for (u64 index = blockIdx.x; index < pieces; index += gridDim.x) {
        Piece p = piece_at(piece_first, rows, index, offsets, offset_bytes, piece);
        u32 *row = signatures + p.row * slots, *to = near ? least : row;
        if (near)
            for (u32 j = threadIdx.x; j < slots; j += DV_BLOCK)
                least[j] = ~0u;
        u64 at = p.from;
        for (;;) {
            Tile t = read_tile<false>(data, p, at, size, (u32)width, runs, 0, scratch);
            fast_hashes(runs, saved, t, (u32)quad, (u32)final);
            for (u32 i = threadIdx.x; i < t.windows; i += DV_BLOCK) {
                u32 h = runs[i];
                u64 q = (u64)h * (u64)slots;
                u32 *slot = to + (q >> 32), key = (u32)q >> 2;
                if (key < dv_load(slot))
                    atomicMin(slot, key);
                q = (u64)(h * FAST_POINT + (u32)round) * (u64)slots;
                slot = to + (q >> 32), key = 1u << 30 | (u32)q >> 2;
                if (key < dv_load(slot))
                    atomicMin(slot, key);
            }
            __syncthreads();
            if (t.last)
                break;
            at = t.next;
        }
        if (near)
            for (u32 j = threadIdx.x; j < slots; j += DV_BLOCK)
                if (least[j] < dv_load(row + j))
                    atomicMin(row + j, least[j]);
    }
}

struct FastClassic {
    DV_FN_MEMBER u32 operator()(u32 v) const { return 1u << 31 | v >> 1; }
};

#define FILL_LIST 1024 // empty slots that are filled at a time

// The slots that no window was mapped to. Their keys are 2^31 and above, so that they are known as such whatever other pieces of
// the document have stored meanwhile.
DV_KERNEL dv_sign_fast_fill(const void *offsets, i64 offset_bytes, const u8 *data, i64 rows, const u64 *piece_first, i64 piece,
                            i64 width, i64 quad, i64 final, const u32 *a, const u32 *b, i64 slots, u32 *signatures) {
    DV_DYNAMIC(shared);
    DV_SHARED(u32, best, DV_BLOCK * 2);
    DV_SHARED(u32, list, FILL_LIST);
    DV_SHARED(Scratch, scratch, 1);
    const u32 size = DV_SIGN_TILE(width);
    u32 *runs = (u32 *)shared, *saved = runs + size + width;
    const u64 pieces = piece_first[rows];
    for (u64 index = blockIdx.x; index < pieces; index += gridDim.x) {
        Piece p = piece_at(piece_first, rows, index, offsets, offset_bytes, piece);
        u32 *row = signatures + p.row * slots;
        for (i64 first = 0; first < slots;) {
            // The next empty slots, as many as the list has room for.
            u32 empty = 0;
            for (; first < slots && empty + DV_BLOCK <= FILL_LIST; first += DV_BLOCK) {
                i64 j = first + threadIdx.x;
                u32 is = j < slots && dv_load(row + j) >= 1u << 31, total;
                u32 before = before_in_block(is, &total, scratch->sums);
                if (is)
                    list[empty + before] = (u32)j;
                empty += total;
            }
            if (empty == 0)
                continue;
            u64 at = p.from;
            for (;;) {
                Tile t = read_tile<false>(data, p, at, size, (u32)width, runs, 0, scratch);
                fast_hashes(runs, saved, t, (u32)quad, (u32)final);
                __syncthreads();
                if (t.windows > 0)
                    lower_slots<2>(runs, t.windows, a, b, empty, list, row, best, FastClassic());
                if (t.last)
                    break;
                at = t.next;
            }
        }
    }
}
