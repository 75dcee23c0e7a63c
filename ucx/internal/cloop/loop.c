//go:build ucx && cgo && amd64

// See loop.h.
#define _GNU_SOURCE
#include "loop.h"

#include <dlfcn.h>
#include <nmmintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <ucp/api/ucp.h>

#define FUNCTIONS(F) \
	F(ucp_cleanup) F(ucp_config_modify) F(ucp_config_read) F(ucp_config_release) F(ucp_ep_close_nbx) F(ucp_ep_create) \
	F(ucp_init_version) F(ucp_request_check_status) F(ucp_request_free) F(ucp_tag_recv_nbx) F(ucp_tag_send_nbx) \
	F(ucp_worker_create) F(ucp_worker_destroy) F(ucp_worker_get_address) F(ucp_worker_progress) F(ucp_worker_release_address) \
	F(ucs_status_string)

static struct {
#define FIELD(name) __typeof__(name) *name;
	FUNCTIONS(FIELD)
#undef FIELD
} api;

// Three streams at a time, as the instruction takes three cycles, and a table that moves a checksum over the bytes of a third.
static uint32_t shift[4][256];
static size_t shifted;

static uint32_t over(uint32_t crc) {
	return shift[0][crc & 255] ^ shift[1][crc >> 8 & 255] ^ shift[2][crc >> 16 & 255] ^ shift[3][crc >> 24];
}

static void prepare(size_t n) {
	if (shifted == n)
		return;
	uint32_t bit[32]; // what a bit becomes when n zero bytes follow
	for (int i = 0; i < 32; i++) {
		uint64_t c = (uint32_t)1 << i;
		for (size_t k = 0; k < n / 8; k++)
			c = _mm_crc32_u64(c, 0);
		bit[i] = c;
	}
	for (int b = 0; b < 4; b++)
		for (int v = 0; v < 256; v++) {
			shift[b][v] = 0;
			for (int i = 0; i < 8; i++)
				if (v >> i & 1)
					shift[b][v] ^= bit[8 * b + i];
		}
	shifted = n;
}

uint32_t dvt_crc(const void *data, size_t n) {
	size_t third = n / 3;
	prepare(third);
	const uint64_t *p = data, *q = (const uint64_t *)((const char *)data + third), *r = (const uint64_t *)((const char *)data + 2 * third);
	uint64_t a = 0xffffffff, b = 0, c = 0;
	for (size_t i = 0; i < third / 8; i++) {
		a = _mm_crc32_u64(a, p[i]);
		b = _mm_crc32_u64(b, q[i]);
		c = _mm_crc32_u64(c, r[i]);
	}
	return ~(over(over(a) ^ b) ^ (uint32_t)c);
}

enum { WINDOW = 16 };

typedef struct {
	ucp_context_h context;
	ucp_worker_h worker;
	ucp_address_t *address;
	size_t addressLen;
	pthread_barrier_t *barrier;
	const ucp_address_t *peer;
	int chunks, sends;
	size_t size;
	void *const *buffers; // of the receiver, one for each chunk
	const void *source;   // of all that is sent
	uint32_t sum;
	int64_t start, end;
	const char *why;
} side;

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// finish waits for a request.
static void finish(side *s, ucs_status_ptr_t r) {
	if (r == NULL)
		return;
	if (UCS_PTR_IS_ERR(r)) {
		s->why = api.ucs_status_string(UCS_PTR_STATUS(r));
		return;
	}
	ucs_status_t status;
	for (int idle = 0; (status = api.ucp_request_check_status(r)) == UCS_INPROGRESS;) {
		if (api.ucp_worker_progress(s->worker) == 0 && ++idle % 100 == 0)
			sched_yield(); // there may be fewer processors than threads
	}
	if (status != UCS_OK)
		s->why = api.ucs_status_string(status);
	api.ucp_request_free(r);
}

static void failed(void *arg, ucp_ep_h ep, ucs_status_t status) {
	(void)arg, (void)ep, (void)status;
}

static void *work(void *arg) {
	side *s = arg;
	ucp_request_param_t none = {0};
	ucp_ep_params_t p = {
		.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER,
		.address = s->peer, .err_mode = UCP_ERR_HANDLING_MODE_PEER, .err_handler = {.cb = failed},
	};
	ucp_ep_h ep;
	ucs_status_t status = api.ucp_ep_create(s->worker, &p, &ep);
	if (status != UCS_OK) {
		s->why = api.ucs_status_string(status);
		pthread_barrier_wait(s->barrier);
		return NULL;
	}
	char hello = 0; // the connection is made by what is sent first
	ucs_status_ptr_t r = s->sends ? api.ucp_tag_send_nbx(ep, &hello, 1, 1, &none) : api.ucp_tag_recv_nbx(s->worker, &hello, 1, 1, ~0ull, &none);
	finish(s, r);
	ucs_status_ptr_t under[WINDOW] = {0};
	pthread_barrier_wait(s->barrier);
	s->start = now();
	for (int i = 0; i < s->chunks + WINDOW && !s->why; i++) {
		ucs_status_ptr_t *slot = &under[i % WINDOW];
		if (i >= WINDOW) {
			finish(s, *slot);
			*slot = NULL;
			if (!s->sends && dvt_crc(s->buffers[i - WINDOW], s->size) != s->sum)
				s->why = "a checksum is wrong";
		}
		if (i >= s->chunks)
			continue;
		if (!s->sends) {
			*slot = api.ucp_tag_recv_nbx(s->worker, s->buffers[i], s->size, 2, ~0ull, &none);
			continue;
		}
		if (dvt_crc(s->source, s->size) != s->sum)
			s->why = "a checksum is wrong";
		*slot = api.ucp_tag_send_nbx(ep, s->source, s->size, 2, &none);
	}
	s->end = now();
	// Until both are done, each answers the other.
	hello = 0;
	r = s->sends ? api.ucp_tag_recv_nbx(s->worker, &hello, 1, 3, ~0ull, &none) : api.ucp_tag_send_nbx(ep, &hello, 1, 3, &none);
	if (!s->why)
		finish(s, r);
	for (int64_t until = now() + 2000000; now() < until;)
		api.ucp_worker_progress(s->worker);
	pthread_barrier_wait(s->barrier);
	ucp_request_param_t force = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};
	const char *why = s->why;
	finish(s, api.ucp_ep_close_nbx(ep, &force));
	s->why = why;
	return NULL;
}

int dvt_loop(const char *library, const char *tls, const char *devices, const void *source, size_t size, void *const *into, int chunks,
	int64_t *nanoseconds, char *message, size_t room) {
	void *lib = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		snprintf(message, room, "%s", dlerror());
		return -1;
	}
#define LOOK(name) *(void **)&api.name = dlsym(lib, #name);
	FUNCTIONS(LOOK)
	ucp_config_t *config;
	api.ucp_config_read(NULL, NULL, &config);
	api.ucp_config_modify(config, "TLS", tls);
	api.ucp_config_modify(config, "POSIX_ERROR_HANDLING", "y");
	api.ucp_config_modify(config, "SYSV_ERROR_HANDLING", "y");
	api.ucp_config_modify(config, "CMA_MEMORY_INVALIDATE", "y"); // as package ucx has it: one copy
	if (*devices)
		api.ucp_config_modify(config, "NET_DEVICES", devices);
	ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED, .features = UCP_FEATURE_TAG, .mt_workers_shared = 1};
	ucp_context_h context;
	ucs_status_t status = api.ucp_init_version(UCP_API_MAJOR, UCP_API_MINOR, &params, config, &context);
	api.ucp_config_release(config);
	if (status != UCS_OK) {
		snprintf(message, room, "%s", api.ucs_status_string(status));
		return -1;
	}
	pthread_barrier_t barrier;
	pthread_barrier_init(&barrier, NULL, 2);
	side s[2];
	memset(s, 0, sizeof s);
	uint32_t sum = dvt_crc(source, size);
	pthread_t threads[2];
	for (int i = 0; i < 2; i++) {
		ucp_worker_params_t w = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE, .thread_mode = UCS_THREAD_MODE_SINGLE};
		api.ucp_worker_create(context, &w, &s[i].worker);
		api.ucp_worker_get_address(s[i].worker, &s[i].address, &s[i].addressLen);
		s[i].barrier = &barrier;
		s[i].chunks = chunks, s[i].size = size, s[i].sum = sum, s[i].sends = i == 0;
		s[i].source = source, s[i].buffers = into;
	}
	for (int i = 0; i < 2; i++) {
		s[i].peer = s[1 - i].address;
		pthread_create(&threads[i], NULL, work, &s[i]);
	}
	int bad = 0;
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		if (s[i].why) {
			snprintf(message, room, "%s", s[i].why);
			bad = -1;
		}
	}
	*nanoseconds = s[1].end - s[0].start;
	for (int i = 0; i < 2; i++) {
		api.ucp_worker_release_address(s[i].worker, s[i].address);
		api.ucp_worker_destroy(s[i].worker);
	}
	api.ucp_cleanup(context);
	pthread_barrier_destroy(&barrier);
	return bad;
}
