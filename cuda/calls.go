//go:build cuda

package cuda

// What gorgonia.org/cu lacks, on its handles, which are structs of one pointer each: see its types Stream, Function, CUContext.
// All that is C in this package, but for host functions, is here.

/*
#cgo LDFLAGS: -lcuda -ldl
#include <stdint.h>
#include <stdlib.h>
#include <cuda.h>
#include "kernels.h"
#include "shim/shim.h"

// What kernels.h says about launches, as functions.
enum { dovetail_block = DV_BLOCK, dovetail_piece = DV_PIECE };
static int64_t dovetail_scan_tiles(int64_t n) { return DV_SCAN_TILES(n); }
static int64_t dovetail_grid_threads(int64_t n) { return DV_GRID_THREADS(n); }
static int64_t dovetail_grid_bands(int64_t rows, int64_t bands) { return DV_GRID_BANDS(rows, bands); }
static int dovetail_shared_curator32(int width) { return DV_SHARED_CURATOR32(width); }
static int dovetail_shared_curator64(int width) { return DV_SHARED_CURATOR64(width); }
static int dovetail_shared_fast(int width) { return DV_SHARED_FAST(width); }
static int dovetail_shared_pairs(int width) { return DV_SHARED_SIGN_BYTES(width); }

// The context that this thread has, by a number that is never used again. A handle may be.
static __thread uint64_t bound;

static CUresult dovetail_bind(CUcontext ctx, uint64_t id) {
	if (bound == id)
		return CUDA_SUCCESS;
	CUresult r = cuCtxSetCurrent(ctx);
	if (r == CUDA_SUCCESS)
		bound = id;
	return r;
}

// dovetail_launch has all parameters in one array of 8 bytes each.
static CUresult dovetail_launch(CUfunction f, unsigned int grid, unsigned int block, unsigned int shared, CUstream s, uint64_t *params, int n) {
	void *pointers[64];
	for (int i = 0; i < n; i++)
		pointers[i] = params + i;
	return cuLaunchKernel(f, grid, 1, 1, block, 1, 1, shared, s, pointers, NULL);
}

static CUresult dovetail_host_alloc(uintptr_t *p, size_t n) {
	void *v = NULL;
	CUresult r = cuMemHostAlloc(&v, n, CU_MEMHOSTALLOC_PORTABLE);
	*p = (uintptr_t)v;
	return r;
}

static CUresult dovetail_host_free(uintptr_t p) { return cuMemFreeHost((void *)p); }

static CUresult dovetail_upload(CUdeviceptr dst, uintptr_t src, size_t n, CUstream s) {
	return cuMemcpyHtoDAsync(dst, (const void *)src, n, s);
}

static CUresult dovetail_download(uintptr_t dst, CUdeviceptr src, size_t n, CUstream s) {
	return cuMemcpyDtoHAsync((void *)dst, src, n, s);
}

// Options of the simulated driver; -2 if the library is no simulated driver.
static int dovetail_simulate(const char *options, char *message, size_t size) {
	int (*reset)(const char *, char *, size_t) = dovetail_cuda_symbol("dovetail_cudasim_reset");
	return reset ? reset(options, message, size) : -2;
}

static long dovetail_simulate_stat(const char *name, int gpu) {
	long (*stat)(const char *, int) = dovetail_cuda_symbol("dovetail_cudasim_stat");
	return stat ? stat(name, gpu) : -1;
}
*/
import "C"

import (
	"errors"
	"unsafe"

	"gorgonia.org/cu"
)

// maxParams is the most parameters that a kernel may have; kernels.h has no kernel with half as many.
const maxParams = 64

// Numbers of kernels.h.
const (
	blockThreads = C.dovetail_block // of every block
	pieceBytes   = C.dovetail_piece // of a text that a block signs, good for every width
)

func scanTiles(n int) int       { return int(C.dovetail_scan_tiles(C.int64_t(n))) }
func gridThreads(items int) int { return int(C.dovetail_grid_threads(C.int64_t(items))) }
func gridBands(rows, b int) int { return int(C.dovetail_grid_bands(C.int64_t(rows), C.int64_t(b))) }
func sharedCurator32(w int) int { return int(C.dovetail_shared_curator32(C.int(w))) }
func sharedCurator64(w int) int { return int(C.dovetail_shared_curator64(C.int(w))) }
func sharedPairs(width int) int { return int(C.dovetail_shared_pairs(C.int(width))) }
func sharedFast(width int) int  { return int(C.dovetail_shared_fast(C.int(width))) }

// code is a CUresult as an error; nil for CUDA_SUCCESS.
func code(r C.CUresult) error {
	if r == C.CUDA_SUCCESS {
		return nil
	}
	return resultCode(r)
}

// resultCode is a CUresult of our own calls.
type resultCode int

func (r resultCode) Error() string { return "CUresult" }

// loadLibrary has all functions of the driver be those of the library at path.
func loadLibrary(path string) error {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	var message [1024]C.char
	if C.dovetail_cuda_load(p, &message[0], C.size_t(len(message))) != 0 {
		return errors.New(C.GoString(&message[0]))
	}
	return nil
}

// simulate gives the simulated driver its options. It fails if something of it is in use.
func simulate(options string) error {
	p := C.CString(options)
	defer C.free(unsafe.Pointer(p))
	var message [1024]C.char
	switch C.dovetail_simulate(p, &message[0], C.size_t(len(message))) {
	case 0:
		return nil
	case -2:
		return errors.New("the library is no simulated driver")
	}
	return errors.New(C.GoString(&message[0]))
}

func simulateStat(name string, gpu int) int64 {
	p := C.CString(name)
	defer C.free(unsafe.Pointer(p))
	return int64(C.dovetail_simulate_stat(p, C.int(gpu)))
}

func initDriver() error { return code(C.cuInit(0)) }

// errorName returns what the driver calls a code, and what it says about it; empty if it does not know.
func errorName(r int) (name, text string) {
	var p *C.char
	if C.cuGetErrorName(C.CUresult(r), &p) == C.CUDA_SUCCESS && p != nil {
		name = C.GoString(p)
	}
	if C.cuGetErrorString(C.CUresult(r), &p) == C.CUDA_SUCCESS && p != nil {
		text = C.GoString(p)
	}
	return name, text
}

func contextOf(ctx cu.CUContext) C.CUcontext { return *(*C.CUcontext)(unsafe.Pointer(&ctx)) }
func streamOf(s cu.Stream) C.CUstream        { return *(*C.CUstream)(unsafe.Pointer(&s)) }
func functionOf(f cu.Function) C.CUfunction  { return *(*C.CUfunction)(unsafe.Pointer(&f)) }
func bind(ctx cu.CUContext, id uint64) error {
	return code(C.dovetail_bind(contextOf(ctx), C.uint64_t(id)))
}
func hostFree(p uintptr) error { return code(C.dovetail_host_free(C.uintptr_t(p))) }
func freeAsync(p uintptr, s cu.Stream) error {
	return code(C.cuMemFreeAsync(C.CUdeviceptr(p), streamOf(s)))
}
func enablePeer(ctx cu.CUContext) error { return code(C.cuCtxEnablePeerAccess(contextOf(ctx), 0)) }
func setShared(f cu.Function, bytes int) error {
	return code(C.cuFuncSetAttribute(functionOf(f), C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(bytes)))
}

// hostAlloc allocates pinned memory that all contexts may use.
func hostAlloc(n int) (uintptr, error) {
	var p C.uintptr_t
	err := code(C.dovetail_host_alloc(&p, C.size_t(n)))
	return uintptr(p), err
}

func allocAsync(n int, s cu.Stream) (uintptr, error) {
	var p C.CUdeviceptr
	err := code(C.cuMemAllocAsync(&p, C.size_t(n), streamOf(s)))
	return uintptr(p), err
}

// upload and download take addresses and not pointers: what they point to is used after they return, and is never Go's.
func upload(dst, src uintptr, n int, s cu.Stream) error {
	return code(C.dovetail_upload(C.CUdeviceptr(dst), C.uintptr_t(src), C.size_t(n), streamOf(s)))
}

func download(dst, src uintptr, n int, s cu.Stream) error {
	return code(C.dovetail_download(C.uintptr_t(dst), C.CUdeviceptr(src), C.size_t(n), streamOf(s)))
}

// launch starts a kernel. The parameters are copied before it returns.
func launch(f cu.Function, grid, block, shared int, s cu.Stream, params []uint64) error {
	return code(C.dovetail_launch(functionOf(f), C.uint(grid), C.uint(block), C.uint(shared), streamOf(s),
		(*C.uint64_t)(unsafe.SliceData(params)), C.int(len(params))))
}

func pciBusID(dev cu.Device) (string, error) {
	var id [32]C.char
	err := code(C.cuDeviceGetPCIBusId(&id[0], C.int(len(id)), C.CUdevice(dev)))
	return C.GoString(&id[0]), err
}

// ipcHandleBytes is the size of an IPC handle.
const ipcHandleBytes = C.CU_IPC_HANDLE_SIZE

func ipcHandle(p uintptr) (out [ipcHandleBytes]byte, err error) {
	var h C.CUipcMemHandle
	err = code(C.cuIpcGetMemHandle(&h, C.CUdeviceptr(p)))
	return *(*[ipcHandleBytes]byte)(unsafe.Pointer(&h)), err
}

func ipcOpen(in [ipcHandleBytes]byte) (uintptr, error) {
	var p C.CUdeviceptr
	err := code(C.cuIpcOpenMemHandle(&p, *(*C.CUipcMemHandle)(unsafe.Pointer(&in)), C.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS))
	return uintptr(p), err
}

func ipcClose(p uintptr) error { return code(C.cuIpcCloseMemHandle(C.CUdeviceptr(p))) }
