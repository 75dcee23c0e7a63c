// Runs kernels for a test that speaks to it through a pipe, so that builds with sanitizers need not be linked into it. Requests come
// on standard input, little-endian: a letter, then
//   A size zero            allocate; answer: address
//   W address size bytes   write
//   R address size         read; answer: bytes
//   F                      free all
//   L size name grid block shared seed count parameters...   launch; answer: size of an error, error
// All numbers have 8 bytes. What a sanitizer finds ends the process, with a report on standard error.
#include "hostmodel.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <sys/mman.h>

static void get(void *to, size_t n) {
    if (fread(to, 1, n, stdin) != n)
        exit(n == 1 && feof(stdin) ? 0 : 2);
}

static uint64_t number() {
    uint64_t n;
    get(&n, 8);
    return n;
}

static void answer(const void *from, size_t n) {
    if (fwrite(from, 1, n, stdout) != n)
        exit(2);
}

int main() {
    struct Block {
        void *at;
        size_t mapped; // 0 if it is from malloc
    };
    std::vector<Block> blocks;
    for (;;) {
        char what;
        fflush(stdout);
        get(&what, 1);
        switch (what) {
        case 'A': {
            size_t size = number(), zero = number();
            Block b = {nullptr, 0};
            if (size > (64 << 20)) { // pages that are not touched take no memory
                b.mapped = size;
                b.at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                if (b.at == MAP_FAILED)
                    return 3;
            } else {
                b.at = malloc(size);
                if (!b.at)
                    return 3;
                memset(b.at, zero ? 0 : 0xcd, size);
            }
            blocks.push_back(b);
            uint64_t at = (uint64_t)b.at;
            answer(&at, 8);
            break;
        }
        case 'W': {
            char *to = (char *)number();
            get(to, number());
            break;
        }
        case 'R': {
            const char *from = (const char *)number();
            answer(from, number());
            break;
        }
        case 'F':
            for (auto &b : blocks) {
                if (b.mapped)
                    munmap(b.at, b.mapped);
                else
                    free(b.at);
            }
            blocks.clear();
            break;
        case 'L': {
            std::vector<char> name(number() + 1);
            get(name.data(), name.size() - 1);
            uint64_t grid = number(), block = number(), shared = number(), seed = number(), count = number();
            std::vector<uint64_t> values(count);
            std::vector<void *> params;
            for (auto &v : values)
                v = number();
            for (auto &v : values)
                params.push_back(&v);
            const void *kernel = dv_host_kernel(name.data());
            char error[1024] = "";
            if (!kernel)
                snprintf(error, sizeof error, "no kernel %s", name.data());
            else if (dv_host_params(kernel) != (int)count)
                snprintf(error, sizeof error, "%s has %d parameters, not %d", name.data(), dv_host_params(kernel), (int)count);
            else
                dv_host_launch(kernel, grid, block, shared, params.data(), seed, error, sizeof error);
            uint64_t size = strlen(error);
            answer(&size, 8);
            answer(error, size);
            break;
        }
        default:
            return 2;
        }
    }
}
