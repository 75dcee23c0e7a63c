package executor

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

const rowsPerTask = 300

// sums is a shuffle stage: task n inserts the numbers from n*rowsPerTask, each into the partition that is the
// number modulo total, and extracting a partition sums it up.
type sums struct {
	name    string
	total   int
	workers int
	// Hooks; what is nil does nothing.
	setup   func(env *Env) error
	insert  func(ctx context.Context, t Task, out *PartWriter) error // after the inserts
	extract func(ctx context.Context, part int, out *Attempt) error  // before the sum
	close   func(env *Env) error

	setups, closes    atomic.Int32
	inserts, extracts atomic.Int32
	unwanted          atomic.Int32 // inserts skipped
	mu                sync.Mutex
	ranks             map[int]int // extractions by rank
}

func (s *sums) Name() string { return s.name }

func (s *sums) Resources() Resources { return Resources{} }

func (s *sums) TotalParts() int { return s.total }

func (s *sums) NumWorkers() int { return s.workers }

func (s *sums) NewShuffleActor(ctx context.Context, env *Env) (ShuffleActor, error) {
	if s.setup != nil {
		if err := s.setup(env); err != nil {
			return nil, err
		}
	}
	s.setups.Add(1)
	return &summer{s: s, env: env}, nil
}

type summer struct {
	s    *sums
	env  *Env
	busy atomic.Bool
}

func (a *summer) enter() func() {
	if !a.busy.CompareAndSwap(false, true) {
		panic("the actor is used twice at once")
	}
	return func() { a.busy.Store(false) }
}

func (a *summer) Insert(ctx context.Context, task Task, out *PartWriter) error {
	defer a.enter()()
	a.s.inserts.Add(1)
	n, err := strconv.Atoi(string(task.Data))
	if err != nil {
		return err
	}
	rows := make([][]byte, out.TotalParts())
	for v := n * rowsPerTask; v < (n+1)*rowsPerTask; v++ {
		rows[v%len(rows)] = binary.LittleEndian.AppendUint64(rows[v%len(rows)], uint64(v))
	}
	out.Count("rows", rowsPerTask)
	out.Progress(rowsPerTask)
	for part, data := range rows {
		if !out.Wanted(part) {
			a.s.unwanted.Add(1)
		}
		if len(data) == 0 {
			continue
		}
		buf, err := out.Alloc(ctx, len(data))
		if err != nil {
			return err
		}
		copy(buf.Bytes(), data)
		if err := out.Insert(ctx, shuffle.Chunk{Partition: part, Rows: int64(len(data) / 8), Data: buf}); err != nil {
			return err
		}
	}
	if a.s.insert != nil {
		return a.s.insert(ctx, task, out)
	}
	return nil
}

func (a *summer) Extract(ctx context.Context, part *shuffle.Partition, out *Attempt) ([]Task, error) {
	defer a.enter()()
	a.s.extracts.Add(1)
	a.s.mu.Lock()
	if a.s.ranks == nil {
		a.s.ranks = make(map[int]int)
	}
	a.s.ranks[a.env.Rank]++
	a.s.mu.Unlock()
	if a.s.extract != nil {
		if err := a.s.extract(ctx, part.Index(), out); err != nil {
			return nil, err
		}
	}
	rows, sum := int64(0), uint64(0)
	for c, err := range part.Chunks(ctx) {
		if err != nil {
			return nil, err
		}
		rows += c.Rows
		for b := c.Data.Bytes(); len(b) > 0; b = b[8:] {
			sum += binary.LittleEndian.Uint64(b)
		}
	}
	if rows != part.Rows() {
		return nil, fmt.Errorf("%d rows in chunks, %d in the partition", rows, part.Rows())
	}
	out.Count("extracted", rows)
	text := fmt.Sprintf("%d: %d rows, sum %d", part.Index(), rows, sum)
	if a.env.Work == nil {
		return []Task{{Data: []byte(text)}}, nil
	}
	f, err := out.Create("sum")
	if err != nil {
		return nil, err
	}
	io.WriteString(f, text)
	return []Task{{Data: []byte(text)}}, f.Close()
}

func (a *summer) Close() error {
	a.s.closes.Add(1)
	if a.s.close != nil {
		return a.s.close(a.env)
	}
	return nil
}

func wantSums(tasks, total int) []string {
	rows, sum := make([]int, total), make([]int, total)
	for v := range tasks * rowsPerTask {
		rows[v%total]++
		sum[v%total] += v
	}
	var out []string
	for p := range total {
		out = append(out, fmt.Sprintf("%d: %d rows, sum %d", p, rows[p], sum[p]))
	}
	return out
}

func checkSums(t *testing.T, got []Task, tasks, total int) {
	t.Helper()
	var texts []string
	for i, task := range got {
		texts = append(texts, string(task.Data))
		if want := fmt.Sprintf("part-%05d", i); task.ID != want {
			t.Errorf("result %d is called %s", i, task.ID)
		}
	}
	if want := wantSums(tasks, total); !slices.Equal(texts, want) {
		t.Errorf("got %q, want %q", texts, want)
	}
}

func shuffleTasks(n int) []Task {
	tasks := makeTasks(n)
	for i := range tasks {
		tasks[i].Data = []byte(strconv.Itoa(i))
	}
	return tasks
}

func TestShuffle(t *testing.T) {
	for _, tc := range []struct {
		ranks, workers, tasks, total, actors int
		limit, spill                         int64
	}{
		{ranks: 1, workers: 1, tasks: 20, total: 7, actors: 1},
		{ranks: 1, workers: 4, tasks: 20, total: 7, actors: 4},
		{ranks: 3, workers: 4, tasks: 20, total: 7, actors: 4},
		{ranks: 3, workers: 2, tasks: 20, total: 7, actors: 3},
		{ranks: 5, workers: 5, tasks: 1, total: 2, actors: 5}, // ranks without tasks and without partitions
		{ranks: 8, workers: 8, tasks: 40, total: 100, actors: 8},
		{ranks: 2, workers: 2, tasks: 60, total: 3, actors: 2, limit: 128 << 10, spill: 2000},
		{ranks: 3, workers: 6, tasks: 60, total: 5, actors: 6, limit: 64 << 10},
	} {
		t.Run(fmt.Sprintf("%+v", tc), func(t *testing.T) {
			budget, rep := mem.NewBudget(tc.limit), new(lines)
			e := newExecutor(t, Config{
				Ranks: tc.ranks, Workers: tc.workers, Alloc: mem.NewChecked(t, mem.Host()), Budget: budget,
				SpillMemoryLimit: tc.spill, Progress: rep,
			})
			for round := range 2 { // operations follow each other on the same ranks
				st := &sums{name: fmt.Sprint("sums", round), total: tc.total}
				got, err := e.Shuffle(t.Context(), st, shuffleTasks(tc.tasks))
				if err != nil {
					t.Fatal(err)
				}
				checkSums(t, got, tc.tasks, tc.total)
				if n := int(st.setups.Load()); n != tc.actors || st.closes.Load() != st.setups.Load() {
					t.Errorf("%d actors, %d closed, want %d", n, st.closes.Load(), tc.actors)
				}
				for rank, n := range st.ranks {
					if owned := (tc.total - rank + tc.ranks - 1) / tc.ranks; n != owned {
						t.Errorf("rank %d has extracted %d partitions and owns %d", rank, n, owned)
					}
				}
				s := e.Stats().Stages[round]
				rows := int64(tc.tasks * rowsPerTask)
				if s.Kind != "shuffle" || s.Tasks != int64(tc.total) || s.Inserts != int64(tc.tasks) || s.Units != rows ||
					s.Counters["rows"] != rows || s.Counters["extracted"] != rows || s.Attempts != s.Tasks+s.Inserts {
					t.Errorf("%+v", s)
				}
				var sent, received, tasks, spilled int64
				for _, r := range s.Shuffle.Ranks {
					for i := range r.Ledger.SentTo {
						sent += r.Ledger.SentTo[i].Rows
						received += r.Ledger.ReceivedFrom[i].Rows
					}
					tasks += int64(r.Ledger.Tasks)
					spilled += r.Statistics.Spilled.Bytes
				}
				if len(s.Shuffle.Ranks) != tc.ranks || sent != rows || received != rows || tasks != int64(tc.tasks) {
					t.Errorf("%d ranks, %d rows sent, %d received, %d tasks", len(s.Shuffle.Ranks), sent, received, tasks)
				}
				last := rep.progress[len(rep.progress)-1]
				if spilled != last.SpilledBytes || (spilled > 0) != (tc.limit > 0) {
					t.Errorf("%d bytes spilled, %+v", spilled, last)
				}
				if last.TasksDone != last.Tasks || last.Tasks != int64(tc.tasks+tc.total) || last.SizeDone != last.Size {
					t.Errorf("last progress: %+v", last)
				}
				if _, err := json.Marshal(e.Stats()); err != nil {
					t.Error(err)
				}
			}
			if s := budget.Stats(); s.Used != 0 || tc.limit > 0 && s.Peak > tc.limit {
				t.Errorf("budget: %+v", s)
			}
		})
	}
}

// Several shuffles at once share the ranks.
func TestShuffleConcurrent(t *testing.T) {
	e := newExecutor(t, Config{Ranks: 3, Workers: 3, Alloc: mem.NewChecked(t, mem.Host())})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			st := &sums{name: fmt.Sprint("s", i), total: 5 + i}
			got, err := e.Shuffle(t.Context(), st, shuffleTasks(10+i))
			if err != nil {
				t.Error(err)
				return
			}
			checkSums(t, got, 10+i, 5+i)
		})
	}
	wg.Wait()
	ops := make(map[shuffle.OpID]bool)
	for _, s := range e.Stats().Stages {
		ops[s.Shuffle.Op] = true
	}
	if len(ops) != 4 {
		t.Errorf("operations %v", ops)
	}
}

// Partitions that are committed are neither inserted nor extracted again, and the counts are those of an
// undisturbed run.
func TestShuffleResume(t *testing.T) {
	dir := t.TempDir()
	boom := errors.New("boom")
	run := func(st *sums, ranks, tasks int) ([]Task, StageStats, error) {
		t.Helper()
		w, err := OpenWork(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		e := newExecutor(t, Config{Ranks: ranks, Workers: ranks, Work: w, Alloc: mem.NewChecked(t, mem.Host())})
		st.name, st.total = "sums", 11
		got, err := e.Shuffle(t.Context(), st, shuffleTasks(tasks))
		if n := w.Committed("sums"); (n == 11) != (err == nil) {
			t.Errorf("%d committed, %v", n, err)
		}
		return got, e.Stats().Stages[0], err
	}
	var done atomic.Int32
	first := &sums{extract: func(_ context.Context, part int, _ *Attempt) error {
		if done.Add(1) > 5 {
			return boom
		}
		return nil
	}}
	if _, _, err := run(first, 2, 20); !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	second := new(sums)
	got, s, err := run(second, 3, 20) // on another number of ranks
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, got, 20, 11)
	reused := int32(s.Reused)
	if reused == 0 || reused > 5 || second.extracts.Load() != 11-reused || second.unwanted.Load() != 20*reused || s.Tasks != 11 {
		t.Errorf("%d extracted, %d unwanted, %+v", second.extracts.Load(), second.unwanted.Load(), s)
	}
	var rows int64
	for _, r := range s.Shuffle.Ranks {
		for _, total := range r.Ledger.ReceivedFrom {
			rows += total.Rows
		}
	}
	if rows >= 20*rowsPerTask {
		t.Errorf("%d rows were received", rows)
	}
	full := map[string]int64{"rows": 20 * rowsPerTask, "extracted": 20 * rowsPerTask}
	third := new(sums)
	got, s3, err := run(third, 1, 20)
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, got, 20, 11)
	if s3.Reused != 11 || third.setups.Load() != 0 || third.inserts.Load() != 0 || s3.Tasks != 11 {
		t.Errorf("%+v", s3)
	}
	for name, want := range full {
		if s.Counters[name] != want || s3.Counters[name] != want {
			t.Errorf("counter %s: %d and %d, want %d", name, s.Counters[name], s3.Counters[name], want)
		}
	}
	// With other tasks nothing can be used again.
	fourth := new(sums)
	got, s, err = run(fourth, 2, 21)
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, got, 21, 11)
	if s.Reused != 0 || fourth.extracts.Load() != 11 || len(s.Notes) != 11 {
		t.Errorf("%+v", s)
	}
	// A lost file costs its partition only.
	files, err := filepath.Glob(filepath.Join(dir, "sums", "part-00006@*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	os.Remove(files[0])
	fifth := new(sums)
	got, s, err = run(fifth, 2, 21)
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, got, 21, 11)
	if s.Reused != 10 || fifth.extracts.Load() != 1 {
		t.Errorf("%+v", s)
	}
}

func TestShuffleActorCount(t *testing.T) {
	for _, tc := range []struct{ ranks, workers, asked, want int }{{2, 6, 3, 3}, {3, 6, 1, 3}, {2, 4, 9, 4}} {
		rep := new(lines)
		e := newExecutor(t, Config{Ranks: tc.ranks, Workers: tc.workers, Progress: rep})
		st := &sums{name: "sums", total: 20, workers: tc.asked}
		if _, err := e.Shuffle(t.Context(), st, shuffleTasks(20)); err != nil {
			t.Fatal(err)
		}
		if n := int(st.setups.Load()); n != tc.want || (len(rep.notes) > 0) != (tc.asked != tc.want) {
			t.Errorf("%+v: %d actors, notes %q", tc, n, rep.notes)
		}
	}
}
