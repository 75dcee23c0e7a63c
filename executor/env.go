package executor

import "github.com/dovetail-dedup/dovetail/mem"

// Env is what an actor knows about where it runs. It is read-only.
type Env struct {
	Stage  string
	Rank   int // 0 <= Rank < Size
	Size   int // number of ranks
	Worker int // index of the actor among those of its rank
	Actor  int // index of the actor among all of its stage
	Actors int // number of actors of the stage
	// Device is what the actor owns, or owns the part of that its stage asks for; nil if the stage asks for none. All calls
	// to an actor that owns one come from one thread of the operating system, which no one else uses.
	Device *Device
	// Epoch counts the runs that used the work folder, this one included; 1 without one.
	Epoch uint32
	// Budget bounds the memory of all actors of the process.
	Budget *mem.Budget
	// Alloc makes buffers that Budget does not count by itself.
	Alloc mem.Allocator
	// Work opens the committed files of earlier stages; nil without a work folder.
	Work *Work
	// WorkDir is the path of the work folder; empty without one.
	WorkDir string
	// SpillDir is a folder for scratch files, which the actor removes. If it lies in the work folder, what
	// a killed run leaves there is removed by the next.
	SpillDir string
}
