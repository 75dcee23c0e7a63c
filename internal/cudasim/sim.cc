// The model: what is queued and when it is run, memory, faults. See sim.h.
#include "sim.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hostmodel.h"

namespace sim {

// It is never destroyed: threads may still call when the process ends.
World &world = *new World;

void tell(const std::string &line) {
	static const bool quiet = getenv("DOVETAIL_CUDASIM_QUIET") != nullptr;
	if (!quiet)
		fprintf(stderr, "cudasim: %s\n", line.c_str());
}

static bool number(const std::string &s, long *n) {
	char *end = nullptr;
	*n = strtol(s.c_str(), &end, 10);
	return !s.empty() && !*end;
}

// numberAt reads GPU@N, as in lost=2@100.
static bool numberAt(const std::string &s, int *gpu, int *n) {
	return sscanf(s.c_str(), "%d@%d", gpu, n) == 2 && *gpu >= 0 && *n > 0;
}

bool Options::parse(const std::string &text, std::string *wrong) {
	size_t at = 0;
	while (at < text.size()) {
		size_t end = std::min(text.find(',', at), text.size());
		std::string part = text.substr(at, end - at);
		at = end + 1;
		size_t eq = part.find('=');
		std::string name = part.substr(0, eq), value = eq == std::string::npos ? "" : part.substr(eq + 1);
		long n = 0;
		bool ok = false, num = number(value, &n);
		auto set = [&](auto &field, long least, long most) {
			if ((ok = num && n >= least && n <= most))
				field = n;
		};
		const long any = 1L << 62;
		if (name == "gpus") set(gpus, 0, 64);
		else if (name == "memory") set(memory, 1, any);
		else if (name == "seed") set(seed, 0, any);
		else if (name == "late") set(late, -1, 100);
		else if (name == "oom") set(oom, 0, 1 << 30);
		else if (name == "oom-pinned") set(oomPinned, 0, 1 << 30);
		else if (name == "launch") set(launch, 0, 1 << 30);
		else if (name == "slow") set(slow, 0, 1 << 30);
		else if (name == "peer") set(peer, 0, 1);
		else if (name == "crash") ok = numberAt(value, &crashGPU, &crash);
		else if (name == "lost") ok = numberAt(value, &lostGPU, &lost);
		else if (name == "lost-at-launch") ok = numberAt(value, &lostLaunchGPU, &lostLaunch);
		else if (name == "kernels") { kernels = value; ok = true; }
		else if (name == "bend") {
			char from[8], to[8];
			if (sscanf(value.c_str(), "%7[0-9h]-%7[0-9h]", from, to) == 2) {
				bendFrom = *from == 'h' ? -1 : atoi(from);
				bendTo = *to == 'h' ? -1 : atoi(to);
				ok = true;
			}
		}
		if (!ok) {
			*wrong = part;
			return false;
		}
	}
	return true;
}

void World::start() {
	if (started)
		return;
	started = true;
	std::mt19937_64 seeds(o.seed);
	if (o.late < 0) {
		static const int choices[] = {0, 10, 50, 100};
		o.late = choices[seeds() % 4];
	}
	for (int i = 0; i < o.gpus; i++) {
		auto d = std::make_unique<Device>();
		d->index = i;
		d->null.dev = d.get();
		d->null.blocking = true;
		d->streams.insert(&d->null);
		d->rng.seed(seeds());
		devices.push_back(std::move(d));
	}
}

// reset begins a new world. It refuses while something of the old one is in use, so that it also finds what was not released.
std::string World::reset(const std::string &options) {
	std::unique_lock<std::mutex> l(mu);
	for (auto &d : devices)
		if (d->retained > 0)
			return "GPU " + std::to_string(d->index) + " is in use";
	if (!contexts.empty())
		return std::to_string(contexts.size()) + " contexts are in use";
	Options fresh;
	std::string wrong;
	if (!fresh.parse(options, &wrong))
		return "unknown option or wrong value: " + wrong;
	o = fresh;
	// Handles of a GPU that was lost are given back by nobody.
	streams.clear(), events.clear(), modules.clear(), devices.clear();
	for (auto &b : blocks)
		if (!b.second->freed && b.second->gpu >= 0)
			b.second->freed = true;
	pinnedAllocations = copies = 0;
	hostTime = 0;
	started = false;
	start();
	return "";
}

double hostTime;

double Device::both(Engine a, Engine b) const {
	double sum = 0;
	size_t j = 0;
	for (auto &x : busy[a]) { // both are in the order of time
		while (j < busy[b].size() && busy[b][j].second <= x.first)
			j++;
		for (size_t k = j; k < busy[b].size() && busy[b][k].first < x.second; k++)
			sum += std::min(x.second, busy[b][k].second) - std::max(x.first, busy[b][k].first);
	}
	return sum;
}

OpPtr World::push(Stream *s, std::function<CUresult()> body, std::vector<OpPtr> after, Engine engine, double cost) {
	auto op = std::make_shared<Op>();
	op->dev = s->dev;
	op->body = std::move(body);
	op->after = std::move(after);
	if (s->blocking) {
		Device *d = s->dev;
		for (Stream *other : d->streams)
			if (other != s && other->blocking && (s == &d->null || other == &d->null) && !other->queue.empty())
				op->after.push_back(other->queue.back());
	}
	double begin = std::max(hostTime, s->last);
	for (auto &a : op->after)
		begin = std::max(begin, a->end);
	if (engine != noEngine) {
		Device *d = s->dev;
		begin = std::max(begin, d->free[engine]);
		d->free[engine] = begin + cost;
		d->busy[engine].push_back({begin, begin + cost});
	}
	s->last = op->end = begin + cost;
	s->queue.push_back(op);
	return op;
}

// ready returns an operation of d that may be run now, by chance one of several.
OpPtr World::ready(Device *d) {
	std::vector<OpPtr> all;
	if (!d->lost && !d->broken)
		for (Stream *s : d->streams) {
			if (s->queue.empty() || s->queue.front()->running)
				continue;
			OpPtr op = s->queue.front();
			auto done = [](const OpPtr &a) { return a->done; };
			if (std::all_of(op->after.begin(), op->after.end(), done))
				all.push_back(op);
		}
	return all.empty() ? nullptr : all[d->rng() % all.size()];
}

void World::run(std::unique_lock<std::mutex> &l, const OpPtr &op) {
	Device *d = op->dev;
	op->running = true;
	running++;
	l.unlock();
	CUresult r = op->body();
	l.lock();
	running--;
	op->done = true;
	op->after.clear();
	op->body = nullptr;
	if (r != CUDA_SUCCESS && d->broken == CUDA_SUCCESS)
		d->broken = r;
	for (auto it = d->streams.begin(); it != d->streams.end();) {
		Stream *s = *it;
		if (!s->queue.empty() && s->queue.front() == op)
			s->queue.pop_front();
		if (s->destroyed && s->queue.empty()) {
			it = d->streams.erase(it);
			delete s;
		} else {
			++it;
		}
	}
	changed.notify_all();
}

void World::tick(std::unique_lock<std::mutex> &l, Device *d) {
	d->calls++;
	hostTime += 1000;
	if (o.lost && o.lostGPU == d->index && d->calls == o.lost) {
		d->lost = true;
		changed.notify_all();
	}
	pass(l, d);
}

void World::pass(std::unique_lock<std::mutex> &l, Device *d) {
	while (o.late > 0 && int(d->rng() % 100) < std::min(o.late, 90)) {
		OpPtr op = ready(d);
		if (!op)
			break;
		run(l, op);
	}
}

CUresult World::until(std::unique_lock<std::mutex> &l, Device *d, const std::function<bool()> &reached) {
	for (;;) {
		if (d->lost)
			return CUDA_ERROR_UNKNOWN;
		if (d->broken)
			return d->broken;
		if (reached())
			return CUDA_SUCCESS;
		OpPtr op = ready(d);
		for (size_t i = 0; !op && i < devices.size(); i++)
			op = ready(devices[i].get()); // it may wait for another GPU
		if (op) {
			run(l, op);
			continue;
		}
		if (running == 0) {
			tell("a wait that nothing ends: it is for work of a GPU that is lost, or has failed");
			return CUDA_ERROR_UNKNOWN;
		}
		changed.wait(l);
	}
}

CUresult World::allocate(int gpu, size_t size, uintptr_t *address) {
	if (size == 0)
		return CUDA_ERROR_INVALID_VALUE;
	size_t page = 4096, mapped = (size + page - 1) / page * page;
	if (gpu >= 0) {
		Device *d = devices[gpu].get();
		d->allocations++;
		size_t rounded = (size + 511) / 512 * 512;
		if (rounded > o.memory - d->used || (o.oom && d->allocations % o.oom == 0))
			return CUDA_ERROR_OUT_OF_MEMORY;
		d->used += rounded;
		d->peak = std::max(d->peak, d->used);
	} else {
		pinnedAllocations++;
		if (o.oomPinned && pinnedAllocations % o.oomPinned == 0)
			return CUDA_ERROR_OUT_OF_MEMORY;
		pinned += size;
	}
	// A page that cannot be touched follows.
	void *p = mmap(nullptr, mapped + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED || mprotect(p, mapped, PROT_READ | PROT_WRITE) != 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memset(p, 0xc5, std::min<size_t>(size, 4 << 20)); // what nobody wrote
	auto b = std::make_shared<Block>();
	b->base = uintptr_t(p), b->size = size, b->mapped = mapped, b->gpu = gpu, b->mine = true;
	blocks[b->base] = b;
	*address = b->base;
	return CUDA_SUCCESS;
}

// unmap gives pages back and keeps the addresses.
static void unmap(Block *b) {
	if (b->mine)
		mmap(reinterpret_cast<void *>(b->base), b->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

CUresult World::release(uintptr_t address, bool pinnedMemory) {
	auto it = blocks.find(address);
	if (it == blocks.end() || it->second->freed || (it->second->gpu < 0) != pinnedMemory) {
		tell(it != blocks.end() && it->second->freed ? "memory is freed twice" : "what is freed was not allocated");
		return CUDA_ERROR_INVALID_VALUE;
	}
	Block *b = it->second.get();
	b->freed = true;
	if (b->gpu >= 0)
		devices[b->gpu]->used -= (b->size + 511) / 512 * 512;
	else
		pinned -= b->size;
	if (b->pins == 0)
		unmap(b);
	return CUDA_SUCCESS;
}

std::shared_ptr<Block> World::find(uintptr_t address, size_t size) {
	auto it = blocks.upper_bound(address);
	if (it == blocks.begin())
		return nullptr;
	auto b = (--it)->second;
	if (address - b->base >= std::max<size_t>(b->size, 1) || size > b->size - (address - b->base))
		return nullptr;
	return b;
}

void Pinned::add(std::shared_ptr<Block> b) {
	b->pins++;
	blocks.push_back(std::move(b));
}

Pinned::~Pinned() {
	std::lock_guard<std::mutex> l(world.mu);
	for (auto &b : blocks)
		if (--b->pins == 0 && b->freed)
			unmap(b.get());
}

CUresult World::copy(uintptr_t dst, uintptr_t src, size_t n, int to, int from) {
	Pinned used;
	{
		std::lock_guard<std::mutex> l(mu);
		copies++;
		for (auto side : {std::make_pair(dst, to), std::make_pair(src, from)}) {
			auto b = find(side.first, n);
			bool device = side.second >= 0;
			// Host memory that is not known is pageable, and the caller's business.
			if (b && b->freed) {
				tell("a copy uses memory that was freed");
				return CUDA_ERROR_ILLEGAL_ADDRESS;
			}
			if (device && (!b || b->gpu != side.second)) {
				tell("a copy of " + std::to_string(n) + " bytes reaches beyond an allocation, or is for another GPU");
				return CUDA_ERROR_ILLEGAL_ADDRESS;
			}
			if (b)
				used.add(b);
		}
	}
	if (o.slow)
		usleep(o.slow);
	memmove(reinterpret_cast<void *>(dst), reinterpret_cast<void *>(src), n);
	if (n > 0 && from == o.bendFrom && to == o.bendTo)
		reinterpret_cast<uint8_t *>(dst)[n / 2] ^= 0x10;
	return CUDA_SUCCESS;
}

// The kernels of the simulator itself, for tests of what is around kernels: sim_add(p, n, v) adds v to n 64-bit values, and
// sim_copy(dst, src, n) copies n bytes.
static std::string simAdd(unsigned, unsigned, unsigned, void **p, uint64_t) {
	auto *x = *static_cast<uint64_t **>(p[0]);
	for (uint64_t i = 0, n = *static_cast<uint64_t *>(p[1]); i < n; i++)
		x[i] += *static_cast<uint64_t *>(p[2]);
	return "";
}

static std::string simCopy(unsigned, unsigned, unsigned, void **p, uint64_t) {
	memmove(*static_cast<void **>(p[0]), *static_cast<void **>(p[1]), *static_cast<uint64_t *>(p[2]));
	return "";
}

// hostModel is what the library of kernels exports.
struct HostModel {
	decltype(&dv_host_kernel) kernel = nullptr;
	decltype(&dv_host_params) params = nullptr;
	decltype(&dv_host_launch) launch = nullptr;
	std::string wrong;

	explicit HostModel(std::string path) {
		if (path.empty()) {
			Dl_info here;
			dladdr(reinterpret_cast<void *>(&simAdd), &here);
			path = here.dli_fname;
			path = path.substr(0, path.rfind('/') + 1) + "libdovetail_kernels.so";
		}
		void *lib = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
		if (!lib) {
			wrong = dlerror();
			return;
		}
		kernel = reinterpret_cast<decltype(kernel)>(dlsym(lib, "dv_host_kernel"));
		params = reinterpret_cast<decltype(params)>(dlsym(lib, "dv_host_params"));
		launch = reinterpret_cast<decltype(launch)>(dlsym(lib, "dv_host_launch"));
		if (!kernel || !params || !launch)
			wrong = path + " is no library of kernels";
	}
};

Function *World::load(const std::string &name, std::string *wrong) {
	auto f = std::make_unique<Function>();
	f->name = name;
	if (name == "sim_add" || name == "sim_copy") {
		f->params = 3;
		f->run = name == "sim_add" ? simAdd : simCopy;
		return f.release();
	}
	static HostModel *model = new HostModel(o.kernels);
	if (!model->wrong.empty()) {
		*wrong = model->wrong;
		return nullptr;
	}
	const void *k = model->kernel(name.c_str());
	if (!k) {
		*wrong = "there is no kernel " + name;
		return nullptr;
	}
	f->params = model->params(k);
	f->run = [k](unsigned grid, unsigned block, unsigned shared, void **params, uint64_t seed) -> std::string {
		char error[512] = "";
		return model->launch(k, grid, block, shared, params, seed, error, sizeof error) ? error : "";
	};
	return f.release();
}

} // namespace sim
