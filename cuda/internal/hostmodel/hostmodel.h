/* The kernels as C++, run by processor cores: what libdovetail_kernels.so exports. */
#ifndef DOVETAIL_HOSTMODEL_H
#define DOVETAIL_HOSTMODEL_H
#define DV_HOST_API __attribute__((visibility("default")))
#ifdef __cplusplus
extern "C" {
#endif

/* dv_host_kernel returns a handle for a kernel of kernels.h, or null if there is none of that name. */
DV_HOST_API const void *dv_host_kernel(const char *name);

/* dv_host_params returns the number of parameters of a kernel. */
DV_HOST_API int dv_host_params(const void *kernel);

/* dv_host_launch runs a kernel to its end in the calling thread and returns 0, or 1 after writing to error, of error_size bytes,
 * what the kernel did wrong: a barrier that not all threads reach, a lane that is missing in a mask. params are pointers to
 * the parameters, as cuLaunchKernel takes them. The order in which threads and blocks go on follows from seed. Launches may
 * run in several threads at a time. shared_bytes is the dynamic shared memory. */
DV_HOST_API int dv_host_launch(const void *kernel, unsigned grid, unsigned block, unsigned shared_bytes, void **params, unsigned long long seed,
                   char *error, unsigned long error_size);

#ifdef __cplusplus
}
#endif
#endif
