package ptx

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Config says how a kernel is launched.
type Config struct {
	// Grid and Block are the numbers of blocks and of threads in a block, in one dimension.
	Grid, Block int
	// Shared is the dynamic shared memory, in bytes.
	Shared int
	// Seed decides the order in which blocks and threads go on.
	Seed uint64
	// MaxInstructions ends a launch that does not end by itself; 0 means 2^32.
	MaxInstructions int64
	// Profile, if not nil, is told what is executed.
	Profile *Profile
}

// Stats counts what a launch did.
type Stats struct {
	// Instructions is the sum over all threads.
	Instructions int64
}

// run is a launch.
type run struct {
	module *Module
	kernel *kernel
	memory *Memory
	launch uint32
	params []uint64
	config Config
	rng    *rand.Rand
	often  uint32 // of 2^32: how often a thread is preempted where it may be
}

// block is a block that was begun.
type block struct {
	run     *run
	index   int
	epoch   uint32 // barriers passed
	threads []thread
	left    int // threads that have not ended
	shared  []*page
	arrays  []sharedArray
}

// resident is how many blocks are under way at a time.
const resident = 3

// Launch runs a kernel to its end. An error is a fault of the kernel, or of how it was launched.
func (m *Module) Launch(memory *Memory, name string, c Config, params ...uint64) (s Stats, err error) {
	k := m.kernels[name]
	if k == nil {
		return s, fmt.Errorf("ptx: no kernel %q", name)
	}
	if len(params) != len(k.params) {
		return s, fmt.Errorf("ptx: %s: %d parameters, it has %d", name, len(params), len(k.params))
	}
	if c.Grid < 1 || c.Block < 1 || c.Block > k.maxBlock || c.Shared < 0 || k.dynamicAt-sharedFirst-len(k.arrays)*sharedGap+c.Shared > 48<<10 {
		return s, fmt.Errorf("ptx: %s: a grid of %d blocks of %d threads with %d bytes of shared memory", name, c.Grid, c.Block, c.Shared)
	}
	if c.MaxInstructions == 0 {
		c.MaxInstructions = 1 << 32
	}
	memory.launch++
	r := &run{module: m, kernel: k, memory: memory, launch: memory.launch, params: params, config: c}
	r.rng = rand.New(rand.NewPCG(c.Seed, 0x6b65726e656c))
	// Seeds differ in how often threads take turns: never unless they wait, seldom, or all the time.
	r.often = []uint32{0, 1 << 22, 1 << 27, 1 << 31}[r.rng.IntN(4)]
	order := r.rng.Perm(c.Grid)
	if c.Seed == 0 {
		r.often = 0
		for i := range order {
			order[i] = i
		}
	}
	var blocks []*block
	for len(order) > 0 || len(blocks) > 0 {
		for len(order) > 0 && len(blocks) < resident {
			blocks = append(blocks, r.begin(order[0]))
			order = order[1:]
		}
		i := r.rng.IntN(len(blocks))
		n, err := blocks[i].turn()
		s.Instructions += n
		if err != nil {
			return s, err
		}
		if s.Instructions > c.MaxInstructions {
			return s, fmt.Errorf("ptx: %s: does not end after %d instructions", name, s.Instructions)
		}
		if blocks[i].left == 0 {
			if c.Profile != nil {
				c.Profile.add(blocks[i])
			}
			blocks = append(blocks[:i], blocks[i+1:]...)
		}
	}
	return s, nil
}

// preempt decides whether a thread is interrupted.
func (r *run) preempt() bool { return r.often > 0 && r.rng.Uint32() < r.often }

// begin makes a block.
func (r *run) begin(index int) *block {
	c, k := r.config, r.kernel
	b := &block{run: r, index: index, left: c.Block, threads: make([]thread, c.Block)}
	b.arrays = append(b.arrays, k.arrays...)
	b.arrays = append(b.arrays, sharedArray{r.module.dynamic, k.dynamicAt, c.Shared})
	for range (k.dynamicAt+c.Shared)/pageBytes + 1 {
		b.shared = append(b.shared, &page{})
	}
	regs := make([]uint64, c.Block*len(k.regs))
	for i := range b.threads {
		t := &b.threads[i]
		t.block, t.tid, t.id = b, i, uint64(index)<<16|uint64(i+1)
		t.regs = regs[i*len(k.regs):][:len(k.regs)]
		copy(t.regs, k.regs)
		t.regs[regTid], t.regs[regNtid], t.regs[regLane] = uint64(i), uint64(c.Block), uint64(i%32)
		t.regs[regCtaid], t.regs[regNctaid] = uint64(index), uint64(c.Grid)
		t.clocks[i%32] = 1
		if c.Profile != nil {
			t.tally = &tally{make([]int64, len(k.code)), map[int][]uint64{}}
		}
	}
	return b
}

// inShared reports whether bytes of shared memory are all in one array.
func (b *block) inShared(at uint64, size uint8) bool {
	for _, a := range b.arrays {
		if at >= uint64(a.at) && at+uint64(size) <= uint64(a.at+a.size) {
			return true
		}
	}
	return false
}

func (b *block) sharedArrays() string {
	var s []string
	for _, a := range b.arrays {
		s = append(s, fmt.Sprintf("%s from %d to %d", a.name, a.at, a.at+a.size))
	}
	return strings.Join(s, ", ")
}

// turn lets each thread of the block that can go on do so, in random order, and opens its barrier.
func (b *block) turn() (n int64, err error) {
	from, by := 0, 1
	if b.run.config.Seed != 0 {
		from, by = b.run.rng.IntN(len(b.threads)), 2*b.run.rng.IntN(len(b.threads))+1
	}
	for gcd(by, len(b.threads)) != 1 {
		by++
	}
	went := false
	for i := range b.threads {
		t := &b.threads[(from+i*by)%len(b.threads)]
		if t.state != ready {
			continue
		}
		went = true
		k, err := t.step()
		n += k
		if err != nil {
			return n, b.fault(t, err)
		}
		if t.state == ended {
			b.left--
		}
		if n > b.run.config.MaxInstructions {
			return n, nil
		}
	}
	if went || b.left == 0 {
		return n, nil
	}
	// All wait.
	first := &b.threads[0]
	for i := range b.threads {
		t := &b.threads[i]
		switch {
		case t.state == ended:
			return n, b.fault(t, fmt.Errorf("has ended, while others wait: %s", b.waiting()))
		case t.state != atBarrier || t.pc != first.pc:
			return n, b.fault(t, fmt.Errorf("waits where others do not: %s", b.waiting()))
		}
	}
	b.epoch++
	for i := range b.threads {
		b.threads[i].state = ready
	}
	return n, nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// waiting says where the threads of the block wait.
func (b *block) waiting() string {
	at := map[string]int{}
	for i := range b.threads {
		t := &b.threads[i]
		line := b.run.kernel.code[t.pc-1].line
		what := fmt.Sprintf("have ended in line %d", line)
		if t.state == atBarrier {
			what = fmt.Sprintf("are at the barrier in line %d", line)
		} else if t.state == inWarp {
			what = fmt.Sprintf("are in line %d with the mask %08x", line, t.mask)
		}
		at[what]++
	}
	var s []string
	for what, n := range at {
		s = append(s, fmt.Sprintf("%d %s", n, what))
	}
	return strings.Join(s, ", ")
}

func (b *block) fault(t *thread, err error) error {
	return fmt.Errorf("ptx: %s, line %d, block %d, thread %d: %w", b.run.kernel.name, b.run.kernel.code[t.pc-1].line, b.index, t.tid, err)
}
