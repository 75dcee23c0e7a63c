package shuffle

import "time"

// Traffic counts chunks and the bytes of their data.
type Traffic struct {
	Chunks int64 `json:"chunks"`
	Bytes  int64 `json:"bytes"`
}

func (t *Traffic) add(bytes int64) {
	t.Chunks++
	t.Bytes += bytes
}

// Add returns the sum of both.
func (t Traffic) Add(o Traffic) Traffic { return Traffic{t.Chunks + o.Chunks, t.Bytes + o.Bytes} }

// Statistics counts what one shuffler did on one rank. It is a plain value; Add sums it up over operations
// and ranks.
type Statistics struct {
	Sent     Traffic `json:"sent"`     // to other ranks
	Received Traffic `json:"received"` // from other ranks, repetitions included
	Self     Traffic `json:"self"`     // inserted for partitions of the same rank
	Dropped  Traffic `json:"dropped"`  // repetitions, attempts that did not count, and what an abort left

	Spilled   Traffic `json:"spilled"`   // written to disk
	Unspilled Traffic `json:"unspilled"` // read back, as often as it was read

	Messages int64 `json:"messages"` // given to the transport, data and control
	Wants    int64 `json:"wants"`    // times that this rank had to ask for credit

	InsertWait  time.Duration `json:"insert_wait_ns"`  // Insert waiting for room in the outgoing queue
	MemoryWait  time.Duration `json:"memory_wait_ns"`  // waiting for the budget
	SpillTime   time.Duration `json:"spill_time_ns"`   // writing spill files
	UnspillTime time.Duration `json:"unspill_time_ns"` // reading them
}

// Add returns the sum of both.
func (s Statistics) Add(o Statistics) Statistics {
	return Statistics{
		Sent: s.Sent.Add(o.Sent), Received: s.Received.Add(o.Received), Self: s.Self.Add(o.Self),
		Dropped: s.Dropped.Add(o.Dropped), Spilled: s.Spilled.Add(o.Spilled), Unspilled: s.Unspilled.Add(o.Unspilled),
		Messages: s.Messages + o.Messages, Wants: s.Wants + o.Wants,
		InsertWait: s.InsertWait + o.InsertWait, MemoryWait: s.MemoryWait + o.MemoryWait,
		SpillTime: s.SpillTime + o.SpillTime, UnspillTime: s.UnspillTime + o.UnspillTime,
	}
}
