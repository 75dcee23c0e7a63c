package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	wasys "github.com/tetratelabs/wazero/sys"

	"github.com/dovetail-dedup/dovetail/internal/simulate/scene"
)

// World runs lives of a guest program. Its methods are safe for concurrent use.
type World struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
}

// Load makes a guest ready to run. The caller closes the World. cache is a folder where what was compiled is kept for the
// next time; empty is none.
func Load(ctx context.Context, wasm []byte, cache string) (*World, error) {
	cfg := wazero.NewRuntimeConfig().WithCloseOnContextDone(true)
	if cache != "" {
		c, err := wazero.NewCompilationCacheWithDir(cache)
		if err != nil {
			return nil, fmt.Errorf("simulate: the folder %s for compiled guests: %w", cache, err)
		}
		cfg = cfg.WithCompilationCache(c)
	}
	w := &World{runtime: wazero.NewRuntimeWithConfig(ctx, cfg)}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, w.runtime); err != nil {
		return nil, errors.Join(fmt.Errorf("simulate: %w", err), w.Close(ctx))
	}
	var err error
	if w.module, err = w.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, 2), wasm); err != nil {
		return nil, errors.Join(fmt.Errorf("simulate: the guest: %w", err), w.Close(ctx))
	}
	return w, nil
}

// Close frees the guest.
func (w *World) Close(ctx context.Context) error { return w.runtime.Close(ctx) }

// Outcome says how a seed ended.
type Outcome struct {
	Seed  uint64
	Lives int
	Ranks int
	// History is what happened, a line each, the same for one seed of one program.
	History []string
	// Events counts what befell the job, by kind.
	Events map[string]int
	// Virtual is how much time passed in the simulation.
	Virtual time.Duration
	// Fault says what was wrong; empty if nothing was.
	Fault string
}

// maxLives bounds the lives of a plan; the last one is undisturbed.
const maxLives = 4

// maxReal is how long a life may take, in our time: longer if it computes for ever. In its own time the guest sees to that.
const maxReal = 10 * time.Minute

// Run plays a seed, with at most so many ranks; 0 is no bound.
func (w *World) Run(ctx context.Context, seed uint64, workload string, maxRanks int) (*Outcome, error) {
	rng := rand.New(rand.NewPCG(seed, 0x646f7665))
	o := &Outcome{Seed: seed, Events: make(map[string]int)}
	clock := &clock{wall: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC).UnixNano()}
	d := newDisk(clock.walltime)
	d.spared = []string{scene.Input, scene.Reference}
	for _, name := range []string{"data", "tmp"} {
		d.root.dir[name] = d.folder()
	}
	d.root.dir["data"].dir[path.Base(scene.Output)] = d.folder()
	d.sync()
	lives := 1 + rng.IntN(maxLives)
	var last scene.Report
	again := false
	for o.Lives = 1; ; o.Lives++ {
		l := &life{
			w: w, o: o, clock: clock, disk: d, rng: rand.New(rand.NewPCG(seed, uint64(o.Lives))),
			args: scene.Args{Seed: seed, Life: o.Lives, Calm: o.Lives >= lives, Workload: workload, MaxRanks: maxRanks},
		}
		report, err := l.run(ctx)
		if err != nil {
			return nil, err
		}
		if o.Fault != "" {
			break
		}
		if report != nil {
			last = *report
			o.Ranks = report.Ranks
			for kind, n := range report.Events {
				o.Events[kind] += n
			}
			if last.Done {
				if o.Fault = lasting(d, rng); o.Fault != "" || again || workload != "pipeline" || rng.IntN(4) > 0 {
					break
				}
				// Whoever does not know that it is done runs it once more.
				again, lives = true, o.Lives+1
				continue
			}
		}
		if l.args.Calm {
			o.Fault = fmt.Sprintf("undisturbed, it does not end: %s", last.Error)
			break
		}
	}
	o.Virtual = time.Duration(clock.mono)
	return o, nil
}

// lasting stops the machine after a job that is done and says what is lost of the result.
func lasting(d *disk, rng *rand.Rand) string {
	was := d.under(scene.Output)
	d.crash(rng)
	is := d.under(scene.Output)
	for _, p := range slices.Sorted(maps.Keys(was)) {
		if strings.HasSuffix(p, ".dovetail-lock") {
			continue // no result: a disk that failed kept it from being removed, and it locks nothing
		}
		if now, ok := is[p]; !ok {
			return "the job was done, and is lost when the machine stops: " + p
		} else if now != was[p] {
			return "the job was done, and has other content when the machine stops: " + p
		}
	}
	return ""
}

// life is one life of a job: from its start to its end, or to the crash of all its ranks.
type life struct {
	w      *World
	o      *Outcome
	clock  *clock
	disk   *disk
	rng    *rand.Rand
	args   scene.Args
	ops    int // operations of the disk so far
	struck bool
}

// errCrash ends a life at an operation of the disk.
var errCrash = errors.New("the machine stops")

// run plays the life. It returns no report if it ends in a crash, and puts what is wrong into the outcome.
func (l *life) run(ctx context.Context) (*scene.Report, error) {
	if !l.args.Calm {
		l.plan()
	} else {
		l.disk.before = func(string, string) sys.Errno { return 0 }
	}
	l.clock.rng, l.clock.jumps = l.rng, l.rng.IntN(4) == 0
	args, err := json.Marshal(l.args)
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	ctx, stop := context.WithTimeoutCause(ctx, maxReal, errors.New("it took too long"))
	defer stop()
	cfg := wazero.NewModuleConfig().WithName("").WithArgs("guest", string(args)).
		WithStdout(&stdout).WithStderr(&stderr).
		WithFSConfig(wazero.NewFSConfig().(sysfs.FSConfig).WithSysFSMount(l.disk, "/")).
		WithRandSource(source{l.rng}).
		WithNanotime(l.clock.nanotime, 1).WithWalltime(l.clock.seconds, 1).WithNanosleep(l.clock.sleep)
	m, err := l.w.runtime.InstantiateModule(ctx, l.w.module, cfg)
	if m != nil {
		_ = m.Close(ctx)
	}
	for line := range strings.Lines(stdout.String()) {
		l.o.History = append(l.o.History, strings.TrimSuffix(line, "\n"))
	}
	var exit *wasys.ExitError
	switch {
	case errors.Is(err, errCrash) || err != nil && strings.Contains(err.Error(), errCrash.Error()):
		l.note("crash", "the machine stops at operation %d of the disk", l.ops)
		l.disk.crash(l.rng)
		return nil, nil
	case err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 0):
		l.o.Fault = fmt.Sprintf("life %d: %v\n%s", l.args.Life, err, stderr.String())
		return nil, nil
	}
	var report scene.Report
	if err := json.Unmarshal([]byte(l.o.History[len(l.o.History)-1]), &report); err != nil {
		return nil, fmt.Errorf("simulate: seed %d, life %d: the guest's report: %w", l.o.Seed, l.args.Life, err)
	}
	l.o.Fault = report.Fault
	if report.Quit != "" && len(report.Events) == 0 && !l.struck && l.o.Fault == "" {
		l.o.Fault = fmt.Sprintf("life %d: a rank fails although nothing happened: %s", l.args.Life, report.Quit)
	}
	if report.Done && l.o.Fault == "" {
		l.leftovers()
	}
	return &report, nil
}

// note adds a line to the history.
func (l *life) note(kind, format string, args ...any) {
	l.o.Events[kind]++
	l.struck = true
	l.o.History = append(l.o.History, fmt.Sprintf("%12v life %d: %s", time.Duration(l.clock.mono), l.args.Life, fmt.Sprintf(format, args...)))
}

// leftovers looks for files that a finished job should not leave.
func (l *life) leftovers() {
	for _, p := range l.disk.list() {
		if strings.HasPrefix(p, "/tmp/") || strings.Contains(p, "/spill") {
			l.o.Fault = "a file was left behind: " + p
			return
		}
	}
}

// plan decides what the disk does in this life.
func (l *life) plan() {
	// Most lives have a few thousand operations; few small numbers are as interesting as all large ones.
	moment := func() int { return 1 + int(float64(4000)*l.rng.Float64()*l.rng.Float64()*l.rng.Float64()) }
	crash := 0
	if l.rng.IntN(3) == 0 {
		crash = moment()
	}
	fails, quiet := make(map[int]bool), false
	if l.rng.IntN(3) == 0 {
		for range 1 + l.rng.IntN(2) {
			fails[moment()] = true
		}
	}
	l.disk.before = func(op, path string) sys.Errno {
		path = "/" + path
		quiet = quiet || path == scene.Quiet
		if quiet || !strings.HasPrefix(path, scene.Work+"/") && !strings.HasPrefix(path, scene.Output+"/") {
			return 0
		}
		l.ops++
		if l.ops == crash {
			panic(errCrash)
		}
		if fails[l.ops] {
			l.note("disk error", "%s of %s fails", op, path)
			return sys.EIO
		}
		return 0
	}
}

// clock is time in the simulation: it stands still unless all wait.
type clock struct {
	mono  int64
	wall  int64 // what the wall clock is ahead of mono
	rng   *rand.Rand
	jumps bool
}

func (c *clock) nanotime() int64 {
	c.mono += 50 // or a loop that waits for time to pass would not end
	return c.mono
}

func (c *clock) walltime() int64 { return c.wall + c.mono }

func (c *clock) seconds() (int64, int32) {
	c.mono += 50
	t := c.walltime()
	return t / 1e9, int32(t % 1e9)
}

func (c *clock) sleep(ns int64) {
	c.mono += ns
	if c.jumps && c.rng.IntN(100) == 0 {
		// The wall clock is set; or the machine was held for a while, and longer than its ranks may be silent.
		if c.rng.IntN(2) == 0 {
			c.wall += c.rng.Int64N(int64(48*time.Hour)) - int64(24*time.Hour)
		} else {
			c.mono += c.rng.Int64N(int64(5 * time.Second))
		}
	}
}

// source gives the guest its random numbers.
type source struct{ rng *rand.Rand }

func (s source) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.rng.Uint32())
	}
	return len(b), nil
}

var _ io.Reader = source{}
