package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/dovetail-dedup/dovetail/executor"
)

// reporter shows how a run goes: bars on a terminal, lines elsewhere, JSON lines for programs.
type reporter struct {
	w       io.Writer
	machine bool // the output is for a program
	quiet   bool
	metrics *collector   // told of executors, if not nil
	events  *slog.Logger // of executors, or nil

	mu    sync.Mutex
	bars  *mpb.Progress
	stage *stageView // the one that runs
	last  time.Time  // of a line about it
}

// stageView is what is shown of one stage.
type stageView struct {
	bar     *mpb.Bar // on a terminal
	started time.Time

	mu     sync.Mutex    // never held while bars are called, which draw in goroutines of their own
	took   time.Duration // once it has ended
	latest executor.Progress
}

// plainInterval is the time between lines about a stage that goes on.
const plainInterval = 10 * time.Second

func newReporter(mode string, w io.Writer) (*reporter, error) {
	r := &reporter{w: w}
	switch mode {
	case "auto":
		f, ok := w.(*os.File)
		if ok && term.IsTerminal(int(f.Fd())) {
			r.bars = mpb.New(mpb.WithOutput(w), mpb.WithWidth(36), mpb.WithRefreshRate(150*time.Millisecond))
		}
	case "plain":
	case "json":
		r.machine = true
	case "none":
		r.quiet = true
	default:
		return nil, fmt.Errorf("--progress %q: must be auto, plain, json or none", mode)
	}
	return r, nil
}

// event is a JSON line.
type event struct {
	Time     time.Time            `json:"time"`
	Event    string               `json:"event"`
	Info     *executor.StageInfo  `json:"info,omitempty"`
	Progress *executor.Progress   `json:"progress,omitempty"`
	Stats    *executor.StageStats `json:"stats,omitempty"`
	Stage    string               `json:"stage,omitempty"`
	Note     string               `json:"note,omitempty"`
}

func (r *reporter) json(e event) {
	e.Time = time.Now().UTC()
	if data, err := json.Marshal(e); err == nil {
		_, _ = r.w.Write(append(data, '\n')) // progress that cannot be shown must not stop the run
	}
}

// StageStarted implements executor.Reporter.
func (r *reporter) StageStarted(i executor.StageInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := &stageView{started: time.Now()}
	r.stage, r.last = v, v.started
	switch {
	case r.quiet:
	case r.machine:
		r.json(event{Event: "stage_started", Info: &i})
	case r.bars != nil:
		v.bar = r.bars.AddBar(max(i.Tasks, 1),
			mpb.PrependDecorators(decor.Name(i.Stage, decor.WC{W: 14, C: decor.DindentRight}), decor.CountersNoUnit("%d/%d", decor.WC{W: 13})),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return v.detail() })))
	}
}

// detail says what a bar cannot: documents, bytes and speed, time left or taken, spill.
func (v *stageView) detail() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.latest
	since := v.took
	if since == 0 {
		since = time.Since(v.started)
	}
	var parts []string
	if p.Rows > 0 {
		parts = append(parts, humanize.Comma(p.Rows)+" documents")
	}
	if p.Units > 0 && since > 0 {
		parts = append(parts, fmt.Sprintf("%s, %.1f MB/s", humanize.Bytes(uint64(p.Units)), float64(p.Units)/1e6/since.Seconds()))
	}
	if v.took > 0 {
		parts = append(parts, v.took.Round(100*time.Millisecond).String())
	} else if p.TasksDone > p.Reused && p.TasksDone < p.Tasks {
		left := since.Seconds() * float64(p.Tasks-p.TasksDone) / float64(p.TasksDone-p.Reused)
		parts = append(parts, fmt.Sprintf("%v left", time.Duration(left*float64(time.Second)).Round(time.Second)))
	}
	if p.SpilledBytes > 0 {
		parts = append(parts, humanize.Bytes(uint64(p.SpilledBytes))+" spilled")
	}
	if len(parts) == 0 {
		return ""
	}
	return " " + strings.Join(parts, ", ")
}

// StageProgress implements executor.Reporter.
func (r *reporter) StageProgress(p executor.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stage.mu.Lock()
	r.stage.latest = p
	r.stage.mu.Unlock()
	switch {
	case r.quiet:
	case r.machine:
		if time.Since(r.last) >= time.Second {
			r.last = time.Now()
			r.json(event{Event: "stage_progress", Progress: &p})
		}
	case r.stage.bar != nil:
		r.stage.bar.SetCurrent(p.TasksDone)
	case time.Since(r.last) >= plainInterval:
		r.last = time.Now()
		fmt.Fprintf(r.w, "%-14s %d of %d tasks%s\n", p.Stage, p.TasksDone, p.Tasks, r.stage.detail())
	}
}

// StageFinished implements executor.Reporter.
func (r *reporter) StageFinished(s executor.StageStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stage.mu.Lock()
	r.stage.took = time.Duration(s.WallSeconds * float64(time.Second))
	r.stage.mu.Unlock()
	switch bar := r.stage.bar; {
	case r.quiet:
	case r.machine:
		r.json(event{Event: "stage_finished", Stats: &s})
	case bar != nil:
		if s.Error == "" {
			bar.SetTotal(-1, true)
		} else {
			bar.Abort(false)
		}
	case s.Error == "" && s.WallSeconds >= 1:
		fmt.Fprintf(r.w, "%-14s %d tasks%s\n", s.Name, s.Tasks, r.stage.detail())
	}
	r.stage = nil
}

// Note implements executor.Reporter.
func (r *reporter) Note(stage, line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.quiet:
	case r.machine:
		r.json(event{Event: "note", Stage: stage, Note: line})
	case r.bars != nil:
		_, _ = fmt.Fprintln(r.bars, line) // above the bars
	default:
		fmt.Fprintln(r.w, line)
	}
}

// complain gives a line that is worth showing even to those who asked for no progress.
func (r *reporter) complain(line string) {
	if r.quiet {
		fmt.Fprintln(r.w, "dovetail: "+line)
		return
	}
	r.Note("", line)
}

// close leaves the terminal in order.
func (r *reporter) close() {
	r.mu.Lock()
	if r.stage != nil && r.stage.bar != nil {
		r.stage.bar.Abort(false)
	}
	r.mu.Unlock()
	if r.bars != nil {
		r.bars.Wait()
	}
}
