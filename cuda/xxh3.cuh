// XXH3 (Yann Collet's specification), 64 and 128 bits, of bytes of any length, which a reader gives: global or shared memory.
#ifndef DOVETAIL_XXH3_CUH
#define DOVETAIL_XXH3_CUH

#include "common.cuh"

#define XXH32_1 0x9e3779b1u
#define XXH32_2 0x85ebca77u
#define XXH32_3 0xc2b2ae3du
#define XXH64_1 0x9e3779b185ebca87ull
#define XXH64_2 0xc2b2ae3d27d4eb4full
#define XXH64_3 0x165667b19e3779f9ull
#define XXH64_4 0x85ebca77c2b2ae63ull
#define XXH64_5 0x27d4eb2f165667c5ull
#define XXH_MX2 0x9fb21c651e98df25ull

// The secret, as little-endian words.
DV_CONSTANT u64 xxh_secret[24] = {
    0xbe4ba423396cfeb8, 0x1cad21f72c81017c, 0xdb979083e96dd4de, 0x1f67b3b7a4a44072, 0x78e5c0cc4ee679cb, 0x2172ffcc7dd05a82,
    0x8e2443f7744608b8, 0x4c263a81e69035e0, 0xcb00c391bb52283c, 0xa32e531b8b65d088, 0x4ef90da297486471, 0xd8acdea946ef1938,
    0x3f349ce33f76faa8, 0x1d4f0bc7c7bbdcf9, 0x3159b4cd4be0518a, 0x647378d9c97e9fc8, 0xc3ebd33483acc5ea, 0xeb6313faffa081c5,
    0x49daf0b751dd0d17, 0x9e68d429265516d3, 0xfca1477d58be162b, 0xce31d07ad1b8f88f, 0x280416958f3acb45, 0x7e404bbbcafbd7af,
};

// secret64 reads the secret at any byte, as it is derived from a seed for long inputs.
DV_FN u64 secret64(u32 at, u64 seed = 0) {
    const u32 i = at / 8, by = at % 8 * 8;
    const u64 low = i % 2 ? xxh_secret[i] - seed : xxh_secret[i] + seed;
    if (by == 0)
        return low;
    const u64 high = i % 2 ? xxh_secret[i + 1] + seed : xxh_secret[i + 1] - seed;
    return low >> by | high << (64 - by);
}

struct Hash128 {
    u64 low, high;
};

// GlobalBytes reads bytes in global memory, one by one since they may begin anywhere.
struct GlobalBytes {
    const u8 *p;
    DV_FN_MEMBER u32 byte(u64 i) const { return p[i]; }
    DV_FN_MEMBER u32 word(u64 i) const { return p[i] | (u32)p[i + 1] << 8 | (u32)p[i + 2] << 16 | (u32)p[i + 3] << 24; }
    DV_FN_MEMBER u64 word2(u64 i) const {
        if (((u64)(p + i) & 7) == 0)
            return *(const u64 *)(p + i);
        return word(i) | (u64)word(i + 4) << 32;
    }
};

DV_FN u64 xxh_fold(u64 a, u64 b) { return (a * b) ^ __umul64hi(a, b); }
DV_FN u64 xxh64_end(u64 h) {
    h = (h ^ h >> 33) * XXH64_2;
    h = (h ^ h >> 29) * XXH64_3;
    return h ^ h >> 32;
}
DV_FN u64 xxh3_end(u64 h) {
    h = (h ^ h >> 37) * 0x165667919e3779f9ull;
    return h ^ h >> 32;
}
DV_FN u32 swap32(u32 x) { return x >> 24 | (x >> 8 & 0xff00) | (x << 8 & 0xff0000) | x << 24; }
DV_FN u64 swap64(u64 x) { return (u64)swap32((u32)x) << 32 | swap32((u32)(x >> 32)); }

template <typename Reader> DV_FN u64 xxh_mix16(const Reader &r, u64 at, u32 secret, u64 seed) {
    return xxh_fold(r.word2(at) ^ (secret64(secret) + seed), r.word2(at + 8) ^ (secret64(secret + 8) - seed));
}

template <typename Reader> DV_FN void xxh_mix32(Hash128 *acc, const Reader &r, u64 one, u64 two, u32 secret, u64 seed) {
    acc->low = (acc->low + xxh_mix16(r, one, secret, seed)) ^ (r.word2(two) + r.word2(two + 8));
    acc->high = (acc->high + xxh_mix16(r, two, secret + 16, seed)) ^ (r.word2(one) + r.word2(one + 8));
}

// xxh_long is the state of an input of more than 240 bytes.
template <typename Reader> DV_FN void xxh_long(u64 *acc, const Reader &r, u64 n, u64 seed) {
    acc[0] = XXH32_3, acc[1] = XXH64_1, acc[2] = XXH64_2, acc[3] = XXH64_3;
    acc[4] = XXH64_4, acc[5] = XXH32_2, acc[6] = XXH64_5, acc[7] = XXH32_1;
    const u64 stripes = (n - 1) / 64; // and one more at the end, which may overlap
    u32 in_block = 0;
    for (u64 s = 0; s <= stripes; s++) {
        const u64 at = s < stripes ? s * 64 : n - 64;
        const u32 secret = s < stripes ? in_block * 8 : 121;
        for (u32 k = 0; k < 8; k++) {
            const u64 v = r.word2(at + 8 * k), x = v ^ secret64(secret + 8 * k, seed);
            acc[k ^ 1] += v;
            acc[k] += (x & 0xffffffff) * (x >> 32);
        }
        if (++in_block == 16 && s < stripes) {
            in_block = 0;
            for (u32 k = 0; k < 8; k++)
                acc[k] = ((acc[k] ^ acc[k] >> 47) ^ secret64(128 + 8 * k, seed)) * XXH32_1;
        }
    }
}

DV_FN u64 xxh_merge(const u64 *acc, u32 secret, u64 seed, u64 start) {
    for (u32 k = 0; k < 8; k += 2)
        start += xxh_fold(acc[k] ^ secret64(secret + 8 * k, seed), acc[k + 1] ^ secret64(secret + 8 * k + 8, seed));
    return xxh3_end(start);
}

// xxh3_64 is XXH3-64 with seed 0.
template <typename Reader> DV_FN u64 xxh3_64(const Reader &r, u64 n) {
    if (n <= 3) {
        if (n == 0)
            return xxh64_end(secret64(56) ^ secret64(64));
        const u32 x = r.byte(0) << 16 | r.byte(n / 2) << 24 | r.byte(n - 1) | (u32)n << 8;
        return xxh64_end(x ^ ((secret64(0) & 0xffffffff) ^ secret64(0) >> 32));
    }
    if (n <= 8) {
        u64 h = (r.word(n - 4) + ((u64)r.word(0) << 32)) ^ (secret64(8) ^ secret64(16));
        h ^= rotate_left(h, 49) ^ rotate_left(h, 24);
        h *= XXH_MX2;
        h ^= (h >> 35) + n;
        h *= XXH_MX2;
        return h ^ h >> 28;
    }
    if (n <= 16) {
        const u64 low = r.word2(0) ^ secret64(24) ^ secret64(32), high = r.word2(n - 8) ^ secret64(40) ^ secret64(48);
        return xxh3_end(n + swap64(low) + high + xxh_fold(low, high));
    }
    if (n <= 128) {
        u64 h = n * XXH64_1;
        for (i64 k = (i64)(n - 1) / 32; k >= 0; k--)
            h += xxh_mix16(r, 16 * k, 32 * k, 0) + xxh_mix16(r, n - 16 * (k + 1), 32 * k + 16, 0);
        return xxh3_end(h);
    }
    if (n <= 240) {
        u64 h = n * XXH64_1;
        for (u32 k = 0; k < 8; k++)
            h += xxh_mix16(r, 16 * k, 16 * k, 0);
        h = xxh3_end(h);
        for (u32 k = 8; k < n / 16; k++)
            h += xxh_mix16(r, 16 * k, 16 * (k - 8) + 3, 0);
        return xxh3_end(h + xxh_mix16(r, n - 16, 119, 0));
    }
    u64 acc[8];
    xxh_long(acc, r, n, 0);
    return xxh_merge(acc, 11, 0, n * XXH64_1);
}

// xxh3_128 is XXH3-128 with a seed.
template <typename Reader> DV_FN Hash128 xxh3_128(const Reader &r, u64 n, u64 seed) {
    Hash128 h;
    if (n <= 3) {
        if (n == 0) {
            h.low = xxh64_end(seed ^ secret64(64) ^ secret64(72));
            h.high = xxh64_end(seed ^ secret64(80) ^ secret64(88));
            return h;
        }
        const u32 x = r.byte(0) << 16 | r.byte(n / 2) << 24 | r.byte(n - 1) | (u32)n << 8, y = rotate_left(swap32(x), 13);
        h.low = xxh64_end(x ^ (((secret64(0) & 0xffffffff) ^ secret64(0) >> 32) + seed));
        h.high = xxh64_end(y ^ (((secret64(8) & 0xffffffff) ^ secret64(8) >> 32) - seed));
        return h;
    }
    if (n <= 8) {
        seed ^= (u64)swap32((u32)seed) << 32;
        const u64 x = (r.word(0) + ((u64)r.word(n - 4) << 32)) ^ ((secret64(16) ^ secret64(24)) + seed), by = XXH64_1 + (n << 2);
        h.low = x * by, h.high = __umul64hi(x, by);
        h.high += h.low << 1;
        h.low ^= h.high >> 3;
        h.low = (h.low ^ h.low >> 35) * XXH_MX2;
        h.low ^= h.low >> 28;
        h.high = xxh3_end(h.high);
        return h;
    }
    if (n <= 16) {
        const u64 low = r.word2(0), last = r.word2(n - 8), high = last ^ ((secret64(48) ^ secret64(56)) + seed);
        const u64 x = low ^ last ^ ((secret64(32) ^ secret64(40)) - seed);
        u64 m = x * XXH64_1, top = __umul64hi(x, XXH64_1);
        m += (n - 1) << 54;
        top += high + (high & 0xffffffff) * (XXH32_2 - 1);
        m ^= swap64(top);
        h.low = xxh3_end(m * XXH64_2);
        h.high = xxh3_end(__umul64hi(m, XXH64_2) + top * XXH64_2);
        return h;
    }
    if (n <= 240) {
        Hash128 acc;
        acc.low = n * XXH64_1, acc.high = 0;
        if (n <= 128) {
            for (i64 k = (i64)(n - 1) / 32; k >= 0; k--)
                xxh_mix32(&acc, r, 16 * k, n - 16 * (k + 1), 32 * k, seed);
        } else {
            for (u32 i = 0; i < 128; i += 32)
                xxh_mix32(&acc, r, i, i + 16, i, seed);
            acc.low = xxh3_end(acc.low), acc.high = xxh3_end(acc.high);
            for (u32 i = 128; i + 32 <= n; i += 32)
                xxh_mix32(&acc, r, i, i + 16, 3 + i - 128, seed);
            xxh_mix32(&acc, r, n - 16, n - 32, 103, 0 - seed);
        }
        h.low = xxh3_end(acc.low + acc.high);
        h.high = 0 - xxh3_end(acc.low * XXH64_1 + acc.high * XXH64_4 + (n - seed) * XXH64_2);
        return h;
    }
    u64 acc[8];
    xxh_long(acc, r, n, seed);
    h.low = xxh_merge(acc, 11, seed, n * XXH64_1);
    h.high = xxh_merge(acc, 117, seed, ~(n * XXH64_2));
    return h;
}

#endif
