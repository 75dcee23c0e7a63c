// Exclusive prefix sums in three passes: sums of tiles, their prefix sums, and those of the tiles with what is before. It reads the
// input twice, where the single pass of Merrill and Garland (2016) reads it once; but no block waits for another, so that it works
// with any grid and any order of blocks.
#include "common.cuh"

#define SCAN_EACH (DV_SCAN_TILE / DV_BLOCK)

DV_KERNEL dv_scan_reduce(const u64 *in, i64 n, u64 *sums) {
    DV_SHARED(u64, scratch, DV_BLOCK / 32);
    i64 tiles = DV_SCAN_TILES(n);
    for (i64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        u64 sum = 0;
        for (i64 k = 0; k < SCAN_EACH; k++) {
            i64 i = tile * DV_SCAN_TILE + k * DV_BLOCK + threadIdx.x;
            if (i < n)
                sum += in[i];
        }
        u64 total;
        before_in_block(sum, &total, scratch);
        if (threadIdx.x == 0)
            sums[tile] = total;
    }
}

DV_KERNEL dv_scan_sums(u64 *sums, i64 tiles) {
    DV_SHARED(u64, scratch, DV_BLOCK / 32);
    if (blockIdx.x != 0)
        return;
    u64 base = 0;
    for (i64 first = 0; first < tiles; first += DV_BLOCK) {
        i64 i = first + threadIdx.x;
        u64 total, before = before_in_block(i < tiles ? sums[i] : 0, &total, scratch);
        if (i < tiles)
            sums[i] = base + before;
        base += total;
    }
    if (threadIdx.x == 0)
        sums[tiles] = base;
}

DV_KERNEL dv_scan_apply(const u64 *in, i64 n, const u64 *sums, u64 *out) {
    DV_SHARED(u64, scratch, DV_BLOCK / 32);
    i64 tiles = DV_SCAN_TILES(n);
    for (i64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        // A thread has neighbouring values. All of the tile is read before any is written, since out may be in.
        i64 first = tile * DV_SCAN_TILE + (i64)threadIdx.x * SCAN_EACH;
        u64 values[SCAN_EACH], sum = 0;
        for (i64 k = 0; k < SCAN_EACH; k++) {
            values[k] = first + k < n ? in[first + k] : 0;
            sum += values[k];
        }
        u64 total, at = sums[tile] + before_in_block(sum, &total, scratch);
        for (i64 k = 0; k < SCAN_EACH; k++) {
            if (first + k < n)
                out[first + k] = at;
            at += values[k];
        }
    }
    if (blockIdx.x == 0 && threadIdx.x == 0)
        out[n] = sums[tiles];
}
