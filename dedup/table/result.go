package table

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Result is what run.json says of a run.
type Result struct {
	// Format names the layout of the output folder.
	Format   string `json:"format"`
	Version  string `json:"version"`
	SpecHash string `json:"spec_hash"`
	Spec     Spec   `json:"spec"`
	Exec     Exec   `json:"exec"`
	// Digest names the rows of every partition, in their order: 32 hexadecimal digits.
	Digest string `json:"digest"`
	// Schema is that of all files, as text.
	Schema string `json:"schema"`
	// TasksReused counts tasks that an interrupted run had finished.
	TasksReused int64     `json:"tasks_reused"`
	Started     time.Time `json:"started"`
	Finished    time.Time `json:"finished"`
	WallSeconds float64   `json:"wall_seconds"`
	// PeakMemory is the largest resident set of this process, in bytes; 0 where the system does not tell.
	PeakMemory int64             `json:"peak_memory"`
	BudgetPeak int64             `json:"budget_peak"` // bytes of the shuffle at most
	Ledger     Ledger            `json:"ledger"`
	Partitions []PartResult      `json:"partitions"`
	Stages     executor.RunStats `json:"stages"`
	Inputs     []InputFile       `json:"inputs"`

	// AlreadyDone is set when the output was complete before the run, which then did nothing.
	AlreadyDone bool `json:"-"`
}

// PartResult says what the file of a partition holds.
type PartResult = partResult

// InputFile identifies a file that was read.
type InputFile = runfolder.InputFile

// Ledger says that what was read is what was written.
type Ledger struct {
	Read    int64        `json:"read"`    // rows
	Written int64        `json:"written"` // rows
	Hash    shuffle.Hash `json:"hash"`    // multiset hash of the rows, read and written
	// ShuffledBytes passed through the shuffle, SpilledBytes of them went to disk. A run that goes on where another was does
	// not count what that one did.
	ShuffledBytes int64 `json:"shuffled_bytes"`
	SpilledBytes  int64 `json:"spilled_bytes"`
	OutputBytes   int64 `json:"output_bytes"`
}

const (
	resultName = "run.json"
	// resultFormat changes when the layout of the output folder does.
	resultFormat = "dovetail-table/1"
)

// ReadResult reads the run.json of an output folder.
func ReadResult(dir string) (*Result, error) {
	data, err := os.ReadFile(filepath.Join(dir, resultName))
	if err != nil {
		return nil, err
	}
	res := new(Result)
	return res, json.Unmarshal(data, res)
}

// digest names the rows of partitions in their order.
func digest(schema string, parts []partResult) string {
	h := sha256.New()
	h.Write([]byte("dovetail table digest 1\n" + schema + "\n"))
	for _, p := range parts {
		var b []byte
		b = binary.LittleEndian.AppendUint64(b, uint64(p.Part))
		b = binary.LittleEndian.AppendUint64(b, uint64(p.Rows))
		h.Write(append(b, p.Order...))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
