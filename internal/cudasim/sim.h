// The simulated CUDA driver: libdovetail_cudasim.so has the functions of libcuda.so.1 that the project uses, and GPUs that are
// processes' memory and processor cores. Kernels are those of cuda/kernels.h, compiled as C++.
//
// It is as asynchronous as a driver may be. What is queued is run late, some of it when any function is called, and what must
// be when someone waits for it; in which order is decided by a seed, but for what streams and events order. So work that
// should have waited and did not sees bytes of before or of after, and what is freed too early is found by what still uses it.
//
// It is stricter than NVIDIA's driver where that one promises less than it does: cuMemFree and cuStreamDestroy do not wait,
// memory that was freed is never given again and may not be touched, and addresses are checked at the moment of use.
//
// It keeps a timeline, too: when work would begin and end on a GPU that does one copy in each direction and one kernel at a time, if
// copies and kernels took as long as their size says, and calls as they took now. A stream's work begins when what is before it has
// ended, and not before it was queued; who waits goes on when what was waited for has ended. So dovetail_cudasim_stat says how much
// of copying and computing could go on at the same time, whenever the work is really done.
//
// Faults are asked for by options, a text of NAME=VALUE with commas between: see Options.
#ifndef DOVETAIL_CUDASIM_H
#define DOVETAIL_CUDASIM_H

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

namespace sim {

struct Options {
	int gpus = 1;
	size_t memory = size_t(1) << 30; // bytes of each GPU
	uint64_t seed = 1;
	int late = -1;     // percent of calls after which something queued is run; -1: the seed decides
	int oom = 0;       // every how manieth allocation on a device fails
	int oomPinned = 0; // the same for pinned memory
	int launch = 0;    // every how manieth launch fails at once, without harm to the context
	int crash = 0;     // the how manieth kernel of a device, of all that are run, breaks its context
	int crashGPU = 0;
	int lost = 0; // the how manieth call of a device is the one from which on it does not answer any more
	int lostGPU = 0;
	int lostLaunch = 0; // the same by launches of kernels
	int lostLaunchGPU = 0;
	int slow = 0;                  // microseconds that a copy takes at least
	int bendFrom = -3, bendTo = 0; // a link, of GPUs or -1 for the host, that turns a bit of what it carries; -3 for none
	bool peer = true;              // GPUs reach each other's memory
	std::string kernels;           // path of the library of kernels; default: libdovetail_kernels.so beside this library

	// parse sets what text names. It returns false, and the part that is wrong, if something is.
	bool parse(const std::string &text, std::string *wrong);
};

struct Device;

// Op is something queued in a stream.
struct Op {
	Device *dev;
	std::function<CUresult()> body; // called without the lock
	std::vector<std::shared_ptr<Op>> after;
	bool running = false, done = false;
	double end = 0; // in the timeline, in nanoseconds
};
using OpPtr = std::shared_ptr<Op>;

struct Stream {
	Device *dev;
	bool blocking; // waits for the null stream, and it for this one
	bool destroyed = false;
	std::deque<OpPtr> queue;
	double last = 0; // when what is queued has ended, in the timeline
};

// Engine is a part of a GPU that does one thing at a time.
enum Engine { noEngine = -1, uploads, downloads, kernels, engines };

struct Event {
	Device *dev;
	OpPtr recorded; // null if it never was
};

struct Context {
	Device *dev;
	bool primary;
};

struct Module {
	Device *dev;
	std::set<struct Function *> functions;
};

struct Function {
	std::string name;
	int params;
	int shared = 48 << 10; // most dynamic shared memory
	// run is called without the lock and returns what was wrong, or "".
	std::function<std::string(unsigned grid, unsigned block, unsigned shared, void **params, uint64_t seed)> run;
};

// Block is memory that was allocated. Addresses of freed blocks are never given again.
struct Block {
	uintptr_t base;
	size_t size, mapped;
	int gpu; // -1: pinned
	bool mine; // mapped by us, and not host memory that was registered
	bool freed = false;
	int pins = 0; // operations that use it at this moment
};

struct Device {
	int index;
	size_t used = 0, peak = 0;
	bool lost = false;
	CUresult broken = CUDA_SUCCESS; // what everything returns once an operation has failed
	std::string why;
	Stream null;
	std::set<Stream *> streams; // those that are destroyed, too, until they are empty
	std::unique_ptr<Context> primary;
	int retained = 0;
	std::mt19937_64 rng;
	long calls = 0, allocations = 0, launches = 0, kernels = 0;
	std::set<int> peers; // whose memory its kernels may use
	double free[engines] = {}; // when an engine has done what is queued
	std::vector<std::pair<double, double>> busy[engines];

	// both is how long two engines are busy at the same time.
	double both(Engine a, Engine b) const;
};

// hostTime is how far the callers have got in the timeline, all together. The lock is held.
extern double hostTime;
inline void reached(double end) { hostTime = std::max(hostTime, end); }

struct World {
	std::mutex mu;
	std::condition_variable changed;
	Options o;
	bool started = false;
	std::vector<std::unique_ptr<Device>> devices;
	std::map<uintptr_t, std::shared_ptr<Block>> blocks;
	std::set<Context *> contexts;
	std::set<Stream *> streams; // that are not destroyed
	std::set<Event *> events;
	std::set<Module *> modules;
	size_t pinned = 0;
	long pinnedAllocations = 0, copies = 0;
	int running = 0;

	void start();
	std::string reset(const std::string &options);

	// Operations. The lock is held.
	OpPtr push(Stream *s, std::function<CUresult()> body, std::vector<OpPtr> after = {}, Engine engine = noEngine, double cost = 0);
	void tick(std::unique_lock<std::mutex> &l, Device *d); // counts a call
	void pass(std::unique_lock<std::mutex> &l, Device *d); // lets time pass: some of what is queued is run
	CUresult until(std::unique_lock<std::mutex> &l, Device *d, const std::function<bool()> &reached);

	// Memory. The lock is held.
	CUresult allocate(int gpu, size_t size, uintptr_t *address);
	CUresult release(uintptr_t address, bool pinnedMemory);
	std::shared_ptr<Block> find(uintptr_t address, size_t size);

	// copy is the body of a copy. -1 stands for the host.
	CUresult copy(uintptr_t dst, uintptr_t src, size_t n, int to, int from);
	// load finds a kernel; the error is in *wrong.
	Function *load(const std::string &name, std::string *wrong);

private:
	OpPtr ready(Device *d);
	void run(std::unique_lock<std::mutex> &l, const OpPtr &op);
};

extern World &world;

// Pinned keeps blocks from being unmapped while an operation uses them.
struct Pinned {
	std::vector<std::shared_ptr<Block>> blocks;
	void add(std::shared_ptr<Block> b); // the lock is held
	~Pinned();                          // and here it is not
};

// tell writes a line that says what a caller did wrong, as a driver does not.
void tell(const std::string &line);

} // namespace sim

#endif
