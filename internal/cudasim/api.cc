// The functions of libcuda.so.1, over the model in sim.cc.
#include "sim.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

using namespace sim;

namespace {

using Lock = std::unique_lock<std::mutex>;

thread_local Context *current;

// health is what everything on a GPU returns that is lost, or whose context is broken.
CUresult health(Device *d) { return d->lost ? CUDA_ERROR_UNKNOWN : d->broken; }

// enter finds the GPU of the current context and lets time pass.
CUresult enter(Lock &l, Device **d) {
	if (!current)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!world.contexts.count(current)) {
		tell("the current context of this thread was destroyed");
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	}
	*d = current->dev;
	if (CUresult r = health(*d))
		return r;
	world.tick(l, *d);
	return health(*d);
}

// After lets time pass when a call returns.
struct After {
	Lock &l;
	Device *d;
	~After() { world.pass(l, d); }
};

#define ENTER()                                                                                                                \
	Lock l(world.mu);                                                                                                          \
	Device *d;                                                                                                                 \
	if (CUresult r = enter(l, &d))                                                                                             \
		return r;                                                                                                              \
	After after { l, d }

CUresult streamOf(Device *d, CUstream handle, Stream **s) {
	if (!handle) {
		*s = &d->null;
		return CUDA_SUCCESS;
	}
	*s = reinterpret_cast<Stream *>(handle);
	if (!world.streams.count(*s)) {
		tell("a stream is used that was destroyed, or never made");
		return CUDA_ERROR_INVALID_HANDLE;
	}
	return (*s)->dev == d ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult eventOf(CUevent handle, Event **e) {
	*e = reinterpret_cast<Event *>(handle);
	if (world.events.count(*e))
		return CUDA_SUCCESS;
	tell("an event is used that was destroyed, or never made");
	return CUDA_ERROR_INVALID_HANDLE;
}

CUresult deviceOf(CUdevice i, Device **d) {
	world.start();
	if (i < 0 || size_t(i) >= world.devices.size())
		return CUDA_ERROR_INVALID_DEVICE;
	*d = world.devices[i].get();
	return CUDA_SUCCESS;
}

// place says where an address is: the index of a GPU, or -1 for host memory.
CUresult place(uintptr_t address, size_t n, bool mustBeDevice, int *where, bool *pinned) {
	auto b = world.find(address, n);
	*where = -1;
	*pinned = b && b->gpu < 0;
	if (mustBeDevice && (!b || b->freed || b->gpu < 0)) {
		tell("an address is not in device memory, or " + std::to_string(n) + " bytes from it reach beyond the allocation");
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (b && b->freed) {
		tell("an address is in memory that was freed");
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (b)
		*where = b->gpu;
	return CUDA_SUCCESS;
}

// queueCopy queues a copy between memory of GPUs and of the host. wait has the call return when it is done.
CUresult queueCopy(Lock &l, Device *d, Stream *s, uintptr_t dst, bool dstDevice, uintptr_t src, bool srcDevice, size_t n, bool wait) {
	if (n == 0)
		return CUDA_SUCCESS;
	int to, from;
	bool toPinned, fromPinned;
	if (CUresult r = place(dst, n, dstDevice, &to, &toPinned))
		return r;
	if (CUresult r = place(src, n, srcDevice, &from, &fromPinned))
		return r;
	OpPtr op;
	// 25 GB/s, and 10 microseconds whatever the size.
	Engine engine = to < 0 ? downloads : from < 0 ? uploads : noEngine;
	double cost = 10000 + double(n) / 25;
	if (from < 0 && !fromPinned && to >= 0) {
		// Pageable memory is read before the call returns.
		auto bytes = std::make_shared<std::vector<uint8_t>>(reinterpret_cast<uint8_t *>(src), reinterpret_cast<uint8_t *>(src) + n);
		op = world.push(s, [=] { return world.copy(dst, uintptr_t(bytes->data()), n, to, -1); }, {}, engine, cost);
	} else {
		op = world.push(s, [=] { return world.copy(dst, src, n, to, from); }, {}, engine, cost);
	}
	if (wait || (to < 0 && !toPinned)) {
		reached(op->end);
		return world.until(l, d, [&] { return op->done; });
	}
	return CUDA_SUCCESS;
}

CUresult fill(Lock &l, CUdeviceptr dst, size_t n, size_t width, uint32_t value, CUstream hStream, bool wait, Device *d) {
	Stream *s;
	if (CUresult r = streamOf(d, hStream, &s))
		return r;
	int where;
	bool pinned;
	if (CUresult r = place(dst, n * width, true, &where, &pinned))
		return r;
	if (n == 0)
		return CUDA_SUCCESS;
	auto bytes = std::make_shared<std::vector<uint8_t>>(n * width);
	for (size_t i = 0; i < n; i++)
		memcpy(bytes->data() + i * width, &value, width);
	OpPtr op = world.push(s, [=] { return world.copy(dst, uintptr_t(bytes->data()), bytes->size(), where, -2); });
	return wait ? world.until(l, d, [&] { return op->done; }) : CUDA_SUCCESS;
}

CUresult runKernel(Device *d, Function *f, unsigned grid, unsigned block, unsigned shared, std::vector<uint64_t> params, uint64_t seed) {
	Pinned used;
	{
		Lock l(world.mu);
		if (world.o.crash && world.o.crashGPU == d->index && ++d->kernels == world.o.crash)
			return CUDA_ERROR_LAUNCH_FAILED;
		for (uint64_t p : params) {
			auto b = world.find(p, 0);
			if (!b)
				continue; // a number
			if (b->freed) {
				tell(f->name + " is given memory that was freed before it ran");
				return CUDA_ERROR_ILLEGAL_ADDRESS;
			}
			if (b->gpu >= 0 && b->gpu != d->index && !d->peers.count(b->gpu)) {
				tell(f->name + " is given memory of another GPU, which this one may not access");
				return CUDA_ERROR_ILLEGAL_ADDRESS;
			}
			used.add(b);
		}
	}
	std::vector<void *> pointers;
	for (auto &p : params)
		pointers.push_back(&p);
	std::string why = f->run(grid, block, shared, pointers.data(), seed);
	if (why.empty())
		return CUDA_SUCCESS;
	tell(f->name + ": " + why);
	return CUDA_ERROR_LAUNCH_FAILED;
}

void destroyAll(Device *d) {
	for (auto it = world.blocks.begin(); it != world.blocks.end(); ++it)
		if (it->second->gpu == d->index && !it->second->freed)
			world.release(it->first, false);
	for (Stream *s : d->streams) {
		s->queue.clear();
		world.streams.erase(s);
	}
	d->streams = {&d->null};
	auto drop = [d](auto &all) {
		for (auto it = all.begin(); it != all.end();)
			it = (*it)->dev == d ? all.erase(it) : std::next(it);
	};
	drop(world.events);
	drop(world.modules);
	d->broken = CUDA_SUCCESS;
	d->peers.clear();
}

struct Named {
	CUresult code;
	const char *name, *text;
};

const Named errors[] = {
	{CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
	{CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
	{CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
	{CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
	{CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
	{CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
	{CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
	{CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED", "peer access is not supported between these two devices"},
	{CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
	{CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
	{CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
	{CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
	{CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
	{CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "peer access is already enabled"},
	{CUDA_ERROR_CONTEXT_IS_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
	{CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "part or all of the requested memory range is already mapped"},
	{CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "pointer does not correspond to a registered memory region"},
	{CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
	{CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
	{CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

} // namespace

#pragma GCC visibility push(default)
extern "C" {

// dovetail_cudasim_reset begins anew with options; see Options. It returns 0, or -1 with the reason in message.
int dovetail_cudasim_reset(const char *options, char *message, size_t size) {
	std::string wrong = world.reset(options);
	if (wrong.empty())
		return 0;
	snprintf(message, size, "%s", wrong.c_str());
	return -1;
}

// dovetail_cudasim_stat returns a number about the simulation, of all GPUs if gpu is -1; -1 if there is none of that name.
long dovetail_cudasim_stat(const char *name, int gpu) {
	Lock l(world.mu);
	long n = 0;
	std::string s = name;
	for (auto &d : world.devices) {
		if (gpu >= 0 && d->index != gpu)
			continue;
		if (s == "used") n += d->used;
		else if (s == "peak") n += d->peak;
		else if (s == "calls") n += d->calls;
		else if (s == "allocations") n += d->allocations;
		else if (s == "launches") n += d->launches;
		else if (s == "retained") n += d->retained;
		else if (s == "upload-ns" || s == "kernel-ns" || s == "overlap-ns") { // in the timeline: see sim.h
			if (s == "overlap-ns") n += long(d->both(uploads, kernels));
			else for (auto &b : d->busy[s == "upload-ns" ? uploads : kernels]) n += long(b.second - b.first);
		} else if (s == "queued")
			for (Stream *t : d->streams)
				n += t->queue.size();
	}
	if (s == "pinned") n = world.pinned;
	else if (s == "streams") n = world.streams.size();
	else if (s == "events") n = world.events.size();
	else if (s == "modules") n = world.modules.size();
	else if (s == "copies") n = world.copies;
	return n;
}

CUresult cuInit(unsigned int flags) {
	Lock l(world.mu);
	world.start();
	return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *v) {
	*v = 13000;
	return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult code, const char **name) {
	for (auto &e : errors)
		if (e.code == code) {
			*name = e.name;
			return CUDA_SUCCESS;
		}
	*name = nullptr;
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult code, const char **text) {
	for (auto &e : errors)
		if (e.code == code) {
			*text = e.text;
			return CUDA_SUCCESS;
		}
	*text = nullptr;
	return CUDA_ERROR_INVALID_VALUE;
}

// ---- Devices

CUresult cuDeviceGetCount(int *n) {
	Lock l(world.mu);
	world.start();
	*n = int(world.devices.size());
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *dev, int i) {
	Lock l(world.mu);
	Device *d;
	*dev = i;
	return deviceOf(i, &d);
}

CUresult cuDeviceGetName(char *name, int size, CUdevice dev) {
	Lock l(world.mu);
	Device *d;
	if (CUresult r = deviceOf(dev, &d))
		return r;
	snprintf(name, size, "simulated GPU");
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice dev) {
	Lock l(world.mu);
	Device *d;
	if (CUresult r = deviceOf(dev, &d))
		return r;
	memset(uuid, 0, sizeof *uuid);
	memcpy(uuid->bytes, "simulate", 8);
	uuid->bytes[15] = char(dev);
	return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *n, CUdevice dev) {
	Lock l(world.mu);
	Device *d;
	if (CUresult r = deviceOf(dev, &d))
		return r;
	*n = world.o.memory;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *v, CUdevice_attribute a, CUdevice dev) {
	Lock l(world.mu);
	Device *d;
	if (CUresult r = deviceOf(dev, &d))
		return r;
	switch (int(a)) {
	case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *v = 1024; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *v = 48 << 10; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *v = 163 << 10; break;
	case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *v = 32; break;
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *v = 4; break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *v = 8; break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *v = 0; break;
	case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: *v = 1; break;
	case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: *v = 2; break;
	case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *v = 1; break;
	case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID: *v = 1 + dev; break;
	default: *v = 0;
	}
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *id, int size, CUdevice dev) {
	Lock l(world.mu);
	Device *d;
	if (CUresult r = deviceOf(dev, &d))
		return r;
	snprintf(id, size, "0000:%02x:00.0", 1 + dev);
	return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice dev, CUdevice peer) {
	Lock l(world.mu);
	Device *d, *p;
	if (deviceOf(dev, &d) || deviceOf(peer, &p))
		return CUDA_ERROR_INVALID_DEVICE;
	*can = world.o.peer && d != p;
	return CUDA_SUCCESS;
}

// ---- Contexts

CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice dev) {
	Lock l(world.mu);
	Device *d;
	if (CUresult r = deviceOf(dev, &d))
		return r;
	if (d->lost)
		return CUDA_ERROR_UNKNOWN;
	if (!d->primary) {
		d->primary = std::make_unique<Context>(Context{d, true});
	}
	world.contexts.insert(d->primary.get());
	d->retained++;
	*ctx = reinterpret_cast<CUcontext>(d->primary.get());
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
	Lock l(world.mu);
	Device *d;
	if (CUresult r = deviceOf(dev, &d))
		return r;
	if (d->retained == 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (--d->retained == 0) {
		// What runs at this moment ends first.
		world.changed.wait(l, [d] {
			return std::none_of(d->streams.begin(), d->streams.end(), [](Stream *s) { return !s->queue.empty() && s->queue.front()->running; });
		});
		destroyAll(d);
		world.contexts.erase(d->primary.get());
	}
	return d->lost ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int) {
	Lock l(world.mu);
	Device *d;
	return deviceOf(dev, &d);
}

CUresult cuCtxSetCurrent(CUcontext ctx) {
	Lock l(world.mu);
	auto *c = reinterpret_cast<Context *>(ctx);
	if (c && !world.contexts.count(c))
		return CUDA_ERROR_INVALID_CONTEXT;
	current = c;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *ctx) {
	*ctx = reinterpret_cast<CUcontext>(current);
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *dev) {
	ENTER();
	*dev = d->index;
	return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void) {
	ENTER();
	for (Stream *s : d->streams)
		reached(s->last);
	return world.until(l, d, [d] {
		return std::all_of(d->streams.begin(), d->streams.end(), [](Stream *s) { return s->queue.empty(); });
	});
}

CUresult cuCtxEnablePeerAccess(CUcontext ctx, unsigned int) {
	ENTER();
	auto *peer = reinterpret_cast<Context *>(ctx);
	if (!world.contexts.count(peer))
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!world.o.peer)
		return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
	return d->peers.insert(peer->dev->index).second ? CUDA_SUCCESS : CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
}

// ---- Memory

CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
	ENTER();
	*total = world.o.memory;
	*free = world.o.memory - d->used;
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t n) {
	ENTER();
	uintptr_t address;
	if (CUresult r = world.allocate(d->index, n, &address))
		return r;
	*p = address;
	return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr p) {
	ENTER();
	return p ? world.release(p, false) : CUDA_SUCCESS;
}

CUresult cuMemAllocAsync(CUdeviceptr *p, size_t n, CUstream hStream) {
	ENTER();
	Stream *s;
	if (CUresult r = streamOf(d, hStream, &s))
		return r;
	uintptr_t address;
	if (CUresult r = world.allocate(d->index, n, &address))
		return r;
	*p = address;
	return CUDA_SUCCESS;
}

CUresult cuMemFreeAsync(CUdeviceptr p, CUstream hStream) {
	ENTER();
	Stream *s;
	if (CUresult r = streamOf(d, hStream, &s))
		return r;
	world.push(s, [p] {
		Lock l(world.mu);
		return world.release(p, false);
	});
	return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **p, size_t n, unsigned int) {
	ENTER();
	uintptr_t address;
	if (CUresult r = world.allocate(-1, n, &address))
		return r;
	*p = reinterpret_cast<void *>(address);
	return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *p) {
	Lock l(world.mu); // a GPU that is lost keeps no host memory
	return world.release(uintptr_t(p), true);
}

CUresult cuMemHostRegister_v2(void *p, size_t n, unsigned int) {
	ENTER();
	auto it = world.blocks.find(uintptr_t(p));
	if (it != world.blocks.end() && !it->second->freed)
		return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
	auto b = std::make_shared<Block>();
	b->base = uintptr_t(p), b->size = b->mapped = n, b->gpu = -1, b->mine = false;
	world.blocks[b->base] = b;
	world.pinned += n;
	return CUDA_SUCCESS;
}

CUresult cuMemHostUnregister(void *p) {
	Lock l(world.mu);
	auto it = world.blocks.find(uintptr_t(p));
	if (it == world.blocks.end() || it->second->mine)
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	world.pinned -= it->second->size;
	world.blocks.erase(it); // it may be registered again, or used as ordinary memory
	return CUDA_SUCCESS;
}

CUresult cuIpcGetMemHandle(CUipcMemHandle *h, CUdeviceptr p) {
	ENTER();
	auto b = world.find(p, 0);
	if (!b || b->freed || b->gpu < 0)
		return CUDA_ERROR_INVALID_VALUE;
	memset(h, 0, sizeof *h);
	memcpy(h->reserved, &p, sizeof p);
	return CUDA_SUCCESS;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *, CUipcMemHandle, unsigned int) {
	ENTER();
	return CUDA_ERROR_INVALID_CONTEXT; // as by the process that made the handle
}

CUresult cuIpcCloseMemHandle(CUdeviceptr) {
	ENTER();
	return CUDA_ERROR_INVALID_VALUE;
}

// ---- Copies

#define STREAM(h)                                                                                                              \
	ENTER();                                                                                                                   \
	Stream *s;                                                                                                                 \
	if (CUresult r = streamOf(d, h, &s))                                                                                       \
		return r

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dst, const void *src, size_t n, CUstream h) {
	STREAM(h);
	return queueCopy(l, d, s, dst, true, uintptr_t(src), false, n, false);
}

CUresult cuMemcpyDtoHAsync_v2(void *dst, CUdeviceptr src, size_t n, CUstream h) {
	STREAM(h);
	return queueCopy(l, d, s, uintptr_t(dst), false, src, true, n, false);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream h) {
	STREAM(h);
	return queueCopy(l, d, s, dst, true, src, true, n, false);
}

CUresult cuMemcpyPeerAsync(CUdeviceptr dst, CUcontext, CUdeviceptr src, CUcontext, size_t n, CUstream h) {
	STREAM(h);
	return queueCopy(l, d, s, dst, true, src, true, n, false);
}

CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream h) {
	STREAM(h);
	return queueCopy(l, d, s, dst, false, src, false, n, false);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr dst, const void *src, size_t n) {
	STREAM(nullptr);
	return queueCopy(l, d, s, dst, true, uintptr_t(src), false, n, true);
}

CUresult cuMemcpyDtoH_v2(void *dst, CUdeviceptr src, size_t n) {
	STREAM(nullptr);
	return queueCopy(l, d, s, uintptr_t(dst), false, src, true, n, true);
}

CUresult cuMemsetD8Async(CUdeviceptr dst, unsigned char v, size_t n, CUstream h) {
	ENTER();
	return fill(l, dst, n, 1, v, h, false, d);
}

CUresult cuMemsetD32Async(CUdeviceptr dst, unsigned int v, size_t n, CUstream h) {
	ENTER();
	return fill(l, dst, n, 4, v, h, false, d);
}

CUresult cuMemsetD8_v2(CUdeviceptr dst, unsigned char v, size_t n) {
	ENTER();
	return fill(l, dst, n, 1, v, nullptr, true, d);
}

// ---- Streams and events

CUresult cuStreamCreate(CUstream *h, unsigned int flags) {
	ENTER();
	auto *s = new Stream{d, !(flags & CU_STREAM_NON_BLOCKING), false, {}};
	d->streams.insert(s);
	world.streams.insert(s);
	*h = reinterpret_cast<CUstream>(s);
	return CUDA_SUCCESS;
}

CUresult cuStreamDestroy_v2(CUstream h) {
	Lock l(world.mu);
	auto *s = reinterpret_cast<Stream *>(h);
	if (!world.streams.erase(s)) {
		tell("a stream is destroyed twice, or was never made");
		return CUDA_ERROR_INVALID_HANDLE;
	}
	Device *d = s->dev;
	if (s->queue.empty()) {
		d->streams.erase(s);
		delete s;
	} else {
		s->destroyed = true; // when what is queued is done
	}
	return health(d);
}

CUresult cuStreamSynchronize(CUstream h) {
	STREAM(h);
	reached(s->last);
	return world.until(l, d, [s] { return s->queue.empty(); });
}

CUresult cuStreamQuery(CUstream h) {
	STREAM(h);
	return s->queue.empty() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult cuStreamWaitEvent(CUstream h, CUevent handle, unsigned int) {
	STREAM(h);
	Event *e;
	if (CUresult r = eventOf(handle, &e))
		return r;
	if (e->recorded)
		s->last = std::max(s->last, e->recorded->end);
	if (e->recorded && !e->recorded->done)
		world.push(s, [] { return CUDA_SUCCESS; }, {e->recorded});
	return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *h, unsigned int) {
	ENTER();
	auto *e = new Event{d, nullptr};
	world.events.insert(e);
	*h = reinterpret_cast<CUevent>(e);
	return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent h) {
	Lock l(world.mu);
	Event *e;
	if (CUresult r = eventOf(h, &e))
		return r;
	world.events.erase(e);
	CUresult r = health(e->dev);
	delete e;
	return r;
}

CUresult cuEventRecord(CUevent handle, CUstream h) {
	STREAM(h);
	Event *e;
	if (CUresult r = eventOf(handle, &e))
		return r;
	if (e->dev != d)
		return CUDA_ERROR_INVALID_HANDLE;
	e->recorded = world.push(s, [] { return CUDA_SUCCESS; });
	return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent h) {
	ENTER();
	Event *e;
	if (CUresult r = eventOf(h, &e))
		return r;
	if (!e->recorded)
		return CUDA_SUCCESS;
	OpPtr op = e->recorded;
	// Who asks again and again sees it done in the end.
	if (!op->done && d->rng() % 2) {
		int turns = 1 + int(d->rng() % 4);
		world.until(l, d, [&] { return op->done || turns-- == 0; });
	}
	if (CUresult r = health(d))
		return r;
	if (op->done)
		reached(op->end);
	return op->done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent h) {
	ENTER();
	Event *e;
	if (CUresult r = eventOf(h, &e))
		return r;
	OpPtr op = e->recorded;
	if (op)
		reached(op->end);
	return world.until(l, d, [&] { return !op || op->done; });
}

// ---- Modules and kernels

CUresult cuModuleLoadData(CUmodule *h, const void *image) {
	ENTER();
	if (!image)
		return CUDA_ERROR_INVALID_VALUE;
	auto *m = new Module{d, {}};
	world.modules.insert(m);
	*h = reinterpret_cast<CUmodule>(m);
	return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule h) {
	Lock l(world.mu);
	auto *m = reinterpret_cast<Module *>(h);
	if (!world.modules.erase(m))
		return CUDA_ERROR_INVALID_HANDLE;
	CUresult r = health(m->dev);
	delete m; // functions may still be queued, and are few
	return r;
}

CUresult cuModuleGetFunction(CUfunction *f, CUmodule h, const char *name) {
	ENTER();
	auto *m = reinterpret_cast<Module *>(h);
	if (!world.modules.count(m))
		return CUDA_ERROR_INVALID_HANDLE;
	std::string wrong;
	Function *found = world.load(name, &wrong);
	if (!found) {
		tell(wrong);
		return CUDA_ERROR_NOT_FOUND;
	}
	m->functions.insert(found);
	*f = reinterpret_cast<CUfunction>(found);
	return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction h, CUfunction_attribute a, int v) {
	ENTER();
	if (a != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || v < 0 || v > 163 << 10)
		return CUDA_ERROR_INVALID_VALUE;
	reinterpret_cast<Function *>(h)->shared = v;
	return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction h, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz,
                        unsigned int shared, CUstream hStream, void **params, void **extra) {
	STREAM(hStream);
	auto *f = reinterpret_cast<Function *>(h);
	if (std::none_of(world.modules.begin(), world.modules.end(), [&](Module *m) { return m->dev == d && m->functions.count(f); }))
		return CUDA_ERROR_INVALID_HANDLE;
	if (gx == 0 || gx > 0x7fffffff || gy != 1 || gz != 1 || bx == 0 || bx > 1024 || by != 1 || bz != 1 || extra || int(shared) > f->shared ||
	    (f->params > 0 && !params)) {
		tell(f->name + " is launched with a grid, block, shared memory or parameters that cannot be");
		return CUDA_ERROR_INVALID_VALUE;
	}
	d->launches++;
	if (world.o.lostLaunch && world.o.lostLaunchGPU == d->index && d->launches == world.o.lostLaunch) {
		d->lost = true;
		world.changed.notify_all();
		return CUDA_ERROR_UNKNOWN;
	}
	if (world.o.launch && d->launches % world.o.launch == 0)
		return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
	std::vector<uint64_t> values(f->params);
	for (int i = 0; i < f->params; i++)
		memcpy(&values[i], params[i], 8);
	uint64_t seed = d->rng();
	// 5 microseconds, and 20 for each block on a hundred multiprocessors: enough to tell what waits for what.
	world.push(s, [=] { return runKernel(d, f, gx, bx, shared, values, seed); }, {}, kernels, 5000 + 200.0 * gx);
	return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream h, CUhostFn fn, void *data) {
	STREAM(h);
	world.push(s, [=] {
		fn(data);
		return CUDA_SUCCESS;
	});
	return CUDA_SUCCESS;
}

} // extern "C"
#pragma GCC visibility pop
