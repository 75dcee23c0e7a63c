package flow

const (
	// BaseMemory is what a process takes before it holds any data, in bytes: code, runtime, file handles.
	BaseMemory = 64 << 20
	// minShare is the least an actor can work in.
	minShare = 8 << 20
	// maxParts bounds the partitions of a shuffle however much memory there is: each costs every rank a little, too.
	maxParts = 1 << 14
)

// MinMemoryLimit is the least memory limit, in bytes, for a number of actors.
func MinMemoryLimit(actors int) int64 {
	return BaseMemory + 2*minShare*int64(max(actors, 4))
}

// Plan is how memory is shared out. Half of what there is belongs to the shuffles, which spill; of the other
// half every actor has an equal share, which bounds what it holds beside the rows of a shuffle. Shares are not
// reserved one by one, so actors cannot wait for one another. All sizes are in bytes.
type Plan struct {
	Budget     int64 // of the shuffles and of reservations for huge documents; 0 without a limit
	Share      int64 // of one actor
	BatchBytes int64 // of text in a batch
	BatchRows  int
	MaxParts   int   // partitions of a shuffle, at most: an inserting actor gathers a chunk for each
	Texts      int64 // for texts that are kept between passes: what is left; 0 without a limit
	MaxDoc     int64 // what reading one document may take out of an actor's share; 0 without a limit
}

// Memory says what there is to share out.
type Memory struct {
	Limit      int64 // in bytes; 0 means as much as is useful
	Actors     int
	BatchBytes int64 // of text in a batch; 0 means what suits the share
	PerRow     int64 // bytes that a batch takes for a row beside its text
	// Device is what suits a device that signs, as BatchBytes; 0 if the processor does. Two batches are under way at a time.
	Device int64

	// For tests: what Plan.Share and Plan.Budget are, if not 0.
	Share, Budget int64
}

// Plan shares it out.
func (m Memory) Plan() Plan {
	pl := Plan{Share: 64 << 20}
	if m.Limit > 0 {
		avail := m.Limit - BaseMemory
		pl.Budget = avail / 2
		pl.Share = min(256<<20, avail/2/int64(m.Actors))
		pl.Texts = avail - pl.Budget - int64(m.Actors)*pl.Share
		pl.MaxDoc = pl.Share / 2
	}
	if m.Share > 0 {
		pl.Share = m.Share
	}
	if m.Budget > 0 {
		pl.Budget = m.Budget
	}
	pl.MaxParts = int(min(maxParts, max(16, pl.Share/4/MinChunk)))
	pl.BatchBytes = min(4<<20, max(64<<10, pl.Share/8))
	rows := pl.Share / 4
	if m.Device > 0 {
		// Devices take as long for a small batch as for one of some MiB.
		if rows /= 2; m.Limit > 0 {
			pl.BatchBytes = min(m.Device, max(64<<10, pl.Share/16))
		} else {
			pl.BatchBytes = max(64<<10, m.Device)
			rows = max(rows, pl.BatchBytes)
		}
	}
	if m.BatchBytes > 0 {
		pl.BatchBytes = m.BatchBytes
	}
	// A batch of tiny documents is bounded by its rows.
	pl.BatchRows = int(min(64<<10, max(64, rows/m.PerRow)))
	return pl
}

// Parts returns how many partitions hold n things of the given size, each within an actor's share of memory, with work
// for every actor. If they would be more than inserting allows they get larger, and extracting takes several passes or
// scratch files.
func (p *Plan) Parts(n, size int64, actors int) int {
	return int(min(int64(p.MaxParts), max(int64(actors), (n*size+p.Share-1)/p.Share)))
}

// Records returns a writer whose buffers take a part of an actor's share.
func (p *Plan) Records(out ChunkSink, l Layout, parts int) *RecordWriter {
	return NewRecordWriter(out, l, parts, int(min(max(4<<20, int64(parts)*MinChunk), p.Share/4)))
}

// Scatter returns a scatter whose buffers take a part of an actor's share.
func (p *Plan) Scatter(l Layout, parts int) *Scatter {
	return NewScatter(l, parts, int(p.Share/4))
}

// Sorter returns a sorter that takes 1/part of an actor's share and has its scratch files in dir.
func (p *Plan) Sorter(dir string, kind RowKind, part int64) *Sorter {
	return NewSorter(dir, kind, p.Share/part)
}

// LimitFor returns the smallest memory limit, in MiB, under which one document may take need bytes.
func LimitFor(need int64) int64 { return (2*need+BaseMemory)>>20 + 1 }
