package table

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/parquet/compress"
)

// Ways to partition.
const (
	Hash  = "hash"
	Range = "range"
)

// Spec holds every option that decides results. Start from [DefaultSpec].
type Spec struct {
	// On are the key columns, at the top level.
	On []string `json:"on"`
	// TotalParts is the number of partitions and of files.
	TotalParts int `json:"total_nparts"`
	// Partition is [Hash] or [Range].
	Partition string `json:"partition"`
	// Sort puts the rows of each partition into the order of the key.
	Sort bool `json:"sort,omitempty"`
	// RowGroupBytes bounds the bytes of a row group, as [columns.Codec.RowBytes] counts them, but for one of a single row.
	RowGroupBytes int64 `json:"row_group_bytes"`
	// RowGroupRows bounds the rows of a row group.
	RowGroupRows int64 `json:"row_group_rows"`
	// Compression is "snappy", "zstd" or "none".
	Compression string `json:"compression"`
}

// DefaultSpec returns the defaults, which leave the keys and the number of partitions to be named.
func DefaultSpec() Spec {
	return Spec{Partition: Hash, RowGroupBytes: 8 << 20, RowGroupRows: 1 << 20, Compression: "snappy"}
}

var codecs = map[string]compress.Compression{
	"snappy": compress.Codecs.Snappy, "zstd": compress.Codecs.Zstd, "none": compress.Codecs.Uncompressed,
}

// Validate reports every fault at once.
func (s *Spec) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(s.On) > 0 && !slices.Contains(s.On, ""), "--on: name the column, or several with commas between them")
	for i, name := range s.On {
		check(!slices.Contains(s.On[:i], name), "--on: column %q is named twice", name)
	}
	check(s.TotalParts >= 1 && s.TotalParts <= maxParts, "--total-nparts %d: must be from 1 to %d", s.TotalParts, maxParts)
	check(s.Partition == Hash || s.Partition == Range, "--partition %q: must be %s or %s", s.Partition, Hash, Range)
	check(s.RowGroupBytes >= 1<<10 && s.RowGroupBytes <= 1<<30, "--row-group-size %d: must be from 1KiB to 1GiB", s.RowGroupBytes)
	check(s.RowGroupRows >= 1 && s.RowGroupRows <= 1<<24, "row groups of %d rows: must be from 1 to %d", s.RowGroupRows, 1<<24)
	_, ok := codecs[s.Compression]
	check(ok, "--compression %q: must be snappy, zstd or none", s.Compression)
	return errors.Join(errs...)
}

// maxParts bounds the partitions: each takes a file and, in every batch, a chunk.
const maxParts = 1 << 16

// Hash returns 16 hexadecimal digits that name the Spec.
func (s *Spec) Hash() string {
	var b bytes.Buffer
	b.WriteString("dovetail table spec 1\n")
	_ = json.NewEncoder(&b).Encode(s) // strings and integers always encode
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:8])
}

// Diff names the fields in which s and other differ, with both values, in the words of the command line.
func (s *Spec) Diff(other *Spec) []string {
	var out []string
	a, b := reflect.ValueOf(*s), reflect.ValueOf(*other)
	for i := range a.NumField() {
		if x, y := fmt.Sprint(a.Field(i).Interface()), fmt.Sprint(b.Field(i).Interface()); x != y {
			name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("json"), ",")
			out = append(out, fmt.Sprintf("--%s was %s and is now %s", strings.ReplaceAll(name, "_", "-"), x, y))
		}
	}
	return out
}

// Exec says how to run. Nothing in it changes a result. The zero value is usable.
type Exec struct {
	// Ranks is the number of ranks, all in this process; 0 means 1.
	Ranks int `json:"ranks"`
	// Workers is the number of tasks worked on at a time, over all ranks; 0 means one per CPU.
	Workers int `json:"workers"`
	// MemoryLimit bounds the resident memory of the process, in bytes; 0 means no bound.
	MemoryLimit int64 `json:"memory_limit"`
	// SplitBytes is the size of the pieces in which the input is read; 0 chooses by the size of the input.
	SplitBytes int64 `json:"split_bytes,omitempty"`
	// BatchBytes is about how much is read at a time; 0 chooses by the memory limit.
	BatchBytes int64 `json:"batch_bytes,omitempty"`
	// SortBytes is how much of a partition is sorted in memory; 0 chooses by the memory limit.
	SortBytes int64 `json:"sort_bytes,omitempty"`
	// TaskTimeout is how long a task may show no sign of progress before its worker is taken to be stuck: 0 means an hour, less
	// than 0 for ever.
	TaskTimeout time.Duration `json:"task_timeout,omitempty"`
}

// EnsureDefaults replaces zero values by what they mean.
func (e *Exec) EnsureDefaults() {
	if e.Ranks == 0 {
		e.Ranks = 1
	}
	if e.Workers == 0 {
		e.Workers = runtime.GOMAXPROCS(0)
	}
}

// Validate reports every fault at once, of the Exec alone and of the two together.
func (e *Exec) Validate(s *Spec) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(e.Ranks >= 1 && e.Ranks <= 256, "--ranks %d: must be from 1 to 256", e.Ranks)
	check(e.Workers >= 1 && e.Workers <= 4096, "--workers %d: must be from 1 to 4096", e.Workers)
	least := baseMemory + 2*int64(e.actors())*max(minShare, groupCopies*s.RowGroupBytes)
	check(e.MemoryLimit == 0 || e.MemoryLimit >= least,
		"--memory-limit %dMiB: the smallest that works is %dMiB with %d workers, %d ranks and row groups of %d KiB",
		e.MemoryLimit>>20, (least+1<<20-1)>>20, e.Workers, e.Ranks, s.RowGroupBytes>>10)
	check(e.SplitBytes >= 0 && e.BatchBytes >= 0 && e.SortBytes >= 0, "sizes must not be negative")
	return errors.Join(errs...)
}

func (e *Exec) actors() int { return max(e.Ranks, e.Workers) }

const (
	// baseMemory is what the process takes before it holds any data.
	baseMemory = 64 << 20
	// minShare is the least an actor can work in.
	minShare = 8 << 20
	// groupCopies is how many times a row group is in memory while it is made: its pieces, the whole, and what is encoded.
	groupCopies = 4
)

// plan is how memory is shared out; see the package doc.
type plan struct {
	budget int64 // of the shuffle; 0 for no bound
	share  int64 // of an actor
	batch  int64 // bytes read at a time
	chunk  int64 // bytes of a chunk at most, unless a row needs more
	large  int64 // bytes of a chunk at most in any case
	hold   int64 // bytes of chunks that an actor holds while it waits for more
	sort   int64 // bytes of a partition that are sorted at a time
}

func (e *Exec) plan() plan {
	actors := int64(e.actors())
	p := plan{share: 64 << 20, chunk: 4 << 20, large: 1 << 30, hold: 1 << 20}
	if e.MemoryLimit > 0 {
		avail := e.MemoryLimit - baseMemory
		p.budget = avail / 2
		p.share = min(256<<20, avail/2/actors)
		p.large = min(p.large, p.budget/4) // which is the shuffle's own bound
		p.chunk = min(p.chunk, p.budget/16)
		p.hold = min(p.hold, p.budget/16/actors)
	}
	p.batch = min(8<<20, p.share/8)
	if e.BatchBytes > 0 {
		p.batch = e.BatchBytes
	}
	p.sort = p.share / 4
	if e.SortBytes > 0 {
		p.sort = e.SortBytes
	}
	return p
}
