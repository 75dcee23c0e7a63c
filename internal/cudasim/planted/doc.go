// Package planted has bugs of the device runtime, each with the check that finds it: `make cuda-mutants` plants one after the other
// and fails if a check passes all the same.
package planted

// Bug is a change of a file that makes a bug.
type Bug struct {
	Name     string
	File     string // below the module
	Old, New string // Old is in the file once
	Package  string // whose test finds it
	Test     string // regular expression of its name
}

// Bugs are the planted bugs.
var Bugs = []Bug{
	{"a stream does not wait for an event", "cuda/stream.go",
		`return s.s.Wait(e.e, 0)`, `return nil`, "./cuda", "TestEventsOrderStreams"},
	{"an event is not recorded", "cuda/stream.go",
		`return e.e.Record(s.s)`, `return nil`, "./cuda", "TestEventsOrderStreams|TestStreamOrder"},
	{"a fence is done at once", "cuda/stream.go",
		"	reached, err := f.e.Reached()\n", "	reached, err := true, error(nil)\n", "./cuda", "TestGivenUp"},
	{"fences leave their events", "cuda/stream.go",
		`if closing := f.e.Close(); f.err == nil {`, `if closing := error(nil); f.err == nil {`, "./cuda", "TestStreamOrder"},
	{"results are read before they are there", "cuda/backend.go",
		"		if err := s.fence.Wait(ctx); err != nil {\n			return err\n		}\n		s.fence = nil\n", "		defer s.fence.Wait(ctx)\n		s.fence = nil\n",
		"./cuda", "TestBackend$/^late$"},
	{"memory is released before it is read", "cuda/backend.go",
		"	raw := s.out.Bytes()\n", "	raw := s.out.Bytes()\n	s.release()\n", "./cuda", "TestBackend$/no_pool"},
	{"scratch is released while it is in use", "cuda/sign.go",
		"		if err := k.s.Synchronize(); err != nil {\n			return err\n		}\n		k.scratch.Release()", "		k.scratch.Release()", "./cuda", "TestKernelsGrow"},
	{"what was queued goes on with memory that was given back", "cuda/backend.go",
		"			_ = s.k.s.Synchronize() // what was queued must not use memory of others\n", "", "./cuda", "TestFailedLaunchLetsGo"},
	{"a column that is given up is still written", "cuda/backend.go",
		"		_ = s.k.s.Synchronize()\n		if s.fence != nil {\n			_ = s.fence.Wait(context.Background())\n", "		if s.fence != nil {\n", "./cuda", "TestBackend$/no_pool/Cancelled|TestGivenUp"},
	{"errors of the driver are dropped", "cuda/context.go",
		"	return c.note(wrap(name, f()))\n", "	_ = c.note(wrap(name, f()))\n	return nil\n", "./cuda", "TestMistakes"},
	{"a broken context is forgotten", "cuda/context.go",
		"	if c.broken == nil {\n		c.broken = err\n	}\n", "", "./cuda", "TestUseAfterFree"},
	{"a context is not given back", "cuda/context.go",
		`c.dev.ReleasePrimaryCtx()`, `error(nil)`, "./cuda", "TestLeaks|TestStreamOrder"},
	{"leaks are not told", "cuda/context.go",
		`if leaks := c.leaks(); leaks != "" {`, `if leaks := c.leaks(); leaks == "?" {`, "./cuda", "TestLeaks"},
	{"a thread keeps the context of another GPU", "cuda/calls.go",
		"	if (bound == id)\n", "	if (bound)\n", "./cuda", "TestContexts"},
	{"all parameters are the first", "cuda/calls.go",
		`pointers[i] = params + i;`, `pointers[i] = params;`, "./cuda", "TestStreamOrder"},
	{"more shared memory is not asked for", "cuda/module.go",
		`shared > maxStaticShared {`, `shared > 1<<30 {`, "./cuda", "TestLargeSharedMemory"},
	{"a launch that failed is the end", "cuda/errors.go",
		`case codeDeviceUnavailable,`, `case codeOutOfResources, codeDeviceUnavailable,`, "./cuda", "TestFailedLaunch$"},
	{"out of memory is the end", "cuda/backend.go",
		`if !errors.Is(err, mem.ErrNoMemory) {`, `if true {`, "./cuda", "TestBackend$/little_memory"},
	{"offsets of a piece are those of the column", "cuda/backend.go",
		`to[i] = off[s.first+i] - base`, `to[i] = off[s.first+i]`, "./cuda", "TestBackend$/^pool$/Texts"},
	{"keys of a piece are put as if it were all", "cuda/backend.go",
		`copy(all[8*(band*b.texts.Rows+s.first):]`, `copy(all[8*(band*s.rows+s.first):]`, "./cuda", "TestBackend$/little_memory"},
	{"nulls of the processor are texts", "cuda/backend.go",
		`if b.texts.IsNull(row) {`, `if false {`, "./cuda", "TestLargeNull"},
	{"a bent link is trusted", "cuda/selftest.go",
		`if at := firstDifference(in.Bytes(), out.Bytes()); at >= 0 {`, `if at := firstDifference(in.Bytes(), out.Bytes()); at >= n {`, "./cuda", "TestSelfTest"},
	{"a pool gives a part twice", "mem/pool.go",
		`p.parts[best] = part{at + n, p.parts[best].n - n}`, `p.parts[best] = part{at, p.parts[best].n - n}`, "./mem", "TestPool$"},
	{"what is needed next is moved away", "mem/store.go",
		`it.next > best.next ||`, `it.next < best.next ||`, "./mem", "TestStoreSpares|TestStoreSpillsDown"},
	{"what someone uses is moved away", "mem/store.go",
		`case it.moving || it.users > 0:`, `case it.moving:`, "./mem", "TestStoreSpares"},
	{"what is still written is moved away", "mem/store.go",
		"	defer s.settle(it)\n	if err := it.written(context.Background()); err != nil {\n		return false, err\n	}\n", "	defer s.settle(it)\n", "./mem", "TestStoreSpares"},
	{"limits of tiers are exceeded", "mem/store.go",
		"		if over <= 0 {\n			l.held += int64(n)\n		}\n", "", "./mem", "TestStoreUnderLoad|TestStoreSpillsDown"},
	{"a pool does not join parts", "mem/pool.go",
		`if i < len(p.parts) && f.at+f.n == p.parts[i].at {`, `if false {`, "./mem", "TestPool$"},
	{"a GPU that failed is said to work", "internal/engine/accelerators_cuda.go",
		`if err := gpu.Broken(); err != nil {`, `if err := gpu.Broken(); err == nil && gpu == nil {`, "./internal/engine", "TestSimulatedGPULost"},
	{"what may be tried again is not", "internal/engine/accelerators_cuda.go",
		`return executor.Transient(err)`, `return err`, "./internal/engine", "TestSimulatedTransient"},
}
