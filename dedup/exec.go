package dedup

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// Exec says how to run. Nothing in it changes a result. The zero value is usable.
type Exec struct {
	// Ranks is the number of ranks, all in this process; 0 means 1.
	Ranks int `json:"ranks"`
	// Workers is the number of documents files worked on at a time, over all ranks; 0 means one per CPU.
	Workers int `json:"workers"`
	// MemoryLimit bounds the resident memory of the process, in bytes; 0 means no bound.
	MemoryLimit int64 `json:"memory_limit"`
	// BandsPerIteration is the number of bands that are shuffled at a time; 0 means 5. Fewer take less disk
	// and memory, more take fewer passes over the band keys.
	BandsPerIteration int `json:"bands_per_iteration"`
	// SplitBytes is the size of the pieces in which the input is read; 0 chooses by the size of the input.
	SplitBytes int64 `json:"split_bytes,omitempty"`
	// BatchBytes is about how much text is signed at a time; 0 chooses by the memory limit.
	BatchBytes int64 `json:"batch_bytes,omitempty"`
	// Device names what computes signatures, for the record.
	Device string `json:"device"`

	// Kernels makes the kernels of one actor; nil means [lsh.NewCPU].
	Kernels func(lsh.Params) (lsh.Kernels, error) `json:"-"`

	onDisk bool // for tests: find components as if memory were short
}

// DefaultBandsPerIteration is NeMo Curator's default.
const DefaultBandsPerIteration = 5

// EnsureDefaults replaces zero values by what they mean.
func (e *Exec) EnsureDefaults() {
	if e.Ranks == 0 {
		e.Ranks = 1
	}
	if e.Workers == 0 {
		e.Workers = runtime.GOMAXPROCS(0)
	}
	if e.BandsPerIteration == 0 {
		e.BandsPerIteration = DefaultBandsPerIteration
	}
	if e.Device == "" {
		e.Device = "cpu"
	}
	if e.Kernels == nil {
		e.Kernels = func(p lsh.Params) (lsh.Kernels, error) { return lsh.NewCPU(p) }
	}
}

// Validate reports every fault at once. bands is the number of bands of the Spec.
func (e *Exec) Validate(bands int) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(e.Ranks >= 1 && e.Ranks <= 256, "--ranks %d: must be from 1 to 256", e.Ranks)
	check(e.Workers >= 1 && e.Workers <= 4096, "--workers %d: must be from 1 to 4096", e.Workers)
	check(e.BandsPerIteration >= 1 && e.BandsPerIteration <= bands,
		"--bands-per-iteration %d: must be from 1 to the number of bands, %d", e.BandsPerIteration, bands)
	check(e.MemoryLimit == 0 || e.MemoryLimit >= e.minMemoryLimit(),
		"--memory-limit %dMiB: the smallest that works is %dMiB with %d workers and %d ranks", e.MemoryLimit>>20,
		e.minMemoryLimit()>>20, e.Workers, e.Ranks)
	check(e.SplitBytes >= 0, "split size %d: must not be negative", e.SplitBytes)
	check(e.BatchBytes >= 0, "batch size %d: must not be negative", e.BatchBytes)
	return errors.Join(errs...)
}

// minMemoryLimit is the least memory limit for the actors there are.
func (e *Exec) minMemoryLimit() int64 { return flow.MinMemoryLimit(max(e.Ranks, e.Workers)) }

func (e *Exec) plan(p lsh.Params) flow.Plan {
	// What a batch takes for a row: signature, keys and columns.
	perRow := int64(p.SignatureBytes(1) + 2*p.BandKeyBytes(1) + 256)
	return flow.NewPlan(e.MemoryLimit, max(e.Ranks, e.Workers), e.BatchBytes, perRow)
}
