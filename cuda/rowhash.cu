// Hashes of rows, whose sums are the ledger of a shuffle: columns.Codec.Hash, flow.RecordHash; and of texts: lsh.ContentHash.
#include "xxh3.cuh"

struct RowHash {
    u64 a, b;
};

DV_FN RowHash fold(RowHash h, u64 a, u64 b) {
    a += h.a * 0x9fb21c651e98df25;
    a = (a ^ a >> 33) * 0xff51afd7ed558ccd;
    a = (a ^ a >> 33) * 0xc4ceb9fe1a85ec53;
    b += h.b * 0xa24baed4963ee407;
    b = (b ^ b >> 30) * 0xbf58476d1ce4e5b9;
    b = (b ^ b >> 27) * 0x94d049bb133111eb;
    h.a = a ^ a >> 33;
    h.b = b ^ b >> 31;
    return h;
}

DV_FN void fold_into(u64 *hashes, i64 row, i64 first, u64 a, u64 b) {
    RowHash h = {0, 0};
    if (!first)
        h.a = hashes[2 * row], h.b = hashes[2 * row + 1];
    h = fold(h, a, b);
    hashes[2 * row] = h.a;
    hashes[2 * row + 1] = h.b;
}

#define NULL_A 0x6c62272e07bb0142ull
#define NULL_B 0x62b821756295c58dull

DV_KERNEL dv_row_hash_fixed(const u8 *values, i64 width, i64 kind, const u8 *validity, i64 rows, i64 first, u64 *hashes) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid()) {
        u64 a = NULL_A, b = NULL_B;
        if (is_valid(validity, row)) {
            if (kind == DV_BOOL) {
                a = b = bit_at(values, row);
            } else if (width == 1 || width == 2 || width == 4 || width == 8) {
                a = 0;
                for (i64 k = 0; k < width; k++)
                    a |= (u64)values[row * width + k] << (8 * k);
                b = a;
            } else {
                GlobalBytes r = {values + row * width};
                Hash128 h = xxh3_128(r, width, 0);
                a = h.high, b = h.low;
            }
        }
        fold_into(hashes, row, first, a, b);
    }
}

DV_KERNEL dv_row_hash_strings(const void *offsets, i64 offset_bytes, const u8 *data, const u8 *validity, i64 rows, i64 first,
                              u64 *hashes) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid()) {
        u64 a = NULL_A, b = NULL_B;
        if (is_valid(validity, row)) {
            const u64 from = offset_at(offsets, offset_bytes, row);
            GlobalBytes r = {data + from};
            Hash128 h = xxh3_128(r, offset_at(offsets, offset_bytes, row + 1) - from, 0);
            a = h.high, b = h.low;
        }
        fold_into(hashes, row, first, a, b);
    }
}

DV_KERNEL dv_row_hash_end(i64 rows, u64 *hashes) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid())
        fold_into(hashes, row, 0, 1, 1);
}

DV_FN RowHash record_fold(RowHash h, u64 w) {
    const u64 k1 = 0xe7037ed1a0b428db, k2 = 0x8ebc6af09c88c6e3, k3 = 0x589965cc75374cc3;
    h.a = rotate_left(h.a, 29) ^ xxh_fold(h.a ^ w, k2);
    h.b = rotate_left(h.b, 31) + xxh_fold(h.b ^ w ^ k3, k1);
    return h;
}

DV_KERNEL dv_record_hash(const u64 *records, i64 words, i64 rows, const void *offsets, i64 offset_bytes, const u8 *data, u64 *hashes) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid()) {
        RowHash h = {0xa0761d6478bd642f, 0xe7037ed1a0b428db};
        for (i64 k = 0; k < words; k++)
            h = record_fold(h, records[row * words + k]);
        if (offsets != 0) {
            const u64 from = offset_at(offsets, offset_bytes, row);
            GlobalBytes r = {data + from};
            Hash128 x = xxh3_128(r, offset_at(offsets, offset_bytes, row + 1) - from, 0);
            h = record_fold(h, x.high);
            h = record_fold(h, x.low);
        }
        const u64 ab = h.a ^ h.b, k3 = 0x589965cc75374cc3;
        hashes[2 * row] = h.a ^ __umul64hi(ab, k3);
        hashes[2 * row + 1] = h.b ^ ab * k3;
    }
}

DV_KERNEL dv_row_hash_sum(const u64 *hashes, const u32 *order, const u64 *bounds, i64 parts, u64 *sums) {
    DV_SHARED(u64, scratch, DV_BLOCK / 32);
    for (i64 p = blockIdx.x; p < parts; p += gridDim.x) {
        u64 a = 0, b = 0, all_a, all_b;
        for (u64 i = bounds[p] + threadIdx.x; i < bounds[p + 1]; i += DV_BLOCK) {
            const u64 row = order ? order[i] : i;
            a += hashes[2 * row];
            b += hashes[2 * row + 1];
        }
        before_in_block(a, &all_a, scratch);
        before_in_block(b, &all_b, scratch);
        if (threadIdx.x == 0)
            sums[2 * p] = all_a, sums[2 * p + 1] = all_b;
    }
}

DV_KERNEL dv_content_hash(const void *offsets, i64 offset_bytes, const u8 *data, const u8 *validity, i64 rows, u64 *hashes) {
    for (i64 row = thread_of_grid(); row < rows; row += threads_in_grid()) {
        const u64 from = offset_at(offsets, offset_bytes, row), to = offset_at(offsets, offset_bytes, row + 1);
        GlobalBytes r = {data + from};
        Hash128 h = xxh3_128(r, is_valid(validity, row) ? to - from : 0, 0x646f76657461696cull);
        hashes[2 * row] = h.high;
        hashes[2 * row + 1] = h.low;
    }
}
