// Runs the threads of a block as fibers of one thread of the processor, one block after another. What CUDA leaves undefined is a fault
// here: a barrier that some threads reach elsewhere or never, a lane of a mask that is not there or is elsewhere.
#include "hostmodel.h"
#include "device.h"

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include <sys/mman.h>

// The engine is no part of what is checked: it is compiled without sanitizers, and MODEL_ASAN or MODEL_TSAN says with which one the
// kernels are.
#if MODEL_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if MODEL_TSAN
#include <sanitizer/tsan_interface.h>
#endif

// dv_model_switch stores where this fiber is in *from and goes on where another is: only what a call preserves has to be kept.
extern "C" void dv_model_switch(void **from, void *to);
#if defined(__x86_64__)
asm(R"(
.text
.globl dv_model_switch
.hidden dv_model_switch
.type dv_model_switch, @function
dv_model_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size dv_model_switch, .-dv_model_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl dv_model_switch
.hidden dv_model_switch
.type dv_model_switch, %function
dv_model_switch:
    sub sp, sp, #176
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #176
    ret
.size dv_model_switch, .-dv_model_switch
)");
#else
#error "the host model knows how to switch fibers on x86-64 and arm64 only"
#endif

namespace dv_model {

thread_local Index thread_index, block_index, grid_size;

// Launcher calls a kernel with parameters given by pointers.
struct Kernel {
    const char *name;
    int params;
    void (*call)(void **params);
};
extern const Kernel kernels[];
extern const int num_kernels;

namespace {

enum State { ready, at_barrier, exchanging, done };

struct Fiber {
    void *stack = nullptr;   // lowest address
    void *pointer = nullptr; // where it goes on
    State state = done;
    int line = 0; // of the barrier or exchange it waits in
    Exchange kind = sync_warp;
    unsigned mask = 0, by = 0;
    unsigned long long value = 0, result = 0;
#if MODEL_ASAN
    void *fake_stack = nullptr;
#endif
#if MODEL_TSAN
    void *tsan = nullptr;
#endif
};

#if MODEL_ASAN || MODEL_TSAN
const size_t stack_bytes = 256 << 10;
#else
const size_t stack_bytes = 64 << 10;
#endif
const size_t shared_room = 128 << 10;
const unsigned max_block = 1024;

// Engine runs launches of one thread of the processor, one at a time.
struct Engine {
    const Kernel *kernel = nullptr;
    void **params = nullptr;
    unsigned block = 0, dynamic_bytes = 0;
    uint64_t random = 0; // 0: no preemption, threads and blocks in order
    std::vector<Fiber> fibers;
    Fiber *current = nullptr;
    void *scheduler = nullptr; // where run goes on
    std::vector<unsigned> order;
    unsigned waiting = 0, finished = 0;
    char error[512];
    bool failed = false;

    // Shared memory of the block.
    unsigned char *arena = nullptr, *dynamic_memory = nullptr;
    size_t arena_used = 0;
    struct Array {
        const void *key;
        unsigned char *at;
    };
    std::vector<Array> arrays;
#if MODEL_ASAN
    void *main_fake = nullptr;
    const void *main_stack = nullptr;
    size_t main_stack_bytes = 0;
#endif
#if MODEL_TSAN
    void *main_tsan = nullptr;
    std::vector<std::vector<Fiber>> sets; // a block uses one of these, so that few blocks are ordered by sharing one
    std::vector<unsigned char *> arenas;  // kept to the end of a launch
    char begin_sync = 0, end_sync = 0;
#endif

    uint64_t next() { // SplitMix64
        uint64_t z = random += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
};

thread_local Engine *engine;

void make_stack(Fiber &f) {
    if (f.stack)
        return;
    f.stack = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f.stack == MAP_FAILED) {
        perror("host model: a stack");
        abort();
    }
}

void fail(const char *format, ...) {
    Engine *e = engine;
    if (e->failed)
        return;
    e->failed = true;
    va_list args;
    va_start(args, format);
    vsnprintf(e->error, sizeof e->error, format, args);
    va_end(args);
}

// leave goes back to the scheduler, for good if `last`.
void leave(bool last) {
    Engine *e = engine;
    Fiber *f = e->current;
#if MODEL_ASAN
    __sanitizer_start_switch_fiber(last ? nullptr : &f->fake_stack, e->main_stack, e->main_stack_bytes);
#endif
#if MODEL_TSAN
    __tsan_switch_to_fiber(e->main_tsan, 1);
#endif
    dv_model_switch(&f->pointer, e->scheduler);
#if MODEL_ASAN
    __sanitizer_finish_switch_fiber(f->fake_stack, nullptr, nullptr);
#endif
    (void)last;
}

// body is what a fiber runs.
extern "C" __attribute__((noinline, used)) void dv_model_body() {
    Engine *e = engine;
#if MODEL_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &e->main_stack, &e->main_stack_bytes);
#endif
#if MODEL_TSAN
    __tsan_acquire(&e->begin_sync);
#endif
    e->kernel->call(e->params);
#if MODEL_TSAN
    __tsan_release(&e->end_sync);
#endif
    Fiber *f = e->current;
    f->state = done;
    e->finished++;
    leave(true);
    abort(); // nobody goes on here
}

void start(Fiber &f) {
    make_stack(f);
    uintptr_t top = ((uintptr_t)f.stack + stack_bytes) & ~(uintptr_t)15;
#if defined(__x86_64__)
    void **at = (void **)top;
    *--at = nullptr; // as if dv_model_body had been called
    *--at = (void *)dv_model_body;
    for (int i = 0; i < 6; i++)
        *--at = nullptr;
#else
    void **at = (void **)(top - 176);
    memset(at, 0, 176);
    at[11] = (void *)dv_model_body;
#endif
    f.pointer = at;
    f.state = ready;
#if MODEL_ASAN
    f.fake_stack = nullptr;
    __asan_unpoison_memory_region(f.stack, stack_bytes);
#endif
}

void resume(unsigned thread, Fiber &f) {
    Engine *e = engine;
    e->current = &f;
    thread_index.x = thread;
#if MODEL_ASAN
    __sanitizer_start_switch_fiber(&e->main_fake, f.stack, stack_bytes);
#endif
#if MODEL_TSAN
    __tsan_switch_to_fiber(f.tsan, 1);
#endif
    dv_model_switch(&e->scheduler, f.pointer);
#if MODEL_ASAN
    __sanitizer_finish_switch_fiber(e->main_fake, nullptr, nullptr);
#endif
}

const char *where(const Fiber &f) {
    return f.state == done ? "has ended" : f.state == at_barrier ? "waits at the barrier" : f.state == exchanging ? "waits in a warp" : "runs";
}

unsigned long long result_of(const Fiber *warp, unsigned lane, unsigned mask) {
    const Fiber &f = warp[lane];
    unsigned from = lane;
    switch (f.kind) {
    case sync_warp:
        return 0;
    case shuffle_up:
        from = lane >= f.by ? lane - f.by : lane;
        break;
    case shuffle_down:
        from = lane + f.by < 32 ? lane + f.by : lane;
        break;
    case shuffle_xor:
        from = (lane ^ f.by) & 31;
        break;
    case shuffle_to:
        from = f.by & 31;
        break;
    case ballot:
    case match_any: {
        unsigned bits = 0;
        for (unsigned k = 0; k < 32; k++)
            if (mask >> k & 1)
                bits |= (unsigned)(f.kind == ballot ? warp[k].value != 0 : warp[k].value == f.value) << k;
        return bits;
    }
    }
    if (!(mask >> from & 1)) {
        fail("line %d: lane %u reads lane %u, which is not in the mask %08x", f.line, lane, from, mask);
        return 0;
    }
    return warp[from].value;
}

// run plays one block to its end.
void run() {
    Engine *e = engine;
    for (unsigned i = 0; i < e->block; i++)
        start(e->fibers[i]);
    e->finished = e->waiting = 0;
    e->order.resize(e->block);
    for (unsigned i = 0; i < e->block; i++)
        e->order[i] = i;
    while (e->finished < e->block && !e->failed) {
        if (e->random)
            for (unsigned i = e->block - 1; i > 0; i--)
                std::swap(e->order[i], e->order[e->next() % (i + 1)]);
        bool any = false;
        for (unsigned i : e->order) {
            if (e->fibers[i].state != ready)
                continue;
            any = true;
            resume(i, e->fibers[i]);
            if (e->failed)
                return;
        }
        if (e->waiting == e->block) {
            for (unsigned i = 1; i < e->block; i++)
                if (e->fibers[i].line != e->fibers[0].line)
                    fail("block %u: thread 0 waits at the barrier of line %d, thread %u at that of line %d", block_index.x,
                         e->fibers[0].line, i, e->fibers[i].line);
            for (unsigned i = 0; i < e->block; i++)
                e->fibers[i].state = ready;
            e->waiting = 0;
        } else if (!any && e->finished < e->block) {
            unsigned one = 0, other = 0;
            while (e->fibers[one].state == done)
                one++;
            for (unsigned i = 0; i < e->block; i++)
                if (e->fibers[i].state != e->fibers[one].state || e->fibers[i].line != e->fibers[one].line)
                    other = i;
            fail("block %u: thread %u %s of line %d, but thread %u %s (line %d)", block_index.x, one, where(e->fibers[one]),
                 e->fibers[one].line, other, where(e->fibers[other]), e->fibers[other].line);
        }
    }
}

void fresh_shared() {
    Engine *e = engine;
#if MODEL_TSAN
    e->arena = (unsigned char *)malloc(shared_room); // a block's own, so that blocks are not ordered by using one
    e->arenas.push_back(e->arena);
    __tsan_release(&e->begin_sync); // allocating counts as writing
#else
    if (!e->arena)
        e->arena = (unsigned char *)aligned_alloc(64, shared_room);
#if MODEL_ASAN
    __asan_unpoison_memory_region(e->arena, shared_room);
#endif
    // What was not written is not 0.
    memset(e->arena, e->random ? (int)(e->next() & 0xff) : 0xa5, std::max(e->arena_used, (size_t)4096));
#endif
    e->arrays.clear();
    e->arena_used = 64;
    e->dynamic_memory = nullptr;
#if MODEL_ASAN
    __asan_poison_memory_region(e->arena, shared_room);
#endif
}

unsigned char *take(size_t bytes) {
    Engine *e = engine;
    unsigned char *at = e->arena + e->arena_used;
    e->arena_used += (bytes + 127) / 64 * 64; // 64 bytes between arrays at least
    if (e->arena_used > shared_room) {
        fail("%zu bytes of shared memory", e->arena_used);
        leave(true);
    }
#if MODEL_ASAN
    __asan_unpoison_memory_region(at, bytes);
#endif
    return at;
}

} // namespace

unsigned char *shared(const void *key, unsigned long bytes) {
    for (auto &a : engine->arrays)
        if (a.key == key)
            return a.at;
    unsigned char *at = take(bytes);
    engine->arrays.push_back({key, at});
    return at;
}

unsigned char *dynamic() {
    Engine *e = engine;
    if (!e->dynamic_memory)
        e->dynamic_memory = take(e->dynamic_bytes);
    return e->dynamic_memory;
}

void barrier(int line) {
    Engine *e = engine;
    Fiber *f = e->current;
    f->line = line;
    f->state = at_barrier;
    e->waiting++;
#if MODEL_TSAN
    __tsan_release(e->arena);
#endif
    leave(false);
#if MODEL_TSAN
    __tsan_acquire(e->arena);
#endif
}

unsigned long long exchange(Exchange kind, unsigned mask, unsigned long long value, unsigned by, int line) {
    Engine *e = engine;
    Fiber *f = e->current;
    const unsigned lane = thread_index.x % 32;
    Fiber *warp = f - lane;
    f->state = exchanging;
    f->kind = kind, f->mask = mask, f->by = by, f->value = value, f->line = line;
    if (!(mask >> lane & 1)) {
        fail("line %d: lane %u is not in its own mask %08x", line, lane, mask);
        leave(true);
    }
    bool all = true;
    for (unsigned k = 0; k < 32; k++) {
        if (!(mask >> k & 1))
            continue;
        const Fiber &o = warp[k];
        if (thread_index.x - lane + k >= e->block || o.state == done) {
            fail("block %u, line %d: lane %u of the mask %08x has ended", block_index.x, line, k, mask);
            leave(true);
        }
        // One that waits elsewhere may be released by others, and come here then; not if it waits for this one.
        const bool here = o.state == exchanging && o.kind == kind && o.mask == mask && o.line == line;
        if (o.state == exchanging && !here && o.mask >> lane & 1) {
            fail("block %u: lane %u is in line %d with the mask %08x, lane %u in line %d with %08x", block_index.x, lane, line, mask, k,
                 o.line, o.mask);
            leave(true);
        }
        all = all && here;
    }
#if MODEL_TSAN
    if (kind == sync_warp)
        __tsan_release(e->arena + 1 + thread_index.x / 32);
#endif
    if (all) {
        for (unsigned k = 0; k < 32; k++)
            if (mask >> k & 1)
                warp[k].result = result_of(warp, k, mask);
        for (unsigned k = 0; k < 32; k++)
            if (mask >> k & 1)
                warp[k].state = ready;
        if (e->failed)
            leave(true);
    } else {
        leave(false);
    }
#if MODEL_TSAN
    if (kind == sync_warp)
        __tsan_acquire(e->arena + 1 + thread_index.x / 32);
#endif
    return f->result;
}

void preempt() {
    Engine *e = engine;
    if (e->random && e->next() % 8 == 0)
        leave(false);
}

} // namespace dv_model

using namespace dv_model;

const void *dv_host_kernel(const char *name) {
    for (int i = 0; i < num_kernels; i++)
        if (strcmp(kernels[i].name, name) == 0)
            return &kernels[i];
    return nullptr;
}

int dv_host_params(const void *kernel) { return ((const Kernel *)kernel)->params; }

int dv_host_launch(const void *kernel, unsigned grid, unsigned block, unsigned shared_bytes, void **params, unsigned long long seed,
                          char *error, unsigned long error_size) {
    struct Owner {
        Engine *e = nullptr;
        ~Owner() {
            if (!e)
                return;
            for (auto &f : e->fibers)
                if (f.stack)
                    munmap(f.stack, stack_bytes);
            free(e->arena);
            delete e;
        }
    };
    static thread_local Owner owner;
    if (!owner.e)
        owner.e = new Engine;
    Engine *e = engine = owner.e;
    if (grid == 0 || block == 0 || block > max_block || shared_bytes > 48 << 10) {
        snprintf(error, error_size, "a grid of %u blocks of %u threads with %u bytes of shared memory", grid, block, shared_bytes);
        return 1;
    }
    e->kernel = (const Kernel *)kernel;
    e->params = params;
    e->block = block;
    e->dynamic_bytes = shared_bytes;
    e->random = seed;
    e->failed = false;
    grid_size.x = grid;
#if MODEL_TSAN
    const unsigned num_sets = 3;
    e->main_tsan = __tsan_get_current_fiber();
    if (e->sets.empty()) {
        e->sets.resize(num_sets);
        for (auto &set : e->sets) {
            set.resize(256);
            for (auto &f : set)
                f.tsan = __tsan_create_fiber(0);
        }
    }
    if (block > 256) {
        snprintf(error, error_size, "blocks of %u threads", block);
        return 1;
    }
    __tsan_release(&e->begin_sync);
#else
    if (e->fibers.size() < block)
        e->fibers.resize(block);
#endif
    std::vector<unsigned> blocks;
    if (seed && grid <= 1 << 20) {
        blocks.resize(grid);
        for (unsigned i = 0; i < grid; i++)
            blocks[i] = i;
        for (unsigned i = grid - 1; i > 0; i--)
            std::swap(blocks[i], blocks[e->next() % (i + 1)]);
    }
    for (unsigned i = 0; i < grid && !e->failed; i++) {
        block_index.x = blocks.empty() ? i : blocks[i];
        fresh_shared();
#if MODEL_TSAN
        const unsigned set = (unsigned)(e->next() % num_sets);
        e->fibers.swap(e->sets[set]);
        run();
        e->fibers.swap(e->sets[set]);
#else
        run();
#endif
    }
#if MODEL_TSAN
    __tsan_acquire(&e->end_sync);
    for (auto *a : e->arenas)
        free(a);
    e->arenas.clear();
    e->arena = nullptr;
#endif
    if (e->failed) {
        snprintf(error, error_size, "%s: %s", e->kernel->name, e->error);
        return 1;
    }
    return 0;
}
