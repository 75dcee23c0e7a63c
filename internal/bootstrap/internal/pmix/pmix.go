//go:build pmix

package pmix

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <pmix.h>

// What libpmix has, under our names.
static struct {
	typeof(PMIx_Init) *init;
	typeof(PMIx_Finalize) *finalize;
	typeof(PMIx_Put) *put;
	typeof(PMIx_Commit) *commit;
	typeof(PMIx_Fence) *fence;
	typeof(PMIx_Get) *get;
	typeof(PMIx_Error_string) *error_string;
	typeof(PMIx_Get_version) *version;
} lib;

static const char *dt_load(const char *path) {
	void *h = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
	if (h == NULL)
		return dlerror();
#define FIND(field, name) if ((lib.field = (typeof(lib.field))dlsym(h, name)) == NULL) return dlerror()
	FIND(init, "PMIx_Init");
	FIND(finalize, "PMIx_Finalize");
	FIND(put, "PMIx_Put");
	FIND(commit, "PMIx_Commit");
	FIND(fence, "PMIx_Fence");
	FIND(get, "PMIx_Get");
	FIND(error_string, "PMIx_Error_string");
	FIND(version, "PMIx_Get_version");
#undef FIND
	return NULL;
}

static const char *dt_version(void) { return lib.version(); }
static const char *dt_error(int status) { return lib.error_string(status); }

// dt_self is this process; others have the same namespace.
static pmix_proc_t dt_self;

static int dt_init(void) { return lib.init(&dt_self, NULL, 0); }
static int dt_finalize(void) { return lib.finalize(NULL, 0); }
static unsigned dt_rank(void) { return dt_self.rank; }

static int dt_put(const char *key, char *bytes, size_t n) {
	pmix_value_t v;
	memset(&v, 0, sizeof v);
	v.type = PMIX_BYTE_OBJECT;
	v.data.bo.bytes = bytes;
	v.data.bo.size = n;
	return lib.put(PMIX_GLOBAL, key, &v); // copies it
}

static int dt_fence(void) {
	pmix_info_t collect;
	int rc = lib.commit();
	if (rc != PMIX_SUCCESS)
		return rc;
	memset(&collect, 0, sizeof collect);
	strncpy(collect.key, PMIX_COLLECT_DATA, PMIX_MAX_KEYLEN);
	collect.value.type = PMIX_BOOL;
	collect.value.data.flag = 1;
	return lib.fence(NULL, 0, &collect, 1);
}

// dt_get returns a copy of the bytes, which the caller frees.
static int dt_get(unsigned rank, const char *key, void **bytes, size_t *n) {
	pmix_proc_t proc = dt_self;
	pmix_value_t *v = NULL;
	int rc;
	proc.rank = rank;
	rc = lib.get(&proc, key, NULL, 0, &v);
	if (rc != PMIX_SUCCESS)
		return rc;
	if (v == NULL || v->type != PMIX_BYTE_OBJECT)
		return PMIX_ERR_TYPE_MISMATCH; // what it is is not freed, as its kind is not known
	*bytes = v->data.bo.bytes;
	*n = v->data.bo.size;
	free(v);
	return rc;
}

// dt_size is the number of ranks.
static int dt_size(unsigned *size) {
	pmix_proc_t job = dt_self;
	pmix_value_t *v = NULL;
	int rc;
	job.rank = PMIX_RANK_WILDCARD;
	rc = lib.get(&job, PMIX_JOB_SIZE, NULL, 0, &v);
	if (rc != PMIX_SUCCESS)
		return rc;
	if (v == NULL || v->type != PMIX_UINT32)
		return PMIX_ERR_TYPE_MISMATCH;
	*size = v->data.uint32;
	free(v);
	return rc;
}
*/
import "C"

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"unsafe"
)

// LibraryVariable names another libpmix than the system's, such as that of an Open MPI in a folder of its own.
const LibraryVariable = "DOVETAIL_PMIX_LIBRARY"

// soname has been that of libpmix since version 2.
const soname = "libpmix.so.2"

var load = sync.OnceValue(func() error {
	name := os.Getenv(LibraryVariable)
	if name == "" {
		name = soname
	}
	path := C.CString(name)
	defer C.free(unsafe.Pointer(path))
	if text := C.dt_load(path); text != nil {
		return fmt.Errorf("libpmix cannot be loaded (%s names another): %s", LibraryVariable, C.GoString(text))
	}
	return nil
})

// Available returns nil if PMIx can be used here.
func Available() error { return load() }

// Client is this process as a client of PMIx. Its methods are called by one goroutine at a time, and block in the library.
type Client struct {
	size int
}

// Open joins the launcher's service. While a process is a client, launchers take its end for the end of the whole job.
func Open() (*Client, error) {
	if err := load(); err != nil {
		return nil, err
	}
	if rc := C.dt_init(); rc != C.PMIX_SUCCESS {
		return nil, failed("joining", rc)
	}
	var size C.uint
	if rc := C.dt_size(&size); rc != C.PMIX_SUCCESS {
		err := failed("asking for the number of ranks", rc)
		C.dt_finalize()
		return nil, err
	}
	return &Client{size: int(size)}, nil
}

// failed describes an error of the library.
func failed(what string, rc C.int) error {
	version, _, _ := strings.Cut(C.GoString(C.dt_version()), ",")
	return fmt.Errorf("PMIx (%s), %s: %s (%d)", version, what, C.GoString(C.dt_error(rc)), int(rc))
}

// Size is the number of ranks.
func (c *Client) Size() int { return c.size }

// Put says something about this rank, which all can get after the next fence.
func (c *Client) Put(key string, value []byte) error {
	k, v := C.CString(key), C.CBytes(value)
	defer C.free(unsafe.Pointer(k))
	defer C.free(v)
	if rc := C.dt_put(k, (*C.char)(v), C.size_t(len(value))); rc != C.PMIX_SUCCESS {
		return failed("putting "+key, rc)
	}
	return nil
}

// Fence waits until all ranks have called it, and collects what they have put.
func (c *Client) Fence() error {
	if rc := C.dt_fence(); rc != C.PMIX_SUCCESS {
		return failed("waiting for all ranks", rc)
	}
	return nil
}

// Get returns what a rank has put before the last fence.
func (c *Client) Get(rank int, key string) ([]byte, error) {
	k := C.CString(key)
	defer C.free(unsafe.Pointer(k))
	var bytes unsafe.Pointer
	var n C.size_t
	if rc := C.dt_get(C.uint(rank), k, &bytes, &n); rc != C.PMIX_SUCCESS {
		return nil, failed("getting "+key, rc)
	}
	defer C.free(bytes)
	return C.GoBytes(bytes, C.int(n)), nil
}

// Close leaves the service.
func (c *Client) Close() error {
	if rc := C.dt_finalize(); rc != C.PMIX_SUCCESS {
		return failed("leaving", rc)
	}
	return nil
}
