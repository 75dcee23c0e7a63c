// Columns of a batch packed by partition, and pieces of columns concatenated: columns.Codec.Pack and Concat.
#include "common.cuh"

// copy_value copies a value of fixed width, or zeros if from is null. Both are aligned to width, if that is 2, 4 or 8; to 8, if 16.
DV_FN void copy_value(u8 *to, const u8 *from, i64 width) {
    switch (width) {
    case 1:
        *to = from ? *from : 0;
        break;
    case 2:
        *(unsigned short *)to = from ? *(const unsigned short *)from : 0;
        break;
    case 4:
        *(u32 *)to = from ? *(const u32 *)from : 0;
        break;
    case 8:
        *(u64 *)to = from ? *(const u64 *)from : 0;
        break;
    case 16:
        ((u64 *)to)[0] = from ? ((const u64 *)from)[0] : 0;
        ((u64 *)to)[1] = from ? ((const u64 *)from)[1] : 0;
        break;
    default:
        for (i64 k = 0; k < width; k++)
            to[k] = from ? from[k] : 0;
    }
}

// copy_of_warp copies n bytes, by all lanes of a warp: words if the two addresses allow it.
DV_FN void copy_of_warp(u8 *to, const u8 *from, u64 n) {
    const u32 lane = threadIdx.x % 32;
    u64 i = 0;
    if ((((u64)to ^ (u64)from) & 3) == 0) {
        const u64 head = min_of(n, (0 - (u64)to) & 3), words = (n - head) / 4;
        if (lane < head)
            to[lane] = from[lane];
        DV_PRAGMA(unroll 2)
        for (u64 k = lane; k < words; k += 32)
            ((u32 *)(to + head))[k] = ((const u32 *)(from + head))[k];
        i = head + words * 4;
    }
    DV_PRAGMA(unroll 2)
    for (i += lane; i < n; i += 32)
        to[i] = from[i];
}

DV_KERNEL dv_pack_fixed(const u8 *values, i64 width, const u8 *validity, const u32 *order, i64 first, i64 rows, u8 *out) {
    for (i64 i = thread_of_grid(); i < rows; i += threads_in_grid()) {
        const i64 row = order[first + i];
        copy_value(out + i * width, is_valid(validity, row) ? values + row * width : 0, width);
    }
}

DV_KERNEL dv_pack_bits(const u8 *bits, const u8 *validity, const u32 *order, i64 first, i64 rows, u8 *out, u64 *ones) {
    u64 sum = 0;
    for (i64 byte = thread_of_grid(); byte < (rows + 7) / 8; byte += threads_in_grid()) {
        u32 b = 0;
        for (i64 k = 0; k < 8 && byte * 8 + k < rows; k++) {
            const i64 row = order[first + byte * 8 + k];
            b |= (u32)(is_valid(bits, row) && is_valid(validity, row)) << k;
        }
        out[byte] = (u8)b;
        sum += __popc(b);
    }
    sum = sum_of_warp(sum);
    if (threadIdx.x % 32 == 0 && sum > 0)
        atomicAdd(ones, sum);
}

DV_KERNEL dv_pack_lengths(const void *offsets, i64 offset_bytes, const u8 *validity, const u32 *order, i64 first, i64 rows,
                          u64 *lengths) {
    for (i64 i = thread_of_grid(); i < rows; i += threads_in_grid()) {
        const i64 row = order[first + i];
        const u64 bytes = offset_at(offsets, offset_bytes, row + 1) - offset_at(offsets, offset_bytes, row);
        lengths[i] = is_valid(validity, row) ? bytes : 0;
    }
}

DV_KERNEL dv_pack_strings(const void *offsets, i64 offset_bytes, const u8 *data, const u32 *order, i64 first, i64 rows, const u64 *to,
                          u8 *out) {
    const u64 bytes = to[rows];
    for (u64 begin = warp_of_grid() * DV_SPAN; begin < bytes; begin += warps_in_grid() * DV_SPAN) {
        const u64 end = min_of(begin + DV_SPAN, bytes);
        for (i64 i = last_not_above(to, rows, begin); i < rows && to[i] < end; i++) {
            const u64 low = max_of(to[i], begin), high = min_of(to[i + 1], end);
            copy_of_warp(out + low, data + offset_at(offsets, offset_bytes, order[first + i]) + (low - to[i]), high - low);
        }
    }
}

DV_FN void set_offset(void *offsets, i64 bytes, i64 i, u64 v) {
    if (bytes == 4)
        ((u32 *)offsets)[i] = (u32)v;
    else
        ((u64 *)offsets)[i] = v;
}

DV_KERNEL dv_pack_offsets(const u64 *to, i64 n, i64 out_bytes, void *out) {
    for (i64 i = thread_of_grid(); i < n; i += threads_in_grid())
        set_offset(out, out_bytes, i, to[i] - to[0]);
}

DV_KERNEL dv_concat_fixed(const u8 *const *from, const u64 *row_start, i64 sources, i64 width, u8 *out) {
    const i64 rows = row_start[sources];
    for (i64 i = thread_of_grid(); i < rows; i += threads_in_grid()) {
        const i64 k = last_not_above(row_start, sources, i);
        copy_value(out + i * width, from[k] + (i - row_start[k]) * width, width);
    }
}

DV_KERNEL dv_concat_bits(const u8 *const *from, const u64 *row_start, i64 sources, u8 *out, u64 *ones) {
    const i64 rows = row_start[sources];
    u64 sum = 0;
    for (i64 byte = thread_of_grid(); byte < (rows + 7) / 8; byte += threads_in_grid()) {
        u32 b = 0;
        i64 k = last_not_above(row_start, sources, byte * 8);
        for (i64 i = byte * 8; i < byte * 8 + 8 && i < rows; i++) {
            while (row_start[k + 1] <= (u64)i)
                k++;
            b |= (u32)is_valid(from[k], i - row_start[k]) << (i & 7);
        }
        out[byte] = (u8)b;
        sum += __popc(b);
    }
    sum = sum_of_warp(sum);
    if (threadIdx.x % 32 == 0 && sum > 0)
        atomicAdd(ones, sum);
}

DV_KERNEL dv_concat_offsets(const void *const *from, i64 offset_bytes, const u64 *row_start, const u64 *byte_start, i64 sources,
                            i64 out_bytes, void *out) {
    const i64 rows = row_start[sources];
    for (i64 i = thread_of_grid(); i <= rows; i += threads_in_grid()) {
        u64 at = byte_start[sources];
        if (i < rows) {
            const i64 k = last_not_above(row_start, sources, i);
            at = byte_start[k] + offset_at(from[k], offset_bytes, i - row_start[k]) - offset_at(from[k], offset_bytes, 0);
        }
        set_offset(out, out_bytes, i, at);
    }
}

DV_KERNEL dv_concat_bytes(const u8 *const *from, const u64 *byte_start, i64 sources, u8 *out) {
    const u64 bytes = byte_start[sources];
    for (u64 begin = warp_of_grid() * DV_SPAN; begin < bytes; begin += warps_in_grid() * DV_SPAN) {
        const u64 end = min_of(begin + DV_SPAN, bytes);
        for (i64 k = last_not_above(byte_start, sources, begin); k < sources && byte_start[k] < end; k++) {
            const u64 low = max_of(byte_start[k], begin), high = min_of(byte_start[k + 1], end);
            copy_of_warp(out + low, from[k] + (low - byte_start[k]), high - low);
        }
    }
}
