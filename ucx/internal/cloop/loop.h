// What a program in C reaches over UCX: chunks from one thread to another, with a checksum at both ends.
#ifndef DOVETAIL_CLOOP_H
#define DOVETAIL_CLOOP_H

#include <stddef.h>
#include <stdint.h>

// dvt_loop sends chunks of size bytes, a multiple of 24, and returns 0 and how many nanoseconds that took, or -1 and why not. With crc
// both ends compute CRC32C of every chunk, and the receiver keeps all chunks in memory of their own; without, it receives all into
// the same memory.
int dvt_loop(const char *library, const char *tls, const char *devices, int chunks, size_t size, int crc, int64_t *nanoseconds,
	char *message, size_t room);

// dvt_crc is CRC32C of n bytes, a multiple of 24.
uint32_t dvt_crc(const void *data, size_t n);

#endif
