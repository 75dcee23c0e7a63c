// Package scene is what the simulator and its guest tell each other.
package scene

// Folders of a guest. The disk has no faults in Input and Reference, which are the guest's own.
const (
	Input     = "/data/in"
	Reference = "/data/ref"
	Work      = "/data/work"
	Output    = "/data/out"
	// Quiet is a file that is never there. Who tries to open it has no faults of the disk after that.
	Quiet = "/tmp/quiet"
)

// Args are given to a guest.
type Args struct {
	Seed uint64
	Life int
	// Calm lives have no faults.
	Calm bool
	// Workload is what the job does.
	Workload string
	// MaxRanks bounds the number of ranks; 0 is no bound.
	MaxRanks int
}

// Report is the last line that a guest prints, unless its life ends in a crash.
type Report struct {
	Ranks int
	// Done says that the job ended with its results, which were right.
	Done bool
	// Error is why it did not; it can be run again.
	Error string
	// Quit says which rank failed that was not killed, the first of them, and how; empty if none did.
	Quit string
	// Fault is what is wrong with the program.
	Fault string
	// Events counts what befell the job, by kind.
	Events map[string]int
}
