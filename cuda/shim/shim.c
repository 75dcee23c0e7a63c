// See shim.h.
#include "shim.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include <cuda.h>

static const char *const names[] = {
#define FUNCTION(name) #name,
#include "names.h"
#undef FUNCTION
};

enum { count = sizeof names / sizeof *names };

typedef CUresult (*function)(void);

static CUresult notLoaded(void) { return CUDA_ERROR_NOT_INITIALIZED; }
static CUresult notFound(void) { return CUDA_ERROR_NOT_FOUND; }

// What cu's init function, and a program that asks for devices before it has loaded a library, may call.
static CUresult initWithout(unsigned int flags) {
	(void)flags;
	return CUDA_SUCCESS;
}

static CUresult countWithout(int *n) {
	*n = 0;
	return CUDA_SUCCESS;
}

// The functions in trampolines.S jump through this table, which is in the order of names.
__attribute__((visibility("hidden"))) function dovetail_cuda_table[count];

static void *library;
static char loaded[4096];

__attribute__((constructor)) static void reset(void) {
	for (int i = 0; i < count; i++) {
		dovetail_cuda_table[i] = notLoaded;
		if (!strcmp(names[i], "cuInit"))
			dovetail_cuda_table[i] = (function)(void *)initWithout;
		else if (!strcmp(names[i], "cuDeviceGetCount"))
			dovetail_cuda_table[i] = (function)(void *)countWithout;
	}
}

int dovetail_cuda_load(const char *path, char *message, size_t size) {
	if (library && !strcmp(path, loaded))
		return 0;
	if (strlen(path) >= sizeof loaded) {
		snprintf(message, size, "the path of the library is too long");
		return -1;
	}
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		snprintf(message, size, "%s", dlerror());
		return -1;
	}
	if (!dlsym(lib, "cuInit")) {
		snprintf(message, size, "%s is no CUDA driver: it has no cuInit", path);
		dlclose(lib);
		return -1;
	}
	for (int i = 0; i < count; i++) {
		void *f = dlsym(lib, names[i]);
		dovetail_cuda_table[i] = f ? (function)f : notFound;
	}
	library = lib; // the one before stays loaded: threads of a driver may run in it
	strcpy(loaded, path);
	return 0;
}

void *dovetail_cuda_symbol(const char *name) { return library ? dlsym(library, name) : NULL; }
