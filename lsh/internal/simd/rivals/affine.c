#include "affine.h"

#include <immintrin.h>

// One slot after another, with the minimum in a register.
__attribute__((optimize("no-tree-vectorize"))) void
affine_scalar(uint32_t *least, const uint32_t *a, const uint32_t *b, size_t slots, const uint32_t *hashes, size_t n) {
    for (size_t j = 0; j < slots; j++) {
        uint32_t m = least[j], aj = a[j], bj = b[j];
        for (size_t i = 0; i < n; i++) {
            uint32_t v = hashes[i] * aj + bj;
            m = v < m ? v : m;
        }
        least[j] = m;
    }
}
__attribute__((target("avx512f,avx512bw,avx512vl"))) void
affine_avx512(uint32_t *least, const uint32_t *a, const uint32_t *b, size_t slots, const uint32_t *hashes, size_t n) {
    for (; slots >= 128; slots -= 128, least += 128, a += 128, b += 128) {
        __m512i va[8], vb[8], vl[8];
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) {
            va[k] = _mm512_loadu_si512(a + 16 * k);
            vb[k] = _mm512_loadu_si512(b + 16 * k);
            vl[k] = _mm512_loadu_si512(least + 16 * k);
        }
        for (size_t i = 0; i < n; i++) {
            __m512i h = _mm512_set1_epi32((int)hashes[i]);
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++)
                vl[k] = _mm512_min_epu32(vl[k], _mm512_add_epi32(_mm512_mullo_epi32(h, va[k]), vb[k]));
        }
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++)
            _mm512_storeu_si512(least + 16 * k, vl[k]);
    }
    for (; slots > 0; slots -= slots < 16 ? slots : 16, least += 16, a += 16, b += 16) {
        __mmask16 m = slots >= 16 ? 0xffff : (__mmask16)((1u << slots) - 1);
        __m512i va = _mm512_maskz_loadu_epi32(m, a), vb = _mm512_maskz_loadu_epi32(m, b), vl = _mm512_maskz_loadu_epi32(m, least);
        for (size_t i = 0; i < n; i++) {
            __m512i h = _mm512_set1_epi32((int)hashes[i]);
            vl = _mm512_min_epu32(vl, _mm512_add_epi32(_mm512_mullo_epi32(h, va), vb));
        }
        _mm512_mask_storeu_epi32(least, m, vl);
    }
}
