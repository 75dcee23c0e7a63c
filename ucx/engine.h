// What package ucx needs of UCX, in a form that costs Go one call per round: operations go in and events come out as arrays of
// structures without pointers. Nothing here calls Go. A worker is used by one thread at a time, but for dvt_signal.
#ifndef DOVETAIL_UCX_ENGINE_H
#define DOVETAIL_UCX_ENGINE_H

#include <stddef.h>
#include <stdint.h>

typedef struct dvt_worker dvt_worker;

enum {
	DVT_OP_MESSAGE = 1, // send len bytes at addr as an active message over link
	DVT_OP_SEND,        // send len bytes at addr with tag over link
	DVT_OP_RECEIVE,     // receive exactly len bytes with tag at addr
	DVT_OP_RELEASE,     // give the bytes of an event DVT_EV_MESSAGE back: addr and owner are the event's
	DVT_OP_CANCEL,      // end the receive of slot if nothing has come for it yet
	DVT_OP_CLOSE,       // close the endpoint of link; owner is 1 to drop what is under way
};

// memory of a send or receive is a handle of dvt_map whose range has the bytes, or 0.
// result of a message, send or receive: 0 done, 1 under way (a DVT_EV_DONE of that slot follows), or UCX's error, negative.
typedef struct {
	uint64_t kind, link, addr, len, tag, slot, owner, memory;
	int64_t result;
} dvt_op;

enum {
	DVT_EV_MESSAGE = 1, // len bytes at addr have come as an active message
	DVT_EV_DONE,        // what was under way in slot has ended with status; a receive has got len bytes
	DVT_EV_FAILED,      // link has failed with status
	DVT_EV_CLOSED,      // the endpoint of link is closed
};

typedef struct {
	uint64_t kind, link, addr, len, slot, owner;
	int64_t status;
	uint64_t unused;
} dvt_event;

// Memory of operations: in owner of DVT_OP_SEND and DVT_OP_RECEIVE.
enum { DVT_HOST = 0, DVT_CUDA = 1 };

// dvt_quiet keeps UCX from printing and from catching signals, unless the environment says otherwise. It comes before dvt_load.
void dvt_quiet(void);
// dvt_load loads the library at path. It returns 0, or -1 with the reason in message, which has room for size bytes: also if it is
// too old.
int dvt_load(const char *path, char *message, size_t size);
// dvt_loaded returns the version of the library, as major << 16 | minor << 8 | release.
unsigned dvt_loaded(void);
const char *dvt_error(int64_t status);

// A configuration is what the environment says; dvt_set changes it.
int64_t dvt_config(void **config);
int64_t dvt_set(void *config, const char *name, const char *value);
void dvt_config_free(void *config);

// dvt_context opens a context. memories has bit DVT_CUDA set if it knows such memory.
int64_t dvt_context(void *config, void **context, uint64_t *memories);
void dvt_context_free(void *context);
// dvt_describe returns what UCX says of a context, to be freed by the caller, or NULL.
char *dvt_describe(void *context);

// dvt_map registers memory of a kind with all that a context moves bytes with. The handle is for dvt_op.memory and dvt_unmap. Any thread
// may call it.
int64_t dvt_map(void *context, uint64_t addr, uint64_t len, uint64_t memory, uint64_t *handle);
// dvt_unmap gives a handle back, which no operation uses any more. UCX's cache may keep the registration; see dvt_forget.
int64_t dvt_unmap(void *context, uint64_t handle);
// dvt_forget has UCX give up registrations that it keeps of memory which no operation uses any more. It needs dvt_can_forget.
void dvt_forget(void *context, uint64_t addr, uint64_t len);
int dvt_can_forget(void);

// dvt_open makes a worker. fd becomes ready when it should be progressed, once dvt_arm has returned 0.
int64_t dvt_open(void *context, dvt_worker **worker, int *fd);
// dvt_address makes a copy of the worker's address, to be freed by the caller.
int64_t dvt_address(dvt_worker *w, void **address, size_t *len);
// dvt_links makes room for links 0 to n-1.
int64_t dvt_links(dvt_worker *w, int n);
// dvt_connect makes the endpoint of a link to the worker with an address.
int64_t dvt_connect(dvt_worker *w, int link, const void *address);
// dvt_round starts operations, makes progress until there are events, or nothing has happened for spin nanoseconds, and
// returns how many events it has stored; there may be more.
int dvt_round(dvt_worker *w, dvt_op *ops, int nops, dvt_event *events, int max, uint64_t spin);
// dvt_arm makes progress until nothing is left to do. It returns 0 if the worker is quiet and fd will become ready, 1 if there are
// events, or dvt_kick was called.
int dvt_arm(dvt_worker *w);
// dvt_kick points to a word that, when not 0, ends dvt_round and dvt_arm soon.
uint32_t *dvt_kick(dvt_worker *w);
// dvt_signal makes fd ready. Any thread may call it.
void dvt_signal(dvt_worker *w);
// dvt_reset makes a worker whose links are all closed, or that never had any, as good as new: what came late is dropped. It returns 0, or -1 if
// the worker is of no use any more.
int dvt_reset(dvt_worker *w);
// dvt_close ends everything of a worker. Memory that it was given is not used any more.
void dvt_close(dvt_worker *w);

#endif
