// What CUDA C++ has and the kernels use, for plain C++. A thread of a block is a fiber, and a fiber goes on until it waits for
// others: engine.cc runs them.
#ifndef DOVETAIL_DEVICE_H
#define DOVETAIL_DEVICE_H

#define DV_FN static inline __attribute__((always_inline))
#define DV_FN_MEMBER inline __attribute__((always_inline))
#define DV_CONSTANT static const
#define DV_PRAGMA(x)

// Each array in shared memory is known by the address of a static variable beside it.
#define DV_SHARED(type, name, count) \
    static char name##_key;          \
    type *const name = (type *)dv_model::shared(&name##_key, sizeof(type) * (count))
#define DV_DYNAMIC(name) unsigned char *const name = dv_model::dynamic()

namespace dv_model {

struct Index {
    unsigned x;
};

// Kinds of what a lane waits for with the others of a mask.
enum Exchange { sync_warp, shuffle_up, shuffle_down, shuffle_xor, shuffle_to, ballot, match_any };

unsigned char *shared(const void *key, unsigned long bytes);
unsigned char *dynamic();
void barrier(int line);
unsigned long long exchange(Exchange kind, unsigned mask, unsigned long long value, unsigned by, int line);
void preempt(); // lets others go on, now and then
void fault(const char *what, int line);

extern thread_local Index thread_index, block_index, grid_size;

} // namespace dv_model

#define threadIdx (dv_model::thread_index)
#define blockIdx (dv_model::block_index)
#define gridDim (dv_model::grid_size)

static inline void __syncthreads(int line = __builtin_LINE()) { dv_model::barrier(line); }
static inline void __syncwarp(unsigned mask = 0xffffffff, int line = __builtin_LINE()) {
    dv_model::exchange(dv_model::sync_warp, mask, 0, 0, line);
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned d, int line = __builtin_LINE()) {
    return (T)dv_model::exchange(dv_model::shuffle_up, mask, v, d, line);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, unsigned d, int line = __builtin_LINE()) {
    return (T)dv_model::exchange(dv_model::shuffle_xor, mask, v, d, line);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned d, int line = __builtin_LINE()) {
    return (T)dv_model::exchange(dv_model::shuffle_down, mask, v, d, line);
}
template <typename T> static inline T __shfl_sync(unsigned mask, T v, unsigned lane, int line = __builtin_LINE()) {
    return (T)dv_model::exchange(dv_model::shuffle_to, mask, v, lane, line);
}
static inline unsigned __ballot_sync(unsigned mask, int v, int line = __builtin_LINE()) {
    return (unsigned)dv_model::exchange(dv_model::ballot, mask, v != 0, 0, line);
}
static inline unsigned __match_any_sync(unsigned mask, unsigned v, int line = __builtin_LINE()) {
    return (unsigned)dv_model::exchange(dv_model::match_any, mask, v, 0, line);
}

template <typename T> static inline T atomicAdd(T *p, T v) {
    dv_model::preempt();
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
template <typename T> static inline T atomicCAS(T *p, T old, T v) {
    dv_model::preempt();
    __atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return old;
}
template <typename T> static inline T atomicMin(T *p, T v) {
    dv_model::preempt();
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (v < old && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}
template <typename T> static inline T dv_load(const T *p) {
    dv_model::preempt();
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}
template <typename T> static inline void dv_store(T *p, T v) {
    dv_model::preempt();
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static inline unsigned __popc(unsigned long long v) { return (unsigned)__builtin_popcountll(v); }
static inline unsigned __clz(unsigned v) { return v ? (unsigned)__builtin_clz(v) : 32; }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return (unsigned)((((unsigned long long)high << 32) | low) >> (by & 31));
}

#endif
