package world

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/simulate/scene"
	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// Pipeline is a workload of plain stages and shuffles: "make" writes numbers to files, some "sums" send them to partitions,
// which write what came to files, and "place" puts the last of these into the folder for results.
type Pipeline struct {
	tasks, rows, parts, shuffles int
	chunk                        int           // bytes, at most
	limit                        int64         // of memory, for shuffles
	deadline                     time.Duration // of a task; 0 is none, and then none hangs
	flaky                        float64       // how likely an attempt to insert fails half way

	mu    sync.Mutex
	stats executor.RunStats // of the root, when it was done
}

const (
	workDir = scene.Work + "/job"
	outDir  = scene.Output
)

// MaxRanks is the largest number that the issue of this simulator asked for.
func (p *Pipeline) MaxRanks() int { return 64 }

// Prepare chooses sizes.
func (p *Pipeline) Prepare(rng *rand.Rand) error {
	p.tasks, p.rows, p.parts, p.shuffles = 1+rng.IntN(24), rng.IntN(200), 1+rng.IntN(20), 1+rng.IntN(2)
	p.chunk = 8 << rng.IntN(8)
	p.deadline = []time.Duration{0, 5 * time.Second, 30 * time.Second}[rng.IntN(3)]
	switch rng.IntN(6) {
	case 0:
		p.limit = 2<<20 + rng.Int64N(8<<20)
	case 1, 2:
		// A rank receives several times what it has credit for, which is 3/8 of the limit and 16 KiB. Chunks are few, because
		// the list of them has to fit beside them.
		p.tasks, p.rows, p.parts, p.shuffles = 6+rng.IntN(8), 1000+rng.IntN(3000), 1+rng.IntN(6), 1
		p.limit, p.chunk = 64<<10+rng.Int64N(128<<10), 2048<<rng.IntN(3)
		if rng.IntN(2) == 0 {
			// What is lost of the credit with every attempt that fails has to add up to all of it.
			p.flaky, p.parts, p.limit = 0.85, 1+rng.IntN(3), 64<<10+rng.Int64N(32<<10)
			p.tasks, p.rows = 16+rng.IntN(16), 800+rng.IntN(1200)
		}
	}
	return os.MkdirAll(outDir, 0o777)
}

// Disordered reports whether transports must bring messages out of order: that an attempt has failed is to be known before its last
// chunks are there.
func (p *Pipeline) Disordered() bool { return p.flaky > 0 }

// number is row i of task t.
func number(t, i int) uint64 { return (uint64(t)<<20 | uint64(i)) * 0x9e3779b97f4a7c15 }

// place is the partition of a number in the n-th shuffle.
func (p *Pipeline) place(v uint64, n int) int { return int((v >> (8 + 16*n)) % uint64(p.parts)) }

// Run runs the stages.
func (p *Pipeline) Run(ctx context.Context, w *World, j *executor.Job) (err error) {
	work, err := j.ShareWork(ctx, func() (*executor.Work, error) { return executor.OpenWork(workDir, []byte("pipeline")) })
	if err != nil {
		return err
	}
	defer work.Close()
	budget := mem.NewBudget(p.limit)
	cfg := executor.Config{Job: j, Work: work, Workers: 2, Budget: budget, Events: w.Events(j.Rank())}
	if p.flaky > 0 {
		cfg.MaxAttempts = 40
	}
	w.Chance(func(rng *rand.Rand) {
		if rng.IntN(3) == 0 {
			cfg.SpillMemoryLimit = 1 + rng.Int64N(4000)
		}
	})
	e, err := executor.New(cfg)
	if err != nil {
		return err
	}
	defer func() {
		stats := e.Stats()
		err = errors.Join(err, e.Close())
		if used := budget.Stats().Used; used != 0 && err == nil {
			err = fmt.Errorf("WRONG: %d bytes of the budget are in use at the end", used)
		}
		if j.Root() && err == nil {
			p.mu.Lock()
			p.stats = stats
			p.mu.Unlock()
		}
	}()
	tasks := make([]executor.Task, p.tasks)
	for t := range tasks {
		tasks[t] = executor.Task{ID: fmt.Sprintf("task-%03d", t), Data: binary.LittleEndian.AppendUint32(nil, uint32(t))}
	}
	if tasks, err = e.Execute(ctx, []executor.Stage{&stage{p, w, "make", p.make}}, tasks); err != nil {
		return err
	}
	for n := range p.shuffles {
		if tasks, err = e.Shuffle(ctx, &sums{p: p, w: w, n: n}, tasks); err != nil {
			return err
		}
	}
	if _, err = e.Execute(ctx, []executor.Stage{&stage{p, w, "place", p.put}}, tasks); err != nil || !j.Root() {
		return err
	}
	return executor.RemoveTemporary(outDir)
}

// Check looks at the results, at what was counted and at the ledgers.
func (p *Pipeline) Check() error {
	want := make([]string, p.parts)
	for part, v := range p.expected(p.shuffles - 1) {
		want[part] = v
	}
	entries, err := os.ReadDir(outDir)
	if err != nil {
		return err
	}
	if len(entries) != p.parts {
		return fmt.Errorf("%d files in the result, want %d: %v", len(entries), p.parts, entries)
	}
	for part := range want {
		got, err := os.ReadFile(filepath.Join(outDir, fmt.Sprintf("part-%05d", part)))
		if err != nil || string(got) != want[part] {
			return fmt.Errorf("partition %d is %q, want %q (%v)", part, got, want[part], err)
		}
	}
	all := int64(p.tasks * p.rows)
	for _, st := range p.stats.Stages {
		wants := map[string]int64{"rows": all}
		if st.Name == "place" {
			wants["rows"] = int64(p.parts)
		}
		for name, n := range wants {
			if st.Counters[name] != n && !(n == 0 && len(st.Counters) == 0) {
				return fmt.Errorf("stage %q counted %d %s, want %d", st.Name, st.Counters[name], name, n)
			}
		}
		if err := ledgers(&st, all); err != nil {
			return fmt.Errorf("stage %q: %w", st.Name, err)
		}
	}
	if len(p.stats.Stages) != 2+p.shuffles {
		return fmt.Errorf("%d stages were run, want %d", len(p.stats.Stages), 2+p.shuffles)
	}
	return nil
}

// ledgers compares what the ranks of a shuffle sent with what they received.
func ledgers(st *executor.StageStats, all int64) error {
	if st.Shuffle == nil || len(st.Shuffle.Ranks) == 0 {
		return nil
	}
	var sent, received shuffle.Totals
	for _, a := range st.Shuffle.Ranks {
		for to, t := range a.Ledger.SentTo {
			sent = sent.Add(t)
			if to < len(st.Shuffle.Ranks) && st.Shuffle.Ranks[to].Ledger.ReceivedFrom[a.Rank] != t {
				return fmt.Errorf("rank %d sent rank %d %v, which received %v", a.Rank, to, t, st.Shuffle.Ranks[to].Ledger.ReceivedFrom[a.Rank])
			}
		}
		for _, t := range a.Ledger.ReceivedFrom {
			received = received.Add(t)
		}
	}
	if sent != received || st.Reused == 0 && sent.Rows > all {
		return fmt.Errorf("the ranks sent %v and received %v, of %d rows", sent, received, all)
	}
	return nil
}

// expected is what each partition of the n-th shuffle holds: how many numbers, and their sum.
func (p *Pipeline) expected(n int) []string {
	count, sum := make([]int, p.parts), make([]uint64, p.parts)
	for t := range p.tasks {
		for i := range p.rows {
			v := number(t, i)
			count[p.place(v, n)]++
			sum[p.place(v, n)] += v
		}
	}
	list := make([]string, p.parts)
	for part := range list {
		list[part] = fmt.Sprintf("%d %d\n", count[part], sum[part])
	}
	return list
}

// make writes the numbers of a task.
func (p *Pipeline) make(_ context.Context, _ *executor.Env, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	t := int(binary.LittleEndian.Uint32(task.Data))
	f, err := out.Create("numbers")
	if err != nil {
		return nil, err
	}
	for i := range p.rows {
		if _, err := f.Write(binary.LittleEndian.AppendUint64(nil, number(t, i))); err != nil {
			return nil, err
		}
	}
	out.Count("rows", int64(p.rows))
	return []executor.Task{{Data: []byte(f.Name())}}, f.Close()
}

// put copies what a partition came to into the result.
func (p *Pipeline) put(_ context.Context, env *executor.Env, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	values, err := readNumbers(env, string(task.Data))
	if err != nil {
		return nil, err
	}
	var sum uint64
	for _, v := range values {
		sum += v
	}
	f, err := out.Place(filepath.Join(outDir, task.ID))
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(f, "%d %d\n", len(values), sum)
	out.Count("rows", 1)
	return []executor.Task{{}}, f.Close()
}

func readNumbers(env *executor.Env, name string) ([]uint64, error) {
	f, err := env.Work.OpenCommitted(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	values := make([]uint64, len(b)/8)
	for i := range values {
		values[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return values, nil
}

// stage is a plain stage.
type stage struct {
	p       *Pipeline
	w       *World
	name    string
	process func(context.Context, *executor.Env, executor.Task, *executor.Attempt) ([]executor.Task, error)
}

func (s *stage) Name() string                  { return s.name }
func (s *stage) Resources() executor.Resources { return executor.Resources{CPUs: 1} }
func (s *stage) TaskDeadline() time.Duration   { return s.p.deadline }

func (s *stage) NewActor(_ context.Context, env *executor.Env) (executor.Actor, error) {
	return &actor{s.p, s.w, env, s.process}, nil
}

type actor struct {
	p       *Pipeline
	w       *World
	env     *executor.Env
	process func(context.Context, *executor.Env, executor.Task, *executor.Attempt) ([]executor.Task, error)
}

func (a *actor) Process(ctx context.Context, task executor.Task, out *executor.Attempt) ([]executor.Task, error) {
	if err := a.p.work(ctx, a.w, task.ID); err != nil {
		return nil, err
	}
	results, err := a.process(ctx, a.env, task, out)
	if err == nil {
		err = a.p.work(ctx, a.w, task.ID) // what is written counts for nothing if it fails now
	}
	return results, err
}

func (a *actor) Close() error { return nil }

// work takes some time, and fails now and then unless the life is calm.
func (p *Pipeline) work(ctx context.Context, w *World, task string) error {
	var d time.Duration
	luck := 1000
	w.Chance(func(rng *rand.Rand) {
		d = time.Duration(rng.ExpFloat64() * float64(10*time.Millisecond))
		if w.slow && rng.IntN(10) == 0 {
			// Long enough for a rank to be taken for lost that says nothing meanwhile, but in time: a task works twice.
			d = time.Duration(rng.ExpFloat64() * float64(2*w.silence))
			if p.deadline > 0 {
				d = min(d, p.deadline*2/5)
			}
		}
		if !w.Calm {
			luck = rng.IntN(1000)
		}
	})
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	switch {
	case luck < 10:
		w.befell("task fails", "%s fails", task)
		return executor.Transient(errFlaky)
	case luck < 13:
		w.befell("actor panics", "%s panics", task)
		panic("by chance")
	case luck < 15:
		w.befell("actor exits", "%s ends its goroutine", task)
		runtime.Goexit()
	case luck < 17 && p.deadline > 0:
		w.befell("actor hangs", "%s hangs", task)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}

// sums is the n-th shuffle.
type sums struct {
	p *Pipeline
	w *World
	n int
}

func (s *sums) Name() string                  { return fmt.Sprintf("sums-%d", s.n) }
func (s *sums) Resources() executor.Resources { return executor.Resources{CPUs: 1} }
func (s *sums) TotalParts() int               { return s.p.parts }
func (s *sums) TaskDeadline() time.Duration   { return 4 * s.p.deadline }

func (s *sums) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	return &summer{s, env}, nil
}

type summer struct {
	*sums
	env *executor.Env
}

func (a *summer) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	if err := a.p.work(ctx, a.w, task.ID); err != nil {
		return err
	}
	values, err := readNumbers(a.env, string(task.Data))
	if err != nil {
		return err
	}
	rows := make([][]byte, a.p.parts)
	for _, v := range values {
		part := a.p.place(v, a.n)
		rows[part] = binary.LittleEndian.AppendUint64(rows[part], v)
	}
	left := a.fails()
	for part, data := range rows {
		for len(data) > 0 {
			if left--; left == 0 {
				a.w.befell("insert fails", "%s fails in the middle", task.ID)
				return executor.Transient(errFlaky)
			}
			if err := a.pause(ctx); err != nil {
				return err
			}
			one := data[:min(a.p.chunk, len(data))]
			data = data[len(one):]
			buf, err := out.Alloc(ctx, len(one))
			if err != nil {
				return err
			}
			copy(buf.Bytes(), one)
			if err := out.Insert(ctx, shuffle.Chunk{Partition: part, Rows: int64(len(one) / 8), Data: buf}); err != nil {
				return err
			}
		}
	}
	return a.p.work(ctx, a.w, task.ID)
}

// fails is after how many chunks an attempt to insert fails; 0 is never.
func (a *summer) fails() (after int) {
	a.w.Chance(func(rng *rand.Rand) {
		if !a.w.Calm && rng.Float64() < a.p.flaky {
			after = 1 + rng.IntN(1+8*a.p.rows/a.p.chunk)
		}
	})
	return after
}

// pause lets chunks leave before an attempt that inserts them fails.
func (a *summer) pause(ctx context.Context) error {
	if a.p.flaky == 0 {
		return nil
	}
	var d time.Duration
	a.w.Chance(func(rng *rand.Rand) { d = time.Duration(rng.ExpFloat64() * float64(2*time.Millisecond)) })
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *summer) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	f, err := out.Create("numbers")
	if err != nil {
		return nil, err
	}
	rows := 0
	for chunk, err := range part.Chunks(ctx) {
		if err != nil {
			return nil, err
		}
		rows += len(chunk.Data.Bytes()) / 8
		if _, err := f.Write(chunk.Data.Bytes()); err != nil {
			return nil, err
		}
	}
	out.Count("rows", int64(rows))
	if err := a.p.work(ctx, a.w, out.Task().ID); err != nil {
		return nil, err
	}
	return []executor.Task{{Data: []byte(f.Name())}}, f.Close()
}

func (a *summer) Close() error { return nil }
