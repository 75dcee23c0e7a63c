package dedup

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
	"github.com/dovetail-dedup/dovetail/dedup/report"
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
	// Digest names the result; see the type of that name.
	Digest string `json:"digest"`
	// Ranks is how many ranks took part.
	Ranks int `json:"ranks"`
	// TasksReused counts tasks that an interrupted run had finished.
	TasksReused int64     `json:"tasks_reused"`
	Started     time.Time `json:"started"`
	Finished    time.Time `json:"finished"`
	WallSeconds float64   `json:"wall_seconds"`
	// PeakMemory is the largest resident set of this process, in bytes; 0 where the system does not tell. With IsolationProcess it is
	// the largest sum of those of all its processes that was seen.
	PeakMemory int64             `json:"peak_memory"`
	Budget     BudgetResult      `json:"budget"`
	Steps      Steps             `json:"steps"`
	Ledger     Ledger            `json:"ledger"`
	Stages     executor.RunStats `json:"stages"`
	// Devices is set where devices were used: what those of this process did.
	Devices *DeviceUse `json:"devices,omitempty"`
	// Findings are distributions over what was found: similarities, cluster sizes, sources.
	Findings report.Findings `json:"findings"`
	// InputPaths are the inputs as they were given, made absolute; Inputs are the files found there.
	// AgainstPaths are those of the reference set, whose files come first in Inputs.
	InputPaths   []string    `json:"input_paths"`
	AgainstPaths []string    `json:"against_paths,omitempty"`
	Inputs       []InputFile `json:"inputs"`
	// Parts are the ranges of Inputs that the numbered files of removed/ and clusters/ are about.
	Parts []FileRange `json:"parts"`
	// Warnings are what the user was told, one line each.
	Warnings []string `json:"warnings,omitempty"`
	// Skipped is set where files or records were left out.
	Skipped *Skipped `json:"skipped,omitempty"`
	// DuplicateIDs is set where documents share ids of the user's.
	DuplicateIDs *DuplicateIDs `json:"duplicate_ids,omitempty"`

	// AlreadyDone is set when the output was complete before the run, which then did nothing.
	AlreadyDone bool `json:"-"`
}

// resultFormat changes when the layout of the output folder does.
const resultFormat = "dovetail/1"

// Steps are the numbers of rows at each step.
type Steps struct {
	Files           int   `json:"files"`
	SkippedFiles    int   `json:"skipped_files"`   // of Files, left out
	SkippedRecords  int64 `json:"skipped_records"` // in the others, left out; not among the Documents
	Documents       int64 `json:"documents"`
	Empty           int64 `json:"empty"` // null or without text
	TextBytes       int64 `json:"text_bytes"`
	LongestBytes    int64 `json:"longest_bytes"`
	ExactDuplicates int64 `json:"exact_duplicates"`
	// BandPairs are the pairs of leader and member over all bands, Pairs the distinct ones.
	BandPairs      int64 `json:"band_pairs"`
	Pairs          int64 `json:"pairs"`
	Candidates     int64 `json:"candidates"`
	CandidateBytes int64 `json:"candidate_bytes"`
	Components     int64 `json:"components"`
	// Tests are the pairs whose exact Jaccard similarity was computed.
	Tests int64 `json:"tests"`
	// References of the documents are of the reference set, neither kept nor removed.
	References int64 `json:"references,omitempty"`
	Kept       int64 `json:"kept"`
	Removed    int64 `json:"removed"`
	// RemovedExact of the removed have the text of their kept document.
	RemovedExact     int64 `json:"removed_exact"`
	RemovedTextBytes int64 `json:"removed_text_bytes"`
	Clusters         int64 `json:"clusters"`
	LargestCluster   int64 `json:"largest_cluster"`
	OutputBytes      int64 `json:"output_bytes"`

	read shuffle.Hash
}

// Ledger says that what was read is what was written. Written are the documents that were kept; see Spec.Write for what
// is done with them.
type Ledger struct {
	Read       int64        `json:"read"`
	Written    int64        `json:"written"`
	Removed    int64        `json:"removed"`
	References int64        `json:"references,omitempty"`
	Hash       shuffle.Hash `json:"hash"` // of (ordinal, content hash) of all documents, read and written
	// ShuffledRows and ShuffledBytes passed through shuffles, each of which closed with a ledger of its own;
	// SpilledBytes of them went to disk.
	ShuffledRows  int64 `json:"shuffled_rows"`
	ShuffledBytes int64 `json:"shuffled_bytes"`
	SpilledBytes  int64 `json:"spilled_bytes"`
}

// BudgetResult is the memory the run counted.
type BudgetResult struct {
	Limit int64 `json:"limit"` // bytes, 0 for none
	Peak  int64 `json:"peak"`
}

// InputFile identifies a file that was read.
type InputFile = runfolder.InputFile

// skippedFiles returns the files that were left out, with the reason, by their index in the inputs.
func (r *Result) skippedFiles() map[int]string {
	out := make(map[int]string)
	if r.Skipped != nil {
		for _, f := range r.Skipped.Files {
			out[f.Index] = f.Reason
		}
	}
	return out
}

// FileRange is a range of input files, both ends included.
type FileRange struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

func (r *run) inputFiles() []InputFile {
	out := make([]InputFile, len(r.set.Files))
	for i, f := range r.set.Files {
		out[i] = InputFile{Path: f.Path, Size: f.Size, ModTime: f.ModTime, Footer: f.Footer, Reference: f.Reference}
	}
	return out
}

// absolutePaths makes inputs absolute without cleaning them: what ".." means behind a link is for the file system
// to say.
func absolutePaths(inputs []string) ([]string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	out := slices.Clone(inputs)
	for i, in := range out {
		if !filepath.IsAbs(in) {
			out[i] = wd + string(filepath.Separator) + in
		}
	}
	return out, nil
}

const resultName = "run.json"

// ReadResult reads the run.json of an output folder.
func ReadResult(dir string) (*Result, error) {
	data, err := os.ReadFile(filepath.Join(dir, resultName))
	if err != nil {
		return nil, err
	}
	res := new(Result)
	return res, json.Unmarshal(data, res)
}

// addRank adds what a shuffle moved for one rank.
func (l *Ledger) addRank(k executor.RankShuffle) {
	l.ShuffledRows += k.Ledger.Received().Rows
	l.ShuffledBytes += k.Statistics.Received.Bytes + k.Statistics.Self.Bytes
	l.SpilledBytes += k.Statistics.Spilled.Bytes
}
