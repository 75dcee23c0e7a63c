package flow

const (
	// baseMemory is what the process takes before it holds any data: code, runtime, file handles.
	baseMemory = 64 << 20
	// minShare is the least an actor can work in.
	minShare = 8 << 20
)

// MinMemoryLimit is the least memory limit, in bytes, for a number of actors.
func MinMemoryLimit(actors int) int64 {
	return baseMemory + 2*minShare*int64(max(actors, 4))
}

// Plan is how memory is shared out. Half of what there is belongs to the shuffles, which spill; of the other
// half every actor has an equal share, which bounds what it holds beside the rows of a shuffle. Shares are not
// reserved one by one, so actors cannot wait for one another. All sizes are in bytes.
type Plan struct {
	Budget     int64 // of the shuffles and of reservations for huge documents; 0 without a limit
	Share      int64 // of one actor
	BatchBytes int64 // of text in a batch
	BatchRows  int
	MaxDoc     int64 // what reading one document may take out of an actor's share; 0 without a limit
}

// NewPlan shares out limit bytes, or as much as is useful if that is 0, among a number of actors. batchBytes is the
// text in a batch, 0 for what suits the share; perRow is what a batch takes for a row beside its text.
func NewPlan(limit int64, actors int, batchBytes, perRow int64) Plan {
	pl := Plan{Share: 64 << 20}
	if limit > 0 {
		avail := limit - baseMemory
		pl.Budget = avail / 2
		pl.Share = min(256<<20, avail/2/int64(actors))
		pl.MaxDoc = pl.Share / 2
	}
	pl.BatchBytes = min(4<<20, max(64<<10, pl.Share/8))
	if batchBytes > 0 {
		pl.BatchBytes = batchBytes
	}
	// A batch of tiny documents is bounded by its rows.
	pl.BatchRows = int(min(64<<10, max(64, pl.Share/4/perRow)))
	return pl
}

// maxParts bounds the partitions of one shuffle: each costs a buffer in every inserting actor.
const maxParts = 1 << 14

// Parts returns how many partitions hold n things of the given size, each within an actor's share of memory, with work
// for every actor.
func (p Plan) Parts(n, size int64, actors int) int {
	return int(min(maxParts, max(int64(actors), (n*size+p.Share-1)/p.Share)))
}

// LimitFor returns the smallest memory limit, in MiB, under which one document may take need bytes.
func LimitFor(need int64) int64 { return (2*need+baseMemory)>>20 + 1 }
