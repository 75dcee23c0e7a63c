// Package world is the guest of the simulator: a network and the ranks of a job on it, in one process whose time, chance and
// files are whoever's runs it. See package simulate.
package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/internal/simulate/scene"
)

// Workload is what the ranks of a job do. One value serves all lives of a seed; its methods are called by all ranks.
type Workload interface {
	// Prepare makes the input, in the first life, and works out what the result must be. rng is the same in every life.
	Prepare(rng *rand.Rand) error
	// MaxRanks is how many ranks are bearable.
	MaxRanks() int
	// Run is what one rank does.
	Run(ctx context.Context, w *World, j *executor.Job) error
	// Check says what is wrong after the root's Run has returned nil.
	Check() error
}

// World is one life of a job.
type World struct {
	scene.Args
	load  Workload
	start time.Time
	size  int
	net   *network
	base  int // goroutines before it began

	mu     sync.Mutex
	rng    *rand.Rand // of this life
	ranks  map[int]*rank
	all    sync.WaitGroup
	events map[string]int
	over   bool // the root has ended

	silence time.Duration
	slow    bool // some tasks take as long as a silence, and longer
	stop    bool // at a loss
	secret  []byte
	faulty  string // of the transports
}

// rank is a process of the job: one that is started again is another.
type rank struct {
	number int
	life   int // from 1
	host   *host
	cancel context.CancelCauseFunc
	killed bool
	ended  bool
	err    error
}

var errKilled = errors.New("killed")

// Main plays the life that the arguments of the process describe and prints its report.
func Main(loads map[string]Workload) {
	var args scene.Args
	if err := json.Unmarshal([]byte(os.Args[1]), &args); err != nil || loads[args.Workload] == nil {
		fmt.Fprintln(os.Stderr, "bad arguments:", err)
		os.Exit(2)
	}
	w := &World{
		Args: args, load: loads[args.Workload], start: time.Now(), base: runtime.NumGoroutine(),
		rng: rand.New(rand.NewPCG(args.Seed, uint64(1000+args.Life))), ranks: make(map[int]*rank), events: make(map[string]int),
	}
	report := w.play()
	b, err := json.Marshal(report)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Println(string(b))
}

// Chance calls f with the random numbers of this life.
func (w *World) Chance(f func(rng *rand.Rand)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w.rng)
}

// Logf adds a line to the history.
func (w *World) Logf(format string, args ...any) {
	fmt.Printf("%12v life %d: %s\n", time.Since(w.start), w.Life, fmt.Sprintf(format, args...))
}

// befell counts and logs a fault.
func (w *World) befell(kind, format string, args ...any) {
	w.mu.Lock()
	w.events[kind]++
	w.mu.Unlock()
	w.Logf(format, args...)
}

// hang is how long a life may take, in its own time.
const hang = 20 * time.Minute

func (w *World) play() scene.Report {
	// What all lives have in common.
	common := rand.New(rand.NewPCG(w.Seed, 1))
	w.size = w.ranksOf(common)
	if common.IntN(12) == 0 && w.size <= 4 { // handshakes take long in a guest
		w.secret = []byte("a secret of the simulation, long enough")
	}
	w.silence = []time.Duration{time.Second, 2 * time.Second, 10 * time.Second}[common.IntN(3)]
	w.stop = common.IntN(6) == 0
	w.slow = common.IntN(3) == 0
	if err := w.load.Prepare(common); err != nil {
		return scene.Report{Fault: err.Error()}
	}
	w.net = newNetwork(w.rng)
	if w.Calm {
		w.net.losses, w.net.window = 0, max(w.net.window, 16<<10)
	} else if w.net.losses > 0 {
		w.befell("loss", "one segment of %d is lost at first", w.net.losses)
	}
	if w.rng.IntN(2) == 0 {
		w.faulty = []string{
			"duplicate=5%,reorder=5%", "duplicate=20%", "reorder=20%", "reorder=60%", "delay=10%:20ms", "duplicate=2%,reorder=30%,delay=5%:5ms",
		}[w.rng.IntN(6)]
	}
	if d, ok := w.load.(interface{ Disordered() bool }); ok && d.Disordered() && !strings.Contains(w.faulty, "reorder") {
		w.faulty = "reorder=60%"
	}
	w.Logf("seed %d: %d ranks, silence %v, slow %v, stop at a loss %v, secret %v, transports %q, calm %v",
		w.Seed, w.size, w.silence, w.slow, w.stop, len(w.secret) > 0, w.faulty, w.Calm)
	watch := time.AfterFunc(hang, func() {
		b := make([]byte, 4<<20)
		fmt.Fprintf(os.Stderr, "it hangs; goroutines:\n%s", b[:runtime.Stack(b, true)])
		os.Exit(3)
	})
	for r := range w.size {
		w.begin(r, 1)
	}
	if !w.Calm {
		w.plan()
	}
	w.all.Wait()
	watch.Stop()
	return w.judge()
}

// ranksOf is how many ranks the job has.
func (w *World) ranksOf(rng *rand.Rand) int {
	n := 1 + rng.IntN(6)
	switch rng.IntN(32) {
	case 0:
		n = 7 + rng.IntN(26)
	case 1:
		if rng.IntN(6) == 0 {
			n = 64
		}
	}
	if w.MaxRanks > 0 {
		n = min(n, w.MaxRanks)
	}
	return min(n, w.load.MaxRanks())
}

// begin starts a rank, or starts it again.
func (w *World) begin(number, life int) {
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &rank{number: number, life: life, host: w.net.join(number), cancel: cancel}
	w.mu.Lock()
	w.ranks[number] = r
	w.mu.Unlock()
	w.all.Go(func() {
		r.err = w.live(ctx, r)
		cancel(nil)
		w.mu.Lock()
		r.ended = true
		w.over = w.over || number == 0
		w.mu.Unlock()
		w.Logf("rank %d ends: %v", number, r.err)
	})
}

// rootPort is where rank 0 listens.
const rootPort = "7000"

// live is one rank, from its start to its end.
func (w *World) live(ctx context.Context, r *rank) error {
	j, err := executor.Join(ctx, executor.JobConfig{
		Rank: r.number, Size: w.size, Root: address(0) + ":" + rootPort, Network: r.host,
		Fabric: &fabric{Fabric: executor.TCPFabric(r.host), w: w}, Name: "simulation", Spec: w.Workload, Secret: w.secret,
		Workers: 2, DataHost: address(r.number), Silence: w.silence, JoinTimeout: time.Minute, StopOnLoss: w.stop,
		Note: func(line string) { w.Logf("rank %d: %s", r.number, line) },
	})
	if err != nil {
		return err
	}
	err = w.load.Run(ctx, w, j)
	j.Close(err)
	return err
}

// Events is an event log that goes into the history.
func (w *World) Events(rank int) *slog.Logger {
	return slog.New(&events{w: w, rank: rank})
}

type events struct {
	w     *World
	rank  int
	attrs []slog.Attr
}

func (e *events) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (e *events) WithGroup(string) slog.Handler                { return e }

func (e *events) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &events{w: e.w, rank: e.rank, attrs: append(append([]slog.Attr(nil), e.attrs...), attrs...)}
}

func (e *events) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	for _, a := range e.attrs {
		fmt.Fprintf(&b, " %v", a)
	}
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %v", a)
		return true
	})
	e.w.Logf("rank %d: %s%s", e.rank, r.Message, b.String())
	return nil
}
