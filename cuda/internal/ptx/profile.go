package ptx

// Profile counts what launches execute, by line of the module. It takes memory for every access that a block makes, so it is for
// small launches.
type Profile struct {
	// Lines has what was executed, by line of the PTX, from 1.
	Lines map[int]*Counts
}

// Counts are those of one instruction.
type Counts struct {
	// Kernel is the name of its kernel.
	Kernel string
	// Issues is how often a warp executed it, its lanes together whenever they could.
	Issues int64
	// Sectors is how many pieces of 32 bytes of global memory its warps touched, counting one again for each issue.
	Sectors int64
	// Banks is how many cycles its accesses to shared memory take: for each issue, the most words that lie in one of 32 banks.
	Banks int64
	// Memory says that it accesses memory.
	Memory bool
}

// tally is what one thread executed: how often each instruction, and the addresses of accesses.
type tally struct {
	counts []int64
	addrs  map[int][]uint64
}

func (t *tally) access(pc int, addr uint64) { t.addrs[pc] = append(t.addrs[pc], addr) }

// add takes in a block that has ended.
func (p *Profile) add(b *block) {
	k := b.run.kernel
	for first := 0; first < len(b.threads); first += 32 {
		warp := b.threads[first:min(first+32, len(b.threads))]
		for pc := range k.code {
			issues := int64(0)
			for i := range warp {
				issues = max(issues, warp[i].tally.counts[pc])
			}
			if issues == 0 {
				continue
			}
			in := &k.code[pc]
			c := p.Lines[int(in.line)]
			if c == nil {
				c = &Counts{Kernel: k.name}
				p.Lines[int(in.line)] = c
			}
			c.Issues += issues
			if in.op == opLd || in.op == opSt || in.op == opAtom {
				c.Memory = true
				c.transactions(warp, pc, in)
			}
		}
	}
}

// transactions counts sectors and bank cycles of one instruction of a warp: its lanes' n-th accesses happen together.
func (c *Counts) transactions(warp []thread, pc int, in *instr) {
	if in.space == constant {
		return
	}
	bytes := uint64(in.size) * uint64(1+len(in.vector))
	for n, more := 0, true; more; n++ {
		more = false
		sectors := map[uint64]bool{}
		var banks [32]map[uint64]bool
		for i := range warp {
			addrs := warp[i].tally.addrs[pc]
			if n >= len(addrs) {
				continue
			}
			more = true
			addr := addrs[n]
			if in.space == shared || in.space == generic && addr >= sharedBase {
				for w := addr / 4; w <= (addr+bytes-1)/4; w++ {
					if banks[w%32] == nil {
						banks[w%32] = map[uint64]bool{}
					}
					banks[w%32][w] = true
				}
				continue
			}
			for s := addr / 32; s <= (addr+bytes-1)/32; s++ {
				sectors[s] = true
			}
		}
		most := 0
		for _, b := range banks {
			most = max(most, len(b))
		}
		c.Sectors += int64(len(sectors))
		c.Banks += int64(most)
	}
}
