package executor

import "github.com/dovetail-dedup/dovetail/shuffle"

// RunStats says what an executor did, for run.json. Times are in seconds.
type RunStats struct {
	Ranks   int `json:"ranks"`
	Workers int `json:"workers"` // of this process
	// Launcher is that of [JobConfig], Hosts are the names of the machines of a job's ranks, by rank, and Lost are the ranks that it lost.
	Launcher string     `json:"launcher,omitempty"`
	Hosts    []string   `json:"hosts,omitempty"`
	Lost     []LostRank `json:"lost,omitempty"`
	Epoch    uint32     `json:"epoch"`
	// Transport is what carried data between the ranks; empty if there was one.
	Transport string `json:"transport,omitempty"`
	// Tasks counts those of all stages, partitions of shuffle stages included; TasksReused of them were
	// committed by an earlier run.
	Tasks       int64        `json:"tasks"`
	TasksReused int64        `json:"tasks_reused"`
	Stages      []StageStats `json:"stages"`
}

// StageStats says what one stage did.
type StageStats struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"` // "pool", "shuffle" or "collective"
	Actors int    `json:"actors"`
	// Tasks are those finished: done in this run or reused. For a shuffle stage they are its partitions.
	Tasks    int64 `json:"tasks"`
	Reused   int64 `json:"tasks_reused"`
	Inserts  int64 `json:"inserts,omitempty"` // insert tasks of a shuffle stage done in this run
	Attempts int64 `json:"attempts"`          // tries in this run, failed ones and inserts included
	Replaced int64 `json:"actors_replaced,omitempty"`
	Units    int64 `json:"units,omitempty"` // sum of [Meter.Progress]
	Files    int64 `json:"files,omitempty"` // files committed in this run
	Bytes    int64 `json:"file_bytes,omitempty"`
	// WallSeconds is from start to end. SetupSeconds, ReadSeconds, ComputeSeconds, WriteSeconds and WaitSeconds are sums over the
	// actors of all ranks: setting up; inside the actor's methods, reading, computing and writing; and waiting for work or for
	// room. CommitSeconds is the time spent making results permanent, beside the actors.
	WallSeconds    float64 `json:"wall_seconds"`
	SetupSeconds   float64 `json:"setup_seconds"`
	ReadSeconds    float64 `json:"read_seconds"`
	ComputeSeconds float64 `json:"compute_seconds"`
	WriteSeconds   float64 `json:"write_seconds"`
	WaitSeconds    float64 `json:"wait_seconds"`
	CommitSeconds  float64 `json:"commit_seconds"`
	// ProcessorSeconds is the processor time that this process used while the stage ran, in all its threads: that of the actors, of
	// making results permanent and of the garbage collector; 0 where the system does not tell. Stages that run at the same
	// time each count all of it, and other processes of a job count nowhere.
	ProcessorSeconds float64 `json:"processor_seconds,omitempty"`
	// TaskTimes is about the tasks done in this run, for a shuffle stage its partitions, and InsertTimes about its inserts; nil where
	// there were none. Where a round of a job began again, the inserts of both rounds are in it.
	TaskTimes   *TaskTimes `json:"task_times,omitempty"`
	InsertTimes *TaskTimes `json:"insert_times,omitempty"`
	// PeakMemory is the largest resident set of this process seen while the stage ran, in bytes, or the largest sum of those of it
	// and of the processes of its actors; 0 where the system does not tell.
	// Stages that run at the same time share it.
	PeakMemory int64 `json:"peak_memory,omitempty"`
	// Counters are the sums of [Meter.Count] over attempts that counted, those of reused tasks included.
	Counters map[string]int64 `json:"counters,omitempty"`
	// Shuffle is nil for a pool. For a collective stage it has no ledgers.
	Shuffle *ShuffleStats `json:"shuffle,omitempty"`
	Notes   []string      `json:"notes,omitempty"` // at most 100
	Error   string        `json:"error,omitempty"`
}

// ShuffleStats says what the shuffle of a stage moved in this run.
type ShuffleStats struct {
	Op         shuffle.OpID `json:"op"`
	TotalParts int          `json:"total_nparts"`
	// Ranks holds one entry per rank.
	Ranks []RankShuffle `json:"ranks"`
}

// RankShuffle is one rank's view of a shuffle.
type RankShuffle struct {
	Rank       int                `json:"rank"`
	Ledger     shuffle.Ledger     `json:"ledger"`
	Statistics shuffle.Statistics `json:"statistics"`
}
