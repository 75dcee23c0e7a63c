package dedup

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/dedup/internal/texts"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// Exec says how to run. Nothing in it changes a result. The zero value is usable.
type Exec struct {
	// Ranks is the number of ranks, all in this process; 0 means 1.
	Ranks int `json:"ranks"`
	// Workers is the number of documents files worked on at a time, over all ranks; 0 means one per CPU.
	Workers int `json:"workers"`
	// MemoryLimit bounds the resident memory of the process, in bytes; 0 means no bound. With IsolationProcess it is that of all
	// processes together, as the sum of their resident sets.
	MemoryLimit int64 `json:"memory_limit"`
	// TextMemory is how many bytes of texts that were signed stay in memory for later passes, which else read them again; 0
	// chooses: what MemoryLimit leaves, or without one as long as half of the machine's memory is available. Less than 0 means
	// none.
	TextMemory int64 `json:"text_memory,omitempty"`
	// Isolation is IsolationGoroutine or IsolationProcess; "" means IsolationGoroutine. With IsolationProcess every worker is a process of
	// its own: Options.Job is that of [executor.Isolate], with Workers for its Actors.
	Isolation string `json:"isolation,omitempty"`
	// BandsPerIteration is the number of bands that are shuffled at a time; 0 means 5, or all if there are
	// fewer. Fewer take less disk and memory, more take fewer passes over the band keys.
	BandsPerIteration int `json:"bands_per_iteration"`
	// SplitBytes is the size of the pieces in which the input is read; 0 chooses by the size of the input.
	SplitBytes int64 `json:"split_bytes,omitempty"`
	// BatchBytes is about how much text is signed at a time; 0 chooses by the memory limit.
	BatchBytes int64 `json:"batch_bytes,omitempty"`
	// OnDuplicateID says what to do if two documents have one id: "error" or "warn"; "" means "error". It decides
	// whether there is a result, not which.
	OnDuplicateID string `json:"on_duplicate_id"`
	// Device names what computes signatures, for the record.
	Device string `json:"device"`
	// TaskTimeout is how long a task may show no sign of progress before its worker is taken to be stuck; see
	// [executor.Config].TaskTimeout. 0 means [DefaultTaskTimeout], less than 0 for ever.
	TaskTimeout time.Duration `json:"task_timeout"`
	// NoReport leaves out report.html, and the rereading of the documents that it shows.
	NoReport bool `json:"no_report,omitempty"`

	// SourceLimit warns or stops when a source would lose too many of its documents.
	SourceLimit SourceLimit `json:"source_limit,omitzero"`

	// Devices are GPUs of this process that sign documents; none means that the processor does. Several workers may share one, and
	// there are at least as many workers as devices. CheckDevice is that of [executor.Config].
	Devices     []executor.Device           `json:"-"`
	CheckDevice func(executor.Device) error `json:"-"`
	// DeviceMemory is the part of MemoryLimit, in bytes, that devices take of the host's memory.
	DeviceMemory int64 `json:"-"`
	// DeviceBatch is how much text, in bytes, suits a device for all the batches that are under way on it; 0 if it is not known.
	DeviceBatch int64 `json:"-"`
	// Backend makes what signs the documents of one actor, on the device of env if it has one; nil means the processor.
	Backend func(p lsh.Params, env *executor.Env) (lsh.Backend, error) `json:"-"`
	// Pairs makes what compares texts for one actor whose env has a device; nil means that the processor compares.
	Pairs func(charNgrams int, env *executor.Env) (lsh.PairBackend, error) `json:"-"`
	// DeviceUse says what the devices of this process did, for the record; nil without devices.
	DeviceUse func() *DeviceUse `json:"-"`

	// For tests:
	onDisk bool                           // find components as if memory were short
	share  int64                          // an actor's share of memory, if not 0
	budget int64                          // of the shuffles and reservations, if not 0
	watch  func(table string, held int64) // told the size of tables; called from several goroutines
}

// Values of Exec.OnDuplicateID.
const (
	OnDuplicateError = "error"
	OnDuplicateWarn  = "warn"
)

// Values of Exec.Isolation.
const (
	IsolationGoroutine = "goroutine"
	IsolationProcess   = "process"
)

// DefaultTaskTimeout is far beyond what any step takes that neither reads nor writes: a run that is merely slow never meets it.
const DefaultTaskTimeout = flow.DefaultTaskTimeout

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
	e.Workers = max(e.Workers, len(e.Devices))
	if e.BandsPerIteration == 0 {
		e.BandsPerIteration = DefaultBandsPerIteration
	}
	if e.TaskTimeout == 0 {
		e.TaskTimeout = DefaultTaskTimeout
	}
	if e.OnDuplicateID == "" {
		e.OnDuplicateID = OnDuplicateError
	}
	if e.Device == "" {
		e.Device = "cpu"
	}
	if e.Backend == nil {
		e.Backend = func(p lsh.Params, env *executor.Env) (lsh.Backend, error) { return lsh.NewCPUBackend(p, env.Alloc) }
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
	isolated := e.Isolation == IsolationProcess
	check(isolated || e.Isolation == "" || e.Isolation == IsolationGoroutine, "--isolation %q: must be %s or %s",
		e.Isolation, IsolationGoroutine, IsolationProcess)
	check(!isolated || e.Ranks == 1, "--ranks %d has no meaning with --isolation process: every worker is a rank; give --workers", e.Ranks)
	least, what := flow.MinMemoryLimit(e.actors()), "--memory-limit "+humanize.IBytes(uint64(e.MemoryLimit))
	if e.TextMemory > 0 {
		what += " without --text-memory " + humanize.IBytes(uint64(e.TextMemory))
	}
	if isolated {
		least = flow.BaseMemory + least*int64(e.Workers)
		check(e.MemoryLimit == 0 || e.limit() >= least, "%s: the smallest that works is %dMiB with %d workers in processes of their own",
			what, least>>20, e.Workers)
	} else {
		check(e.MemoryLimit == 0 || e.limit() >= least, "%s: the smallest that works is %dMiB with %d workers and %d ranks",
			what, least>>20, e.Workers, e.Ranks)
	}
	check(e.OnDuplicateID == OnDuplicateError || e.OnDuplicateID == OnDuplicateWarn,
		"--on-duplicate-id %q: must be %s or %s", e.OnDuplicateID, OnDuplicateError, OnDuplicateWarn)
	check(e.SourceLimit.Share >= 0 && e.SourceLimit.Share < 1, "--limit-removed-per-source %g: must be above 0 and below 1", e.SourceLimit.Share)
	check(e.SplitBytes >= 0, "split size %d: must not be negative", e.SplitBytes)
	check(e.BatchBytes >= 0, "batch size %d: must not be negative", e.BatchBytes)
	return errors.Join(errs...)
}

// plan shares out memory. A batch takes signature, keys and columns for each row.
func (e *Exec) plan(p lsh.Params) flow.Plan {
	return flow.Memory{
		Limit: max(0, e.ProcessLimit()-e.DeviceMemory), Actors: e.actors(), BatchBytes: e.BatchBytes, Device: e.deviceBatch(), PerRow: int64(p.SignatureBytes(1) + 2*p.BandKeyBytes(1) + 256),
		Share: e.share, Budget: e.budget,
	}.Plan()
}

// keepTexts returns what keeps texts between passes in this process.
func (e *Exec) keepTexts(plan *flow.Plan) *texts.Cache {
	switch {
	case e.TextMemory < 0:
		return nil
	case e.TextMemory > 0:
		return texts.New(texts.AtMost(e.TextMemory / int64(e.processes())))
	case e.MemoryLimit > 0:
		return texts.New(texts.AtMost(plan.Texts))
	}
	return texts.New(texts.HalfOfMemory())
}

// processes is the number of processes on this machine that Exec's limits are for all together.
func (e *Exec) processes() int {
	if e.Isolation == IsolationProcess {
		return max(1, e.Workers)
	}
	return 1
}

// limit is the memory limit for all but texts that stay in memory because TextMemory says so; 0 means no bound.
func (e *Exec) limit() int64 {
	if e.MemoryLimit == 0 {
		return 0
	}
	return e.MemoryLimit - max(0, e.TextMemory)
}

// ProcessLimit is the share of the memory limit, in bytes, that a process of this run has in which actors work, without
// texts that TextMemory has stay in memory; 0 means no bound. With IsolationProcess it is that of a worker: the first
// process, which has none, keeps what a process takes without data.
func (e *Exec) ProcessLimit() int64 {
	if e.Isolation != IsolationProcess || e.MemoryLimit == 0 {
		return e.limit()
	}
	return (e.limit() - flow.BaseMemory) / int64(max(1, e.Workers))
}

// actors is the most that work at a time in a process.
func (e *Exec) actors() int {
	if e.Isolation == IsolationProcess {
		return 1
	}
	return max(e.Ranks, e.Workers)
}

// deviceBatch is the size of a batch for a device that several workers share, each of which has two batches under way; 0 if there is
// no device.
func (e *Exec) deviceBatch() int64 {
	n := int64(len(e.Devices))
	if n == 0 {
		return 0
	}
	sharers := (int64(e.Workers) + n - 1) / n
	return min(mostDeviceBatch, max(leastDeviceBatch, e.DeviceBatch/(2*max(1, sharers))))
}

// Bounds of a batch for a device, in bytes of text.
const (
	leastDeviceBatch = 1 << 20
	mostDeviceBatch  = 64 << 20
)

// deciding is what an actor occupies that compares texts. Each rank has one at least.
func (e *Exec) deciding() executor.Resources {
	if e.Pairs == nil {
		return flow.Signing(0, 0)
	}
	return flow.Signing(max(e.Workers, e.Ranks), len(e.Devices))
}

// signing is what an actor occupies that signs: a worker, and its share of a device if there are any.
func (e *Exec) signing() executor.Resources { return flow.Signing(e.Workers, len(e.Devices)) }
