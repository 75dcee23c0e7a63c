package shuffle

// Totals are sums over chunks.
type Totals struct {
	Chunks int64 `json:"chunks"`
	Rows   int64 `json:"rows"`
	Hash   Hash  `json:"hash"`
}

// Add returns the totals of both.
func (t Totals) Add(o Totals) Totals {
	return Totals{t.Chunks + o.Chunks, t.Rows + o.Rows, t.Hash.Add(o.Hash)}
}

// Ledger says what went where. Over all ranks, SentTo[j] of rank i equals ReceivedFrom[i] of rank j once
// all have finished; the shuffle has checked that already for every single task and partition.
type Ledger struct {
	// Tasks is the number of tasks that this rank committed.
	Tasks int `json:"tasks"`
	// SentTo is what those tasks inserted, by the rank that owns the partition, this rank included.
	SentTo []Totals `json:"sent_to"`
	// ReceivedFrom is what arrived for this rank's partitions, by source rank, this rank included. Only
	// tasks whose every chunk for a partition has arrived are counted.
	ReceivedFrom []Totals `json:"received_from"`
	// Partitions is the same by partition, in the order of LocalPartitions.
	Partitions []PartitionTotals `json:"partitions,omitempty"`
}

// PartitionTotals are the totals of one partition.
type PartitionTotals struct {
	Partition int `json:"partition"`
	Totals
}

// Sent returns the sum of SentTo.
func (l *Ledger) Sent() Totals { return sum(l.SentTo) }

// Received returns the sum of ReceivedFrom.
func (l *Ledger) Received() Totals { return sum(l.ReceivedFrom) }

func sum(ts []Totals) (s Totals) {
	for _, t := range ts {
		s = s.Add(t)
	}
	return s
}
