// Texts: pieces of documents, code points and windows, as lsh/FORMAT.md defines them.
#ifndef DOVETAIL_TEXT_CUH
#define DOVETAIL_TEXT_CUH

#include "common.cuh"

// Piece is the part of a document that a block works on: windows that start in [from, to) of a document [begin, end).
struct Piece {
    i64 row;
    u64 begin, end, from, to;
};

DV_FN Piece piece_at(const u64 *piece_first, i64 rows, u64 index, const void *offsets, i64 offset_bytes, i64 size) {
    Piece p;
    p.row = last_not_above(piece_first, rows, index);
    p.begin = offset_at(offsets, offset_bytes, p.row);
    p.end = offset_at(offsets, offset_bytes, p.row + 1);
    p.from = p.begin + (index - piece_first[p.row]) * size;
    p.to = min_of(p.from + size, p.end);
    return p;
}

// decode returns the length of the code point that starts with the lowest of the four bytes of w, and the code point itself. It
// is 1 for a byte that starts no valid encoding, of which the code point is 0x110000 | byte.
DV_FN u32 decode(u32 w, u32 *point) {
    u32 b = w & 0xff, c = w >> 8 & 0xff, d = w >> 16 & 0xff, e = w >> 24;
    if (b < 0x80) {
        *point = b;
        return 1;
    }
    if ((c & 0xc0) == 0x80) {
        if (b >= 0xc2 && b < 0xe0) {
            *point = (b & 0x1f) << 6 | (c & 0x3f);
            return 2;
        }
        if ((d & 0xc0) == 0x80) {
            u32 p = (b & 0xf) << 12 | (c & 0x3f) << 6 | (d & 0x3f);
            if ((b & 0xf0) == 0xe0 && p >= 0x800 && (p & 0xf800) != 0xd800) {
                *point = p;
                return 3;
            }
            p = (p & 0x7fff) << 6 | (e & 0x3f);
            if (b >= 0xf0 && b <= 0xf4 && (e & 0xc0) == 0x80 && p >= 0x10000 && p <= 0x10ffff) {
                *point = p;
                return 4;
            }
        }
    }
    *point = 0x110000 | b;
    return 1;
}

// word_at returns the four bytes at data + at, an address that is a multiple of 4, with 0 for bytes outside of [begin, end).
DV_FN u32 word_at(const u8 *data, i64 at, i64 begin, i64 end) {
    if (at >= begin && at + 4 <= end)
        return *(const u32 *)(data + at);
    u32 w = 0;
    for (i64 k = 0; k < 4; k++)
        if (at + k >= begin && at + k < end)
            w |= (u32)data[at + k] << (8 * k);
    return w;
}

// Tile is what read_tile found.
struct Tile {
    u32 windows; // that start in the tile and in the piece
    u32 width;   // their width, less than usual for a text that is shorter
    u32 points;  // code points that were kept
    bool last;   // there are no more windows in the piece
    u64 next;    // where the next tile begins
};

// Scratch is what read_tile needs in shared memory.
struct Scratch {
    u32 sums[DV_BLOCK / 32];
    u64 next;
};

// read_tile decodes a piece from `at` until it has size + width code points, or to the end of the document. All threads of
// the block call it, and a barrier must lie between their last look at what it left and its next call.
//
// Whether a byte starts a code point can be told from the three bytes before it: a byte that is no continuation always does, and a
// continuation does unless one of the three bytes before it starts a valid encoding that covers it. Those are no
// continuations, so they are starts themselves. So decoding needs no beginning, and a thread for each four bytes.
//
// With BYTES it keeps the bytes, as words from the multiple of 4 at or before `at` on, and two words of zeros behind them, and where
// code points start, counted from there, the end of the text being one more start. Otherwise it keeps the code points.
template <bool BYTES>
DV_FN Tile read_tile(const u8 *data, const Piece &p, u64 at, u32 size, u32 width, u32 *kept, u32 *words, Scratch *scratch) {
    const u32 need = size + width;
    // Positions are signed: the aligned address before the first byte may be before data.
    const i64 base = (i64)at - (i64)(((u64)data + at) & 3);
    const i64 begin = p.begin, end = p.end;
    u32 points = 0, owned = 0, chunk = 0;
    if (threadIdx.x == 0)
        scratch->next = 0; // barriers lie between this and whoever knows better
    for (; points < need && base + (i64)chunk * (4 * DV_BLOCK) < end; chunk++) {
        u32 index = chunk * DV_BLOCK + threadIdx.x;
        i64 first = base + (i64)index * 4;
        u32 word = word_at(data, first, begin, end);
        if (BYTES)
            words[index] = word;
        u32 start[4]; // 1 + the code point that starts at a byte, or 0
        u32 count = 0;
        if ((word & 0x80808080) == 0) {
            for (u32 k = 0; k < 4; k++)
                start[k] = 1 + (word >> (8 * k) & 0xff);
        } else {
            u32 before = word_at(data, first - 4, begin, end), after = word_at(data, first + 4, begin, end), ignored;
            for (u32 k = 0; k < 4; k++) {
                u32 four = __funnelshift_r(word, after, 8 * k), point;
                decode(four, &point);
                start[k] = 1 + point;
                if ((four & 0xc0) == 0x80) {
                    u32 one = k >= 1 ? __funnelshift_r(word, after, 8 * (k - 1)) : __funnelshift_r(before, word, 24);
                    u32 two = k >= 2 ? __funnelshift_r(word, after, 8 * (k - 2)) : __funnelshift_r(before, word, 8 * (k + 2));
                    u32 three = k >= 3 ? word : __funnelshift_r(before, word, 8 * (k + 1));
                    if (decode(one, &ignored) >= 2 || decode(two, &ignored) >= 3 || decode(three, &ignored) == 4)
                        start[k] = 0;
                }
            }
        }
        for (u32 k = 0; k < 4; k++) {
            if (first + k < (i64)at || first + k >= end)
                start[k] = 0;
            if (start[k] != 0)
                count += first + k < (i64)p.to ? 0x10001 : 1;
        }
        u32 total, slot = points + (before_in_block(count, &total, scratch->sums) & 0xffff);
        for (u32 k = 0; k < 4; k++) {
            if (start[k] == 0)
                continue;
            if (slot < need)
                kept[slot] = BYTES ? index * 4 + k : start[k] - 1;
            if (slot == size)
                scratch->next = first + k;
            slot++;
        }
        points += total & 0xffff;
        owned += total >> 16;
    }
    Tile t;
    bool ended = points < need; // the document has no more
    t.width = width;
    t.points = min_of(points, need);
    if (!ended)
        t.windows = size;
    else if (points >= width)
        t.windows = points - width + 1; // at most size
    else if (at == p.begin && points > 0)
        t.windows = 1, t.width = points;
    else
        t.windows = 0;
    t.windows = min_of(t.windows, owned);
    t.last = ended || owned <= size;
    if (BYTES && threadIdx.x < 2)
        words[chunk * DV_BLOCK + threadIdx.x] = 0;
    if (BYTES && ended && threadIdx.x == 0)
        kept[points] = (u32)(end - base);
    __syncthreads();
    t.next = scratch->next;
    return t;
}

// shared32 and shared64 read bytes `at` and following of words, whatever the alignment. They may look at one word more.
DV_FN u32 shared32(const u32 *words, u32 at) { return __funnelshift_r(words[at / 4], words[at / 4 + 1], at % 4 * 8); }
DV_FN u64 shared64(const u32 *words, u32 at) {
    u32 low = words[at / 4], middle = words[at / 4 + 1], high = words[at / 4 + 2], by = at % 4 * 8;
    return __funnelshift_r(low, middle, by) | (u64)__funnelshift_r(middle, high, by) << 32;
}

#endif
