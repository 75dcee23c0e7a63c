package ptx

import "fmt"

// exchange is called when a thread has come to an instruction in which the lanes of a mask take part. The last of them
// executes it for all.
func (t *thread) exchange(in *instr) error {
	first := t.tid / 32 * 32
	lanes := t.block.threads[first:min(first+32, len(t.block.threads))]
	if t.mask>>(t.tid%32)&1 == 0 {
		return fmt.Errorf("the lane is not in its own mask %08x", t.mask)
	}
	if len(lanes) < 32 && t.mask>>len(lanes) != 0 {
		return fmt.Errorf("the mask %08x has lanes that do not exist", t.mask)
	}
	all := true
	for lane := range lanes {
		o := &lanes[lane]
		if t.mask>>lane&1 == 0 {
			continue
		}
		here := o.state == inWarp && o.pc == t.pc && o.mask == t.mask
		switch {
		case o.state == ended:
			return fmt.Errorf("lane %d of the mask %08x has ended", lane, t.mask)
		case o.state == inWarp && !here && o.mask>>(t.tid%32)&1 != 0:
			return fmt.Errorf("lane %d of the mask %08x waits in line %d with the mask %08x", lane, t.mask,
				t.block.run.kernel.code[o.pc-1].line, o.mask)
		case !here:
			all = false // it is to come, perhaps from where others release it
		}
	}
	if !all {
		return nil
	}
	// All are here. Values are taken before any is changed.
	var values [32]uint64
	for lane := range lanes {
		if t.mask>>lane&1 != 0 {
			values[lane] = lanes[lane].regs[in.a]
		}
	}
	for lane := range lanes {
		o := &lanes[lane]
		if t.mask>>lane&1 == 0 {
			continue
		}
		o.state = ready
		switch in.op {
		case opShuffle:
			if err := o.shuffle(in, &values); err != nil {
				return err
			}
		case opBallot, opMatch:
			bits := uint64(0)
			for k := range lanes {
				if t.mask>>k&1 != 0 && (in.op == opBallot && values[k] != 0 || in.op == opMatch && values[k] == values[lane]) {
					bits |= 1 << k
				}
			}
			o.regs[in.dst] = bits
		}
	}
	if in.op == opWarpBarrier {
		t.joinClocks(lanes)
	}
	return nil
}

// joinClocks makes all lanes of a mask know what each of them knew, and begins a new time for each.
func (t *thread) joinClocks(lanes []thread) {
	var all [32]uint32
	for lane := range lanes {
		if t.mask>>lane&1 != 0 {
			for k, c := range lanes[lane].clocks {
				all[k] = max(all[k], c)
			}
		}
	}
	// A lane's accesses so far have its clock; those who know of a later one know of them.
	for lane := range all {
		if t.mask>>lane&1 != 0 {
			all[lane]++
		}
	}
	for lane := range lanes {
		if t.mask>>lane&1 != 0 {
			lanes[lane].clocks = all
		}
	}
}

// shuffle gives a lane its value. in.c holds the clamp and the bits that segments are made of, which nvcc's intrinsics set
// for whole warps.
func (t *thread) shuffle(in *instr, values *[32]uint64) error {
	lane, by, c := t.tid%32, int(t.regs[in.b]&31), t.regs[in.c]
	clamp, segment := int(c&31), int(c>>8&31)
	low, high := lane&segment, lane&segment|clamp&^segment
	from, ok := lane, false
	switch in.how {
	case shuffleUp:
		from = lane - by
		ok = from >= high
	case shuffleDown:
		from = lane + by
		ok = from <= high
	case shuffleXor:
		from = lane ^ by
		ok = from <= high
	case shuffleTo:
		from = low | by&^segment
		ok = from <= high
	}
	if !ok {
		from = lane
	}
	if t.mask>>from&1 == 0 {
		return fmt.Errorf("lane %d reads lane %d, which is not in the mask %08x", lane, from, t.mask)
	}
	t.regs[in.dst] = values[from]
	if in.target >= 0 {
		t.regs[in.target] = 0
		if ok {
			t.regs[in.target] = 1
		}
	}
	return nil
}
