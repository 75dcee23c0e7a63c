/* NeMo Curator's 32-bit signature by plain loops, for cc -O2 -fno-tree-vectorize: what vector instructions are measured
 * against. Standard input has SLOTS multipliers, SLOTS addends (uint32, the machine's byte order) and a text. The signature
 * is made again and again, and the program prints the shortest processor time of one, in ns, and the slots. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SLOTS = 260, WIDTH = 24, TURNS = 5 };

static uint32_t a[SLOTS], b[SLOTS], least[SLOTS];
static uint8_t text[1 << 20];

static uint32_t rotl(uint32_t x, int r) { return x << r | x >> (32 - r); }

/* MurmurHash3_x86_32 of WIDTH bytes. */
static uint32_t murmur(const uint8_t *p, uint32_t seed) {
	uint32_t h = seed, k;
	for (int i = 0; i < WIDTH; i += 4) {
		memcpy(&k, p + i, 4);
		h = rotl(h ^ rotl(k * 0xcc9e2d51, 15) * 0x1b873593, 13) * 5 + 0xe6546b64;
	}
	h ^= WIDTH;
	h = (h ^ h >> 16) * 0x85ebca6b;
	h = (h ^ h >> 13) * 0xc2b2ae35;
	return h ^ h >> 16;
}

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

int main(void) {
	if (fread(a, sizeof a, 1, stdin) != 1 || fread(b, sizeof b, 1, stdin) != 1)
		return 1;
	size_t n = fread(text, 1, sizeof text, stdin);
	int64_t best = INT64_MAX;
	for (int turn = 0; turn < TURNS; turn++) {
		memset(least, 0xff, sizeof least);
		int64_t start = now();
		for (size_t i = 0; i + WIDTH <= n; i++) {
			uint32_t h = murmur(text + i, a[0]);
			h += h == 0;
			for (int j = 0; j < SLOTS; j++) {
				uint32_t v = h * a[j] + b[j];
				least[j] = v < least[j] ? v : least[j];
			}
		}
		int64_t took = now() - start;
		best = took < best ? took : best;
	}
	printf("%" PRId64, best);
	for (int j = 0; j < SLOTS; j++)
		printf(" %" PRIu32, least[j]);
	return 0;
}
