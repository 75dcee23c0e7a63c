// What all kernels use. The same source is CUDA C++, and plain C++ for the host model, which provides what is CUDA's: see
// internal/hostmodel/device.h.
#ifndef DOVETAIL_COMMON_CUH
#define DOVETAIL_COMMON_CUH

#include "kernels.h"

#ifdef __CUDACC__
#define DV_FN static __device__ __forceinline__
#define DV_FN_MEMBER __device__ __forceinline__
// An array in shared memory, and all of the dynamic shared memory as bytes.
#define DV_SHARED(type, name, count) __shared__ type name[count]
#define DV_DYNAMIC(name) extern __shared__ __align__(16) dv_u8 name[]
#define DV_CONSTANT static __constant__
#define DV_PRAGMA(x) _Pragma(#x)

// dv_load and dv_store are for values that other threads change meanwhile by atomic operations.
template <typename T> DV_FN T dv_load(const T *p) { return *(const volatile T *)p; }
template <typename T> DV_FN void dv_store(T *p, T v) { *(volatile T *)p = v; }
#else
#include "internal/hostmodel/device.h"
#endif

typedef dv_u8 u8;
typedef dv_u32 u32;
typedef dv_u64 u64;
typedef dv_i64 i64;

#define DV_ALL 0xffffffffu // a warp's lanes

DV_FN i64 thread_of_grid() { return (i64)blockIdx.x * DV_BLOCK + threadIdx.x; }
DV_FN i64 threads_in_grid() { return (i64)gridDim.x * DV_BLOCK; }
DV_FN i64 warp_of_grid() { return (i64)blockIdx.x * (DV_BLOCK / 32) + threadIdx.x / 32; }
DV_FN i64 warps_in_grid() { return (i64)gridDim.x * (DV_BLOCK / 32); }

DV_FN u64 offset_at(const void *offsets, i64 bytes, i64 i) {
    return bytes == 4 ? (u64)((const u32 *)offsets)[i] : ((const u64 *)offsets)[i];
}

DV_FN u32 bit_at(const u8 *bits, i64 i) { return bits[i >> 3] >> (i & 7) & 1; }

DV_FN bool is_valid(const u8 *validity, i64 i) { return validity == 0 || bit_at(validity, i) != 0; }

DV_FN u32 rotate_left(u32 x, u32 n) { return x << n | x >> (32 - n); }
DV_FN u64 rotate_left(u64 x, u32 n) { return x << n | x >> (64 - n); }

DV_FN u32 min_of(u32 a, u32 b) { return a < b ? a : b; }
DV_FN u64 min_of(u64 a, u64 b) { return a < b ? a : b; }
DV_FN i64 min_of(i64 a, i64 b) { return a < b ? a : b; }
DV_FN u64 max_of(u64 a, u64 b) { return a > b ? a : b; }

// last_not_above returns the last i in [0, n] with start[i] <= x; start does not descend, start[0] <= x. So of several pieces
// that begin at one place it finds the last, which is the one that is not empty.
DV_FN i64 last_not_above(const u64 *start, i64 n, u64 x) {
    i64 low = 0, high = n;
    while (low < high) {
        i64 middle = low + (high - low + 1) / 2;
        if (start[middle] <= x)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

// before_in_block returns the sum of v over the threads of the block before this one, and in *total that over all. All threads
// of the block call it. scratch has a value for each warp and may be used again at once.
template <typename T> DV_FN T before_in_block(T v, T *total, T *scratch) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    T sum = v;
    for (u32 d = 1; d < 32; d *= 2) {
        T other = __shfl_up_sync(DV_ALL, sum, d);
        if (lane >= d)
            sum += other;
    }
    if (lane == 31)
        scratch[warp] = sum;
    __syncthreads();
    T before = 0, all = 0;
    for (u32 w = 0; w < DV_BLOCK / 32; w++) {
        T x = scratch[w];
        if (w < warp)
            before += x;
        all += x;
    }
    __syncthreads();
    *total = all;
    return before + sum - v;
}

// sum_of_warp returns the sum of v over the lanes of the warp, in all lanes.
template <typename T> DV_FN T sum_of_warp(T v) {
    for (u32 d = 16; d > 0; d /= 2)
        v += __shfl_xor_sync(DV_ALL, v, d);
    return v;
}

#endif
