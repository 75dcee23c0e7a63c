#include <stddef.h>
#include <stdint.h>

// Both lower least[j] to the least h*a[j]+b[j] mod 2^32 over hashes.
void affine_scalar(uint32_t *least, const uint32_t *a, const uint32_t *b, size_t slots, const uint32_t *hashes, size_t n);
void affine_avx512(uint32_t *least, const uint32_t *a, const uint32_t *b, size_t slots, const uint32_t *hashes, size_t n);
