package report

import "time"

// Data is all that the page shows. It survives JSON. The zero value is a valid page of an empty run.
type Data struct {
	Format      int       `json:"format"` // 1; set by Render
	Version     string    `json:"version"`
	Digest      string    `json:"digest"`
	Started     time.Time `json:"started"`
	WallSeconds float64   `json:"wall_seconds"`
	PeakMemory  int64     `json:"peak_memory"`  // bytes, 0 if unknown
	MemoryLimit int64     `json:"memory_limit"` // bytes, 0 for none
	// Verified says that near-duplicates were removed for their exact similarity, not as mere candidates.
	Verified  bool    `json:"verified"`
	Threshold float64 `json:"threshold"`
	// ThresholdText is the threshold as it was given, exactly.
	ThresholdText string    `json:"threshold_text"`
	Bands         int       `json:"bands"`
	RowsPerBand   int       `json:"rows_per_band"`
	Normalized    bool      `json:"normalized"` // texts were compared after normalization and are shown before it
	Counts        Counts    `json:"counts"`
	Options       []Option  `json:"options"`
	Findings      Findings  `json:"findings"`
	ByShare       []Source  `json:"by_share"` // sources with the largest shares removed, the largest first
	Files         []Source  `json:"files"`    // removals by input file, only where the files are few
	Clusters      []Cluster `json:"clusters"` // the largest, in descending order
	Samples       []Pair    `json:"samples"`  // removals drawn at random
	Stages        []Stage   `json:"stages"`
	// TaskTimes are about the tasks of stages, those of a shuffle stage twice: inserts and partitions.
	TaskTimes []TaskTimes `json:"task_times"`
	Ledger    []Row       `json:"ledger"`
	Warnings  []string    `json:"warnings"`
}

// Counts are documents and bytes of text.
type Counts struct {
	Files          int64 `json:"files"`
	Documents      int64 `json:"documents"`
	Empty          int64 `json:"empty"`
	Kept           int64 `json:"kept"`
	Identical      int64 `json:"identical"` // removed: the text is that of the kept document
	Near           int64 `json:"near"`      // removed: similar, or a candidate where nothing is verified
	Bytes          int64 `json:"bytes"`
	IdenticalBytes int64 `json:"identical_bytes"`
	NearBytes      int64 `json:"near_bytes"`
	Clusters       int64 `json:"clusters"`
	LargestCluster int64 `json:"largest_cluster"`
	Candidates     int64 `json:"candidates"`
	Pairs          int64 `json:"pairs"`
	Tests          int64 `json:"tests"`    // pairs compared exactly
	Rejected       int64 `json:"rejected"` // of them, below the threshold
}

// Removed is Identical and Near.
func (c *Counts) Removed() int64 { return c.Identical + c.Near }

// Findings are the distributions that the page draws and that other programs read.
type Findings struct {
	// Similarities counts pairs by their exact similarity.
	Similarities Similarities `json:"similarities"`
	// ClusterSizes counts clusters by size, in bins that double: 2, 3 to 4, 5 to 8 and so on.
	ClusterSizes []SizeBin `json:"cluster_sizes"`
	Sources      Sources   `json:"sources"`
}

// Similarities are two histograms over [0, 1] with bins of equal width: bin i of n holds the similarities from
// i/n to below (i+1)/n, the last one also 1. Both are empty where nothing was compared.
type Similarities struct {
	// Removed counts documents removed as near-duplicates by their similarity to the kept document.
	Removed []int64 `json:"removed"`
	// Rejected counts pairs that were compared and found below the threshold.
	Rejected []int64 `json:"rejected"`
}

// SizeBin counts the clusters of From to To documents, both included.
type SizeBin struct {
	From      int64 `json:"from"`
	To        int64 `json:"to"`
	Clusters  int64 `json:"clusters"`
	Documents int64 `json:"documents"`
}

// Sources are counts by where documents come from: the folder of the input file under its root, or, where all
// files lie in one folder, the file.
type Sources struct {
	Kind  string   `json:"kind"`  // "folder" or "file"
	Total int      `json:"total"` // how many there are
	Rows  []Source `json:"rows"`  // those with the most removals, the most first
	Rest  Source   `json:"rest"`  // the sum of the others
}

// Source counts the documents of one source.
type Source struct {
	Name         string `json:"name"`
	Documents    int64  `json:"documents"`
	Removed      int64  `json:"removed"`
	Identical    int64  `json:"identical"` // of the removed
	Bytes        int64  `json:"bytes"`     // of text, as it was compared
	RemovedBytes int64  `json:"removed_bytes"`
}

// Add adds the counts of o.
func (s *Source) Add(o Source) {
	s.Documents += o.Documents
	s.Removed += o.Removed
	s.Identical += o.Identical
	s.Bytes += o.Bytes
	s.RemovedBytes += o.RemovedBytes
}

// Share is the share of the documents that was removed, from 0 to 1.
func (s Source) Share() float64 { return ratio(s.Removed, s.Documents) }

// Option is an option of the run as it was in effect.
type Option struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Decides says that it decides the result; others only say how to run.
	Decides bool `json:"decides"`
}

// Cluster is a kept document and what was removed for it.
type Cluster struct {
	Size  int64  `json:"size"` // documents, the kept one included
	Kept  Doc    `json:"kept"`
	Pairs []Pair `json:"pairs"` // some of the removals
}

// Pair is a removal: the removed document, the kept one, and the evidence.
type Pair struct {
	Removed Doc `json:"removed"`
	Kept    Doc `json:"kept"`
	// Evidence is "exact", "jaccard" or "candidate", as in the table of removed documents.
	Evidence     string `json:"evidence"`
	Intersection int64  `json:"intersection"` // distinct windows in common; 0 where nothing was counted
	Union        int64  `json:"union"`
	Diff         Diff   `json:"diff"`
}

// Doc names a document.
type Doc struct {
	ID    string `json:"id"`
	File  string `json:"file"`
	Row   int64  `json:"row"` // in the file, from 0; -1 where the file is one document
	Bytes int64  `json:"bytes"`
}

// Stage is what one stage of the run cost.
type Stage struct {
	Name           string  `json:"name"`
	Tasks          int64   `json:"tasks"`
	Reused         int64   `json:"reused"` // of the tasks, done by an earlier run
	WallSeconds    float64 `json:"wall_seconds"`
	ReadSeconds    float64 `json:"read_seconds"`
	ComputeSeconds float64 `json:"compute_seconds"`
	WriteSeconds   float64 `json:"write_seconds"`
	WaitSeconds    float64 `json:"wait_seconds"`
	ShuffledRows   int64   `json:"shuffled_rows"`
	ShuffledBytes  int64   `json:"shuffled_bytes"`
	SpilledBytes   int64   `json:"spilled_bytes"`
	FileBytes      int64   `json:"file_bytes"`  // written by its tasks in this run
	PeakMemory     int64   `json:"peak_memory"` // resident in this process while it ran, at most
}

// TaskTimes says how long the tasks of a stage took that were done in this run. Times are in seconds.
type TaskTimes struct {
	Stage string `json:"stage"`
	Kind  string `json:"kind"` // "inserts" or "partitions" of a shuffle stage; else empty
	Tasks int64  `json:"tasks"`
	// Total is what tasks took as a whole, and the others parts of it.
	Total   Spread `json:"total"`
	Wait    Spread `json:"wait"`
	Read    Spread `json:"read"`
	Compute Spread `json:"compute"`
	Write   Spread `json:"write"`
	// Slowest took the longest.
	Slowest SlowTask `json:"slowest"`
}

// Spread is the middle of values and their largest.
type Spread struct {
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
	Max    float64 `json:"max"`
}

// SlowTask is one task and where it ran.
type SlowTask struct {
	Name    string  `json:"name"`
	About   string  `json:"about,omitempty"`
	Rank    int     `json:"rank"`
	Seconds float64 `json:"seconds"`
}

// Row is a line of the ledger.
type Row struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
