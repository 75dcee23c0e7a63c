package dedup

import (
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
)

// records returns a writer whose buffers take a part of an actor's share of memory.
func (r *run) records(out flow.ChunkSink, l flow.Layout, parts int) *flow.RecordWriter {
	return flow.NewRecordWriter(out, l, parts, int(min(4<<20, r.plan.Share/4)))
}

// openColumns opens a committed work file by the name its task gave it.
func (r *run) openColumns(name string) (*flow.ColumnReader, error) {
	return flow.OpenColumns(r.work, name)
}

// eachRow calls f for every row of the row file that is the result of an earlier task.
func (r *run) eachRow(task executor.Task, columns []string, f func(words []uint64) error) error {
	in, err := flow.DecodeTask[flow.RowResult](task)
	if err != nil {
		return err
	}
	return r.eachRowOf(in.File, columns, f)
}

func (r *run) eachRowOf(file string, columns []string, f func(words []uint64) error) error {
	return flow.EachRow(r.work, file, columns, f)
}
