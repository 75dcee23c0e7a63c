//go:build ucx && cgo

// See engine.h.
#define _GNU_SOURCE
#include "engine.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <ucp/api/ucp.h>

// The functions that are used, all looked up when the library is loaded.
#define FUNCTIONS(F) \
	F(ucp_am_data_release) F(ucp_am_send_nbx) F(ucp_cleanup) F(ucp_config_modify) F(ucp_config_read) F(ucp_config_release) \
	F(ucp_context_print_info) F(ucp_context_query) F(ucp_ep_close_nbx) F(ucp_ep_create) F(ucp_get_version) \
	F(ucp_init_version) F(ucp_mem_map) F(ucp_mem_unmap) F(ucp_request_cancel) F(ucp_request_free) F(ucp_tag_recv_nbx) \
	F(ucp_tag_send_nbx) F(ucp_worker_arm) F(ucp_worker_create) F(ucp_worker_destroy) F(ucp_worker_get_efd) \
	F(ucp_worker_progress) F(ucp_worker_query) F(ucp_worker_release_address) F(ucp_worker_set_am_recv_handler) \
	F(ucp_worker_signal) F(ucs_status_string)

static struct {
#define FIELD(name) __typeof__(name) *name;
	FUNCTIONS(FIELD)
#undef FIELD
	void (*ucm_vm_munmap)(void *address, size_t len); // of libucm, which comes with libucp; NULL if it is not there
} api;

static int loaded;

// The oldest library that will do, of those with UCP_API_MAJOR: older ones do not tell of dead peers over shared memory. What is used of
// UCX was there long before, and its structures grow only at their ends, with a bit for every field.
enum { LEAST_MINOR = 17 };

void dvt_quiet(void) {
	// UCX reads these when it is loaded. It would print to the standard output, where our results go.
	setenv("UCX_LOG_LEVEL", "fatal", 0);
	setenv("UCX_LOG_FILE", "stderr", 0);
	setenv("UCX_WARN_UNUSED_ENV_VARS", "n", 0);
	// Go has its own handlers of signals.
	setenv("UCX_HANDLE_ERRORS", "none", 0);
}

int dvt_load(const char *path, char *message, size_t size) {
	if (loaded)
		return 0;
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		snprintf(message, size, "%s", dlerror());
		return -1;
	}
#define LOOK(name) \
	if (!(*(void **)&api.name = dlsym(lib, #name))) { \
		snprintf(message, size, "%s has no %s: it is too old, or no UCX", path, #name); \
		dlclose(lib); \
		return -1; \
	}
	FUNCTIONS(LOOK)
#undef LOOK
	*(void **)&api.ucm_vm_munmap = dlsym(lib, "ucm_vm_munmap");
	unsigned major, minor, release;
	api.ucp_get_version(&major, &minor, &release);
	if (major != UCP_API_MAJOR || minor < LEAST_MINOR) {
		snprintf(message, size, "%s is UCX %u.%u.%u, this program needs %d.%d or a later %d", path, major, minor, release,
			UCP_API_MAJOR, LEAST_MINOR, UCP_API_MAJOR);
		dlclose(lib);
		return -1;
	}
	loaded = 1;
	return 0;
}

unsigned dvt_loaded(void) {
	unsigned major, minor, release;
	api.ucp_get_version(&major, &minor, &release);
	return major << 16 | minor << 8 | release;
}

const char *dvt_error(int64_t status) { return api.ucs_status_string((ucs_status_t)status); }

int64_t dvt_config(void **config) { return api.ucp_config_read(NULL, NULL, (ucp_config_t **)config); }
int64_t dvt_set(void *config, const char *name, const char *value) { return api.ucp_config_modify(config, name, value); }
void dvt_config_free(void *config) { api.ucp_config_release(config); }

int64_t dvt_context(void *config, void **context, uint64_t *memories) {
	ucp_params_t p = {
		.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED | UCP_PARAM_FIELD_NAME,
		.features = UCP_FEATURE_TAG | UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
		.mt_workers_shared = 1,
		.name = "dovetail",
	};
	ucp_context_h c;
	ucs_status_t s = api.ucp_init_version(UCP_API_MAJOR, LEAST_MINOR, &p, config, &c);
	if (s != UCS_OK)
		return s;
	ucp_context_attr_t a = {.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES};
	s = api.ucp_context_query(c, &a);
	if (s != UCS_OK) {
		api.ucp_cleanup(c);
		return s;
	}
	*context = c;
	*memories = a.memory_types & UCS_BIT(UCS_MEMORY_TYPE_CUDA) ? 1 << DVT_CUDA : 0;
	return UCS_OK;
}

void dvt_context_free(void *context) { api.ucp_cleanup(context); }

char *dvt_describe(void *context) {
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return NULL;
	api.ucp_context_print_info(context, f);
	fclose(f);
	return text;
}

int dvt_can_forget(void) { return api.ucm_vm_munmap != NULL; }

static ucs_memory_type_t typeOf(uint64_t memory) { return memory == DVT_CUDA ? UCS_MEMORY_TYPE_CUDA : UCS_MEMORY_TYPE_HOST; }

int64_t dvt_map(void *context, uint64_t addr, uint64_t len, uint64_t memory, uint64_t *handle) {
	ucp_mem_map_params_t p = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH | UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE,
		.address = (void *)(uintptr_t)addr,
		.length = len,
		.memory_type = typeOf(memory),
	};
	ucp_mem_h h;
	ucs_status_t s = api.ucp_mem_map(context, &p, &h);
	*handle = s == UCS_OK ? (uintptr_t)h : 0;
	return s;
}

int64_t dvt_unmap(void *context, uint64_t handle) { return api.ucp_mem_unmap(context, (ucp_mem_h)(uintptr_t)handle); }

// page is memory that is always there.
static char page[64] __attribute__((aligned(64)));

void dvt_forget(void *context, uint64_t addr, uint64_t len) {
	api.ucm_vm_munmap((void *)(uintptr_t)addr, len);
	// UCX notes that only, and does what follows from it when its cache is used next: at once, so that the memory is not held.
	uint64_t h;
	if (dvt_map(context, (uintptr_t)page, sizeof page, DVT_HOST, &h) == UCS_OK)
		dvt_unmap(context, h);
}

// slot is where an operation is under way. It stays at its place, for callbacks have its address.
typedef struct {
	dvt_worker *w;
	uint64_t id;
	void *request;
	int ended; // its callback was called
} slot;

typedef struct {
	dvt_worker *w;
	uint64_t id;
	ucp_ep_h ep;
} connection;

enum { BLOCK = 1024 };

struct dvt_worker {
	ucp_worker_h worker;
	uint32_t kick;
	connection *links;
	int nlinks;
	slot **blocks; // of BLOCK slots
	uint64_t nblocks;
	dvt_event *ring; // of room events, a power of two
	uint64_t room, first, count;
	int full; // an event was lost because there was no memory
};

static void push(dvt_worker *w, dvt_event e) {
	if (w->count == w->room) {
		uint64_t room = w->room ? 2 * w->room : 1024;
		dvt_event *ring = malloc(room * sizeof *ring);
		if (!ring) {
			w->full = 1;
			return;
		}
		for (uint64_t i = 0; i < w->count; i++)
			ring[i] = w->ring[(w->first + i) & (w->room - 1)];
		free(w->ring);
		w->ring = ring;
		w->room = room;
		w->first = 0;
	}
	w->ring[(w->first + w->count++) & (w->room - 1)] = e;
}

static slot *slotOf(dvt_worker *w, uint64_t id) {
	while (id / BLOCK >= w->nblocks) {
		slot **blocks = realloc(w->blocks, (w->nblocks + 1) * sizeof *blocks);
		if (!blocks)
			return NULL;
		w->blocks = blocks;
		slot *b = calloc(BLOCK, sizeof *b);
		if (!b)
			return NULL;
		for (int i = 0; i < BLOCK; i++) {
			b[i].w = w;
			b[i].id = w->nblocks * BLOCK + i;
		}
		w->blocks[w->nblocks++] = b;
	}
	return &w->blocks[id / BLOCK][id % BLOCK];
}

static void done(void *request, ucs_status_t status, slot *s, size_t len) {
	s->ended = 1;
	s->request = NULL;
	push(s->w, (dvt_event){.kind = DVT_EV_DONE, .slot = s->id, .status = status, .len = len});
	api.ucp_request_free(request);
}

static void onSent(void *request, ucs_status_t status, void *data) { done(request, status, data, 0); }

static void onReceived(void *request, ucs_status_t status, const ucp_tag_recv_info_t *info, void *data) {
	done(request, status, data, status == UCS_OK ? info->length : 0);
}

static void onClosed(void *request, ucs_status_t status, void *data) {
	connection *c = data;
	(void)status; // it is gone either way
	push(c->w, (dvt_event){.kind = DVT_EV_CLOSED, .link = c->id});
	api.ucp_request_free(request);
}

static void onFailed(void *data, ucp_ep_h ep, ucs_status_t status) {
	connection *c = data;
	(void)ep;
	push(c->w, (dvt_event){.kind = DVT_EV_FAILED, .link = c->id, .status = status});
}

enum { ACTIVE_MESSAGE = 1, OWNER_UCX = 0, OWNER_MALLOC = 1 };

static ucs_status_t onMessage(void *data, const void *header, size_t headerLen, void *bytes, size_t len, const ucp_am_recv_param_t *p) {
	dvt_worker *w = data;
	(void)header;
	// Nothing that this package sends has a header, or is announced: whoever sent it is no rank.
	if (headerLen > 0 || len == 0 || p->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV)
		return UCS_OK;
	if (p->recv_attr & UCP_AM_RECV_ATTR_FLAG_DATA) {
		push(w, (dvt_event){.kind = DVT_EV_MESSAGE, .addr = (uintptr_t)bytes, .len = len, .owner = OWNER_UCX});
		return UCS_INPROGRESS;
	}
	void *copy = malloc(len);
	if (!copy) {
		w->full = 1;
		return UCS_OK;
	}
	memcpy(copy, bytes, len);
	push(w, (dvt_event){.kind = DVT_EV_MESSAGE, .addr = (uintptr_t)copy, .len = len, .owner = OWNER_MALLOC});
	return UCS_OK;
}

int64_t dvt_open(void *context, dvt_worker **worker, int *fd) {
	dvt_worker *w = calloc(1, sizeof *w);
	if (!w)
		return UCS_ERR_NO_MEMORY;
	ucp_worker_params_t p = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE, .thread_mode = UCS_THREAD_MODE_SERIALIZED};
	ucs_status_t s = api.ucp_worker_create(context, &p, &w->worker);
	if (s != UCS_OK) {
		free(w);
		return s;
	}
	ucp_am_handler_param_t h = {
		.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS | UCP_AM_HANDLER_PARAM_FIELD_CB |
			UCP_AM_HANDLER_PARAM_FIELD_ARG,
		.id = ACTIVE_MESSAGE,
		.flags = UCP_AM_FLAG_WHOLE_MSG | UCP_AM_FLAG_PERSISTENT_DATA,
		.cb = onMessage,
		.arg = w,
	};
	s = api.ucp_worker_set_am_recv_handler(w->worker, &h);
	if (s == UCS_OK)
		s = api.ucp_worker_get_efd(w->worker, fd);
	if (s != UCS_OK) {
		dvt_close(w);
		return s;
	}
	*worker = w;
	return UCS_OK;
}

int64_t dvt_address(dvt_worker *w, void **address, size_t *len) {
	ucp_worker_attr_t a = {.field_mask = UCP_WORKER_ATTR_FIELD_ADDRESS};
	ucs_status_t s = api.ucp_worker_query(w->worker, &a);
	if (s != UCS_OK)
		return s;
	*address = malloc(a.address_length);
	if (*address) {
		memcpy(*address, a.address, a.address_length);
		*len = a.address_length;
	}
	api.ucp_worker_release_address(w->worker, a.address);
	return *address ? UCS_OK : UCS_ERR_NO_MEMORY;
}

int64_t dvt_links(dvt_worker *w, int n) {
	w->links = calloc(n, sizeof *w->links);
	if (!w->links)
		return UCS_ERR_NO_MEMORY;
	w->nlinks = n;
	for (int i = 0; i < n; i++) {
		w->links[i].w = w;
		w->links[i].id = i;
	}
	return UCS_OK;
}

int64_t dvt_connect(dvt_worker *w, int link, const void *address) {
	connection *c = &w->links[link];
	ucp_ep_params_t p = {
		.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER,
		.address = address,
		.err_mode = UCP_ERR_HANDLING_MODE_PEER,
		.err_handler = {.cb = onFailed, .arg = c},
	};
	return api.ucp_ep_create(w->worker, &p, &c->ep);
}

// started notes what became of an operation.
static void started(dvt_op *op, slot *s, ucs_status_ptr_t r) {
	if (r == NULL) {
		op->result = 0;
	} else if (UCS_PTR_IS_ERR(r)) {
		op->result = UCS_PTR_STATUS(r);
	} else {
		op->result = 1;
		if (!s->ended)
			s->request = r;
	}
}

// with tells UCX of the registration of an operation's memory.
static void with(ucp_request_param_t *p, uint64_t handle) {
	if (handle) {
		p->op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
		p->memh = (ucp_mem_h)(uintptr_t)handle;
	}
}

static void start(dvt_worker *w, dvt_op *op) {
	op->result = 0;
	if (op->kind == DVT_OP_RELEASE) {
		if (op->owner == OWNER_MALLOC)
			free((void *)(uintptr_t)op->addr);
		else
			api.ucp_am_data_release(w->worker, (void *)(uintptr_t)op->addr);
		return;
	}
	if (op->kind == DVT_OP_CLOSE) {
		connection *c = &w->links[op->link];
		ucp_request_param_t p = {
			.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
			.flags = op->owner ? UCP_EP_CLOSE_FLAG_FORCE : 0,
			.cb.send = onClosed,
			.user_data = c,
		};
		ucs_status_ptr_t r = c->ep ? api.ucp_ep_close_nbx(c->ep, &p) : NULL;
		c->ep = NULL;
		if (!UCS_PTR_IS_PTR(r))
			push(w, (dvt_event){.kind = DVT_EV_CLOSED, .link = c->id});
		return;
	}
	slot *s = slotOf(w, op->slot);
	if (!s) {
		op->result = UCS_ERR_NO_MEMORY;
		return;
	}
	if (op->kind == DVT_OP_CANCEL) {
		if (s->request)
			api.ucp_request_cancel(w->worker, s->request);
		return;
	}
	s->ended = 0;
	s->request = NULL;
	void *addr = (void *)(uintptr_t)op->addr;
	ucp_request_param_t p = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA, .user_data = s};
	if (op->kind == DVT_OP_RECEIVE) {
		ucp_tag_recv_info_t info = {0};
		p.op_attr_mask |= UCP_OP_ATTR_FIELD_RECV_INFO | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
		p.memory_type = typeOf(op->owner);
		with(&p, op->memory);
		p.cb.recv = onReceived;
		p.recv_info.tag_info = &info;
		started(op, s, api.ucp_tag_recv_nbx(w->worker, addr, op->len, op->tag, UINT64_MAX, &p));
		if (op->result == 0)
			op->len = info.length;
		return;
	}
	connection *c = &w->links[op->link];
	if (!c->ep) {
		op->result = UCS_ERR_NOT_CONNECTED;
		return;
	}
	p.cb.send = onSent;
	if (op->kind == DVT_OP_MESSAGE) {
		p.op_attr_mask |= UCP_OP_ATTR_FIELD_FLAGS;
		p.flags = UCP_AM_SEND_FLAG_EAGER;
		started(op, s, api.ucp_am_send_nbx(c->ep, ACTIVE_MESSAGE, NULL, 0, addr, op->len, &p));
	} else {
		p.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMORY_TYPE;
		p.memory_type = typeOf(op->owner);
		with(&p, op->memory);
		started(op, s, api.ucp_tag_send_nbx(c->ep, addr, op->len, op->tag, &p));
	}
}

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int kicked(dvt_worker *w) { return __atomic_load_n(&w->kick, __ATOMIC_ACQUIRE) != 0; }

// A round that makes progress without an event ends after so many steps, so that operations that were posted meanwhile do not wait.
enum { MOST_STEPS = 256 };

int dvt_round(dvt_worker *w, dvt_op *ops, int nops, dvt_event *events, int max, uint64_t spin) {
	for (int i = 0; i < nops; i++)
		start(w, &ops[i]);
	uint64_t until = 0;
	for (int i = 0; i < MOST_STEPS && w->count == 0; ) {
		if (api.ucp_worker_progress(w->worker) > 0) {
			i++;
			until = 0;
			continue;
		}
		if (spin == 0 || w->count > 0 || kicked(w))
			break;
		uint64_t t = now();
		if (until == 0)
			until = t + spin;
		else if (t >= until)
			break;
	}
	int n = 0;
	for (; n < max && w->count > 0; n++, w->count--) {
		events[n] = w->ring[w->first];
		w->first = (w->first + 1) & (w->room - 1);
	}
	return w->full ? -1 : n;
}

int dvt_arm(dvt_worker *w) {
	for (;;) {
		while (w->count == 0 && !kicked(w) && api.ucp_worker_progress(w->worker) > 0)
			continue;
		if (w->count > 0 || kicked(w))
			return 1;
		if (api.ucp_worker_arm(w->worker) != UCS_ERR_BUSY)
			return 0;
	}
}

uint32_t *dvt_kick(dvt_worker *w) { return &w->kick; }

void dvt_signal(dvt_worker *w) { api.ucp_worker_signal(w->worker); }

// drain drops events that nobody reads any more. What they bring belongs to UCX, or to whoever reads them.
static void drain(dvt_worker *w) {
	for (; w->count > 0; w->count--) {
		dvt_event *e = &w->ring[w->first];
		if (e->kind == DVT_EV_MESSAGE && e->owner == OWNER_MALLOC)
			free((void *)(uintptr_t)e->addr);
		else if (e->kind == DVT_EV_MESSAGE)
			api.ucp_am_data_release(w->worker, (void *)(uintptr_t)e->addr);
		w->first = (w->first + 1) & (w->room - 1);
	}
}

int dvt_reset(dvt_worker *w) {
	for (int i = 0; i < MOST_STEPS && api.ucp_worker_progress(w->worker) > 0; i++)
		continue;
	drain(w);
	free(w->links);
	w->links = NULL;
	w->nlinks = 0;
	w->kick = 0;
	return w->full ? -1 : 0;
}

void dvt_close(dvt_worker *w) {
	drain(w);
	api.ucp_worker_destroy(w->worker);
	for (uint64_t i = 0; i < w->nblocks; i++)
		free(w->blocks[i]);
	free(w->blocks);
	free(w->links);
	free(w->ring);
	free(w);
}
