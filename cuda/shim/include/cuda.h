// The header that gorgonia.org/cu v0.9.6 and this project see in place of CUDA's: CUDA's own, with the names that CUDA 13 moved
// to new functions put back to the functions that cu was written for. A driver of CUDA 12 or 13 has both. This folder stands
// first in CGO_CFLAGS; what is included next is the header of CUDA 12 or 13.
#ifndef DOVETAIL_CUDA_H
#define DOVETAIL_CUDA_H

#include_next <cuda.h>

#ifdef __cplusplus
extern "C" {
#endif

#if CUDA_VERSION >= 13000

#undef cuCtxCreate
#define cuCtxCreate cuCtxCreate_v2
CUresult CUDAAPI cuCtxCreate_v2(CUcontext *ctx, unsigned int flags, CUdevice dev);

// The first versions of these have no number in their name, so that they are declared by their name in the library alone.
#undef cuMemAdvise
CUresult CUDAAPI cuMemAdvise(CUdeviceptr ptr, size_t count, CUmem_advise advice, CUdevice device);

#undef cuMemPrefetchAsync
CUresult CUDAAPI cuMemPrefetchAsync(CUdeviceptr ptr, size_t count, CUdevice device, CUstream stream);

#undef cuGraphAddDependencies
CUresult CUDAAPI cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count);

#undef cuGraphGetEdges
CUresult CUDAAPI cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *count);

#endif

#ifdef __cplusplus
}
#endif
#endif
