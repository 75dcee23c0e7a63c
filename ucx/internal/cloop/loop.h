// What a program in C reaches over UCX: chunks from one thread to another, with a checksum at both ends.
#ifndef DOVETAIL_CLOOP_H
#define DOVETAIL_CLOOP_H

#include <stddef.h>
#include <stdint.h>

// dvt_loop sends a chunk of size bytes, a multiple of 24, as often as there are chunks, receives each into memory of its own, and returns 0
// and how many nanoseconds that took, or -1 and why not. Both ends compute CRC32C of every chunk.
int dvt_loop(const char *library, const char *tls, const char *devices, const void *source, size_t size, void *const *into, int chunks,
	int64_t *nanoseconds, char *message, size_t room);

// dvt_crc is CRC32C of n bytes, a multiple of 24.
uint32_t dvt_crc(const void *data, size_t n);

#endif
