// Band keys of signatures, and the bucket strings of NeMo Curator.
#include "common.cuh"

DV_FN u64 slot_at(const void *signatures, i64 slot_bytes, i64 i) {
    return slot_bytes == 4 ? (u64)((const u32 *)signatures)[i] : ((const u64 *)signatures)[i];
}

// A block makes the keys of 32 rows and 32 bands. Threads read neighbouring bands of a row and write neighbouring rows of a band, by
// way of shared memory, so that both are neighbouring addresses.
DV_KERNEL dv_band_keys(const void *signatures, i64 slot_bytes, i64 rows, i64 bands, i64 rows_per_band, u64 *keys) {
    DV_SHARED(u64, turn, 32 * 33);
    const i64 row_tiles = (rows + 31) / 32, band_tiles = (bands + 31) / 32;
    for (i64 tile = blockIdx.x; tile < row_tiles * band_tiles; tile += gridDim.x) {
        const i64 row0 = tile / band_tiles * 32, band0 = tile % band_tiles * 32;
        const u32 tall = (u32)min_of(rows - row0, (i64)32), wide = (u32)min_of(bands - band0, (i64)32);
        for (u32 i = threadIdx.x; i < tall * wide; i += DV_BLOCK) {
            const i64 row = row0 + i / wide, band = band0 + i % wide;
            const i64 first = (row * bands + band) * rows_per_band;
            u64 h = (u64)(band + 1) * 0x9e3779b97f4a7c15;
            for (i64 k = 0; k < rows_per_band; k++) {
                h = (h ^ slot_at(signatures, slot_bytes, first + k)) * 0xd6e8feb86659fd93;
                h ^= h >> 32;
            }
            h = (h ^ h >> 33) * 0xff51afd7ed558ccd;
            h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53;
            turn[i % wide * 33 + i / wide] = h ^ h >> 33;
        }
        __syncthreads();
        for (u32 i = threadIdx.x; i < 32 * wide; i += DV_BLOCK)
            if (i % 32 < tall)
                keys[(band0 + i / 32) * rows + row0 + i % 32] = turn[i / 32 * 33 + i % 32];
        __syncthreads();
    }
}

// MD5 (RFC 1321).

DV_CONSTANT u32 md5_sines[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1,
    0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453,
    0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942,
    0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05,
    0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d,
    0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};

DV_FN void md5_block(u32 *state, const u32 *m) {
    u32 a = state[0], b = state[1], c = state[2], d = state[3];
    const u32 turns[16] = {7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21};
    DV_PRAGMA(unroll)
    for (u32 i = 0; i < 64; i++) {
        u32 f, g;
        if (i < 16)
            f = (b & c) | (~b & d), g = i;
        else if (i < 32)
            f = (d & b) | (~d & c), g = (5 * i + 1) % 16;
        else if (i < 48)
            f = b ^ c ^ d, g = (3 * i + 5) % 16;
        else
            f = c ^ (b | ~d), g = 7 * i % 16;
        f += a + md5_sines[i] + m[g];
        a = d, d = c, c = b;
        b += rotate_left(f, turns[i / 16 * 4 + i % 4]);
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
}

DV_KERNEL dv_bucket_strings(const void *signatures, i64 slot_bytes, i64 rows, i64 slots, i64 first_slot, i64 rows_per_band,
                            i64 number, u8 *out) {
    u32 digits = 1;
    for (i64 power = 10; number >= power; power *= 10)
        digits++;
    const i64 words_per_slot = slot_bytes / 4, words = rows_per_band * words_per_slot;
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid()) {
        // Slots are little-endian, as their words in memory are.
        const u32 *from = (const u32 *)signatures + (row * slots + first_slot) * words_per_slot;
        u32 state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
        // Behind the words come a bit, zeros, and the number of bits in the last two words of a block.
        for (i64 first = 0; first <= words + 2; first += 16) {
            u32 m[16];
            const bool last = first + 16 > words + 2;
            for (i64 k = 0; k < 16; k++) {
                i64 i = first + k;
                m[k] = i < words ? from[i] : i == words ? 0x80 : 0;
            }
            if (last) {
                m[14] = (u32)(words * 32);
                m[15] = (u32)((u64)words * 32 >> 32);
            }
            md5_block(state, m);
            if (last)
                break;
        }
        u8 *to = out + row * (34 + digits);
        to[0] = 'b';
        i64 rest = number;
        for (u32 k = digits; k > 0; k--) {
            to[k] = (u8)('0' + rest % 10);
            rest /= 10;
        }
        to += 1 + digits;
        *to++ = '_';
        for (u32 k = 0; k < 32; k++) {
            u32 digit = state[k / 8] >> (k / 2 % 4 * 8 + (k % 2 == 0 ? 4 : 0)) & 15;
            to[k] = (u8)(digit < 10 ? '0' + digit : 'a' + digit - 10);
        }
    }
}
