package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/dovetail-dedup/dovetail/ucx/goodput"
)

// percentUnit is a share of 100.
const percentUnit Unit = "%"

// ucxWorkload is a shuffle between two ranks over UCX, beside a loop in C over UCX with the same checksums whose receiver keeps what comes, too, in
// the same memory, and three ranks that do nothing.
func ucxWorkload(_ context.Context, e *Env) (*Workload, error) {
	chunks, idle := 300, 3*time.Second
	if e.Quick {
		chunks, idle = 8, 100*time.Millisecond
	}
	w := &Workload{Name: "ucx"}
	var open []*goodput.Way
	w.Close = func() {
		for _, way := range open {
			_ = way.Close() // nothing is lost by what fails then
		}
	}
	for _, name := range goodput.Names {
		way, err := goodput.Open(name)
		if err != nil {
			w.Close()
			return nil, unavailable("multi-rank shuffle goodput over UCX, 1 MiB chunks, against a loop in C, and idle ranks: %v; make bench-ucx fetches UCX and measures it", err)
		}
		open = append(open, way)
		if _, _, err := way.Loop(chunks); err != nil { // the memory of both sides is touched for the first time
			w.Close()
			return nil, err
		}
		w.Data = fmt.Sprintf("%d chunks of 1 MiB from one rank to another, one process, UCX %s", chunks, way.Version())
		moves := func(f func(ctx context.Context, chunks int) (wall, cpu time.Duration, err error)) func(context.Context) (Sample, error) {
			return func(ctx context.Context) (Sample, error) {
				wall, cpu, err := f(ctx, chunks)
				bytes := int64(chunks) * goodput.ChunkSize
				s := rate(bytes, wall)
				s[PerCPU] = perCPU(bytes, cpu)[PerCPU]
				return s, err
			}
		}
		about := map[string]string{"shm": "shared memory", "tcp": "TCP, loopback"}[name]
		w.Sides = append(w.Sides,
			Side{Name: "shuffle-" + name, About: "insert on one rank, extract on the other, over UCX, " + about, Run: moves(way.Shuffle)},
			Side{Name: "C-" + name, About: "a loop in C over UCX, CRC32C at both ends, what comes is kept, " + about,
				Run: moves(func(_ context.Context, chunks int) (wall, cpu time.Duration, err error) { return way.Loop(chunks) })},
			Side{Name: "idle-" + name, About: "three ranks that do nothing, " + about, Run: func(ctx context.Context) (Sample, error) {
				share, err := way.Idle(ctx, 3, idle)
				return Sample{percentUnit: 100 * share}, err
			}})
		w.Ratios = append(w.Ratios,
			Ratio{What: "multi-rank shuffle goodput over UCX, " + about + ", 1 MiB chunks, of a loop in C", Of: "shuffle-" + name, By: "C-" + name, Unit: Rate,
				Target: Target{AtLeast: 0.9}, Note: "both sides receive into the same memory, of a program without a limit on it"},
			Ratio{What: "shuffle over UCX, " + about + ", of the loop in C, for each second of processor time", Of: "shuffle-" + name, By: "C-" + name, Unit: PerCPU},
			Ratio{What: "a rank over UCX, " + about + ", that does nothing", Of: "idle-" + name, Unit: percentUnit, Target: Target{AtMost: 1},
				Note: "of one processor"})
	}
	return w, nil
}
