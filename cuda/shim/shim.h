// libcuda.a: what stands in for NVIDIA's libcuda.so.1 when a program is linked.
//
// gorgonia.org/cu links libcuda, and its init function calls cuInit and ends the process if that fails. A program linked with
// the real library would not even start on a machine without it. This library has a function of every name in cuda.h that
// does nothing but jump to where a table says. The table is filled when dovetail_cuda_load is called, from the library that it
// is told. Before that cuInit succeeds, there are no devices, and everything else is CUDA_ERROR_NOT_INITIALIZED; so that
// importing cu has no effect, and costs nothing.
#ifndef DOVETAIL_CUDA_SHIM_H
#define DOVETAIL_CUDA_SHIM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// dovetail_cuda_load loads the library at path, and has all functions of cuda.h be its own. Those that it lacks return
// CUDA_ERROR_NOT_FOUND. It returns 0, or -1 with the reason in message, which has room for size bytes. It may be called again
// with the same path, and with another while nothing is in use; libraries are never unloaded. Calls must not overlap.
int dovetail_cuda_load(const char *path, char *message, size_t size);

// dovetail_cuda_symbol returns the address of a symbol of the loaded library, NULL if there is none.
void *dovetail_cuda_symbol(const char *name);

#ifdef __cplusplus
}
#endif
#endif
