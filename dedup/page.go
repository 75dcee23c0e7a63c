package dedup

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
	"github.com/dovetail-dedup/dovetail/dedup/report"
	"github.com/dovetail-dedup/dovetail/executor"
)

const reportName = "report.html"

// writeReport renders the page into the staging folder. rows are the sources, most removals first.
func (r *run) writeReport(res *Result, rows []report.Source, samples *sampleStore) error {
	d := r.reportData(res, rows)
	var err error
	if d.Clusters, err = samples.clusters(); err != nil {
		return err
	}
	if d.Samples, err = samples.pairs(slices.Concat(r.found.Near, r.found.Exact)); err != nil {
		return err
	}
	var page bytes.Buffer
	if err := report.Render(&page, d); err != nil {
		return fmt.Errorf("the report cannot be made (--report=false goes without): %w", err)
	}
	return runfolder.WriteSynced(filepath.Join(r.staging, reportName), page.Bytes())
}

// RenderReport draws the report of a finished output folder anew, in the form that this version gives it, from the
// data that the page there carries. The page is replaced at once or not at all.
func RenderReport(dir string) error {
	name := filepath.Join(dir, reportName)
	old, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s holds no %s; a run leaves one unless it is told --report=false", dir, reportName)
	}
	if err != nil {
		return err
	}
	d, err := report.Read(old)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var page bytes.Buffer
	if err := report.Render(&page, d); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	temp := name + ".new"
	if err := runfolder.WriteSynced(temp, page.Bytes()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return errors.Join(os.Rename(temp, name), runfolder.SyncFolder(dir))
}

// reportData is what the page shows but the texts.
func (r *run) reportData(res *Result, rows []report.Source) *report.Data {
	s := &res.Steps
	d := &report.Data{
		Version: res.Version, Digest: res.Digest, Started: res.Started, WallSeconds: res.WallSeconds,
		PeakMemory: res.PeakMemory, MemoryLimit: r.Exec.MemoryLimit,
		Verified: r.spec.Verify == VerifyExact, Threshold: r.threshold.Float(), ThresholdText: r.spec.Threshold,
		Bands: r.spec.NumBands, RowsPerBand: r.spec.MinhashesPerBand, Normalized: r.normalizes,
		Counts: report.Counts{
			Files: int64(s.Files), Documents: s.Documents, Empty: s.Empty, Kept: s.Kept,
			Identical: s.RemovedExact, Near: s.Removed - s.RemovedExact,
			Bytes: s.TextBytes, IdenticalBytes: r.found.ExactBytes, NearBytes: s.RemovedTextBytes - r.found.ExactBytes,
			Clusters: s.Clusters, LargestCluster: s.LargestCluster, Candidates: s.Candidates, Pairs: s.Pairs, Tests: s.Tests,
		},
		Options:  r.reportOptions(),
		Findings: res.Findings,
		Warnings: slices.Concat(r.set.Warnings, r.warnings),
	}
	for _, n := range r.rejected {
		d.Counts.Rejected += n
	}
	if len(rows) > report.MaxSources {
		d.ByShare = byShare(rows)
	}
	if res.Findings.Sources.Kind == "folder" && len(r.set.Files) <= report.MaxFiles {
		for i, c := range r.found.Files {
			d.Files = append(d.Files, c.source(r.set.Files[i].Path))
		}
		slices.SortFunc(d.Files, byRemovals)
	}
	for _, st := range res.Stages.Stages {
		out := report.Stage{
			Name: st.Name, Tasks: st.Tasks, Reused: st.Reused, WallSeconds: st.WallSeconds, ComputeSeconds: st.ComputeSeconds,
			ReadSeconds: st.ReadSeconds, WriteSeconds: st.WriteSeconds, WaitSeconds: st.WaitSeconds, FileBytes: st.Bytes, PeakMemory: st.PeakMemory,
		}
		if st.Shuffle != nil {
			var l Ledger
			for _, k := range st.Shuffle.Ranks {
				l.addRank(k)
			}
			out.ShuffledRows, out.ShuffledBytes, out.SpilledBytes = l.ShuffledRows, l.ShuffledBytes, l.SpilledBytes
		}
		d.Stages = append(d.Stages, out)
		d.TaskTimes = append(d.TaskTimes, taskTimes(&st)...)
		for _, n := range st.Notes {
			d.Warnings = append(d.Warnings, st.Name+": "+n)
		}
	}
	l := &res.Ledger
	d.Ledger = []report.Row{
		{Name: "documents", Value: documentsRow(l)},
		{Name: "their hash", Value: fmt.Sprintf("%016x%016x, of all texts when they were read and again when they were written", l.Hash.A, l.Hash.B)},
		{Name: "shuffled", Value: fmt.Sprintf("%s rows, %s; every shuffle closed with a ledger of its own", humanize.Comma(l.ShuffledRows), humanize.IBytes(uint64(l.ShuffledBytes)))},
		{Name: "spilled to disk", Value: humanize.IBytes(uint64(l.SpilledBytes))},
		{Name: "memory counted", Value: fmt.Sprintf("%s at most of %s", humanize.IBytes(uint64(res.Budget.Peak)), bytesOr(res.Budget.Limit, "no limit"))},
		{Name: "written", Value: writtenRow(r.spec, s.OutputBytes)},
		{Name: "tasks", Value: fmt.Sprintf("%s, of which %s were done by an earlier run", humanize.Comma(res.Stages.Tasks), humanize.Comma(res.TasksReused))},
	}
	d.Ledger = append(d.Ledger, res.Devices.rows()...)
	return d
}

// taskTimes are the page's lines about the tasks of a stage.
func taskTimes(st *executor.StageStats) (out []report.TaskTimes) {
	add := func(kind string, t *executor.TaskTimes) {
		if t == nil {
			return
		}
		spread := func(s executor.Spread) report.Spread { return report.Spread{Median: s.Median, P90: s.P90, Max: s.Max} }
		slow := &t.Slowest[0]
		out = append(out, report.TaskTimes{
			Stage: st.Name, Kind: kind, Tasks: t.Tasks, Total: spread(t.Total), Wait: spread(t.Wait), Read: spread(t.Read),
			Compute: spread(t.Compute), Write: spread(t.Write),
			Slowest: report.SlowTask{
				Name: slow.Task, About: slow.About, Rank: slow.Rank, Seconds: slow.Wait + slow.Read + slow.Compute + slow.Write,
			},
		})
	}
	add("inserts", st.InsertTimes)
	if st.Kind == "shuffle" {
		add("partitions", st.TaskTimes)
	} else {
		add("", st.TaskTimes)
	}
	return out
}

// documentsRow is the equation of the ledger.
func documentsRow(l *Ledger) string {
	row := fmt.Sprintf("%s read = %s kept + %s removed", humanize.Comma(l.Read), humanize.Comma(l.Written), humanize.Comma(l.Removed))
	if l.References > 0 {
		row += fmt.Sprintf(" + %s of the reference set", humanize.Comma(l.References))
	}
	return row
}

// writtenRow says what was written beside the tables.
func writtenRow(s *Spec, n int64) string {
	size := humanize.IBytes(uint64(n))
	switch s.Write {
	case WriteKept:
		return size + " to kept/, the input without what was removed (--write kept)"
	case WriteAnnotate:
		return size + " to annotated/, the input with columns that say what became of each document (--write annotate)"
	}
	return "nothing but the tables (--write ids)"
}

func bytesOr(n int64, none string) string {
	if n == 0 {
		return none
	}
	return humanize.IBytes(uint64(n))
}

// byShare lists the sources with the largest shares removed.
func byShare(rows []report.Source) []report.Source {
	rows = slices.DeleteFunc(slices.Clone(rows), func(s report.Source) bool {
		return s.Removed == 0 || s.Documents < report.LeastDocuments
	})
	slices.SortFunc(rows, func(a, b report.Source) int {
		return cmp.Or(cmp.Compare(b.Share(), a.Share()), byRemovals(a, b))
	})
	return rows[:min(len(rows), report.MaxSources)]
}

// reportOptions lists the options in the words of the command line.
func (r *run) reportOptions() []report.Option {
	const shown = 5
	inputs := make([]string, 0, shown)
	for _, in := range r.Inputs[:min(len(r.Inputs), shown)] {
		inputs = append(inputs, report.Name(in))
	}
	value := strings.Join(inputs, ", ")
	if more := len(r.Inputs) - len(inputs); more > 0 {
		value += fmt.Sprintf(" and %d more", more)
	}
	out := []report.Option{{Name: "input", Value: value, Decides: true}}
	add := func(v reflect.Value, decides bool) {
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if name == "" || name == "-" {
				continue
			}
			value := fmt.Sprint(v.Field(i).Interface())
			if strings.HasSuffix(name, "_bytes") || name == "memory_limit" {
				value = bytesOr(v.Field(i).Int(), "–")
			}
			if value == "" {
				value = "–"
			}
			out = append(out, report.Option{Name: strings.ReplaceAll(name, "_", "-"), Value: value, Decides: decides})
		}
	}
	add(reflect.ValueOf(*r.spec), true)
	add(reflect.ValueOf(r.Exec), false)
	return out
}

// clusters are the largest with some of their removals. Of removals with identical texts one is enough.
func (s *sampleStore) clusters() ([]report.Cluster, error) {
	var out []report.Cluster
	for _, c := range s.found.Clusters {
		removed := c.Removed
		if i := slices.IndexFunc(removed, func(m removal) bool { return m.Evidence == evidenceExact }); i >= 0 {
			removed = removed[:i+1]
		}
		pairs, err := s.pairs(removed)
		if err != nil {
			return nil, err
		}
		if len(pairs) > 0 {
			out = append(out, report.Cluster{Size: int64(c.Size), Kept: pairs[0].Kept, Pairs: pairs})
		}
	}
	return out, nil
}

// pairs compares the texts of removals with those of their kept documents. Two texts are held at a time.
func (s *sampleStore) pairs(removed []removal) ([]report.Pair, error) {
	var out []report.Pair
	for _, m := range removed {
		a, err := s.get(m.Doc)
		if err != nil {
			return nil, err
		}
		b, err := s.get(m.Kept)
		if err != nil {
			return nil, err
		}
		p := report.Pair{
			Removed: s.doc(m.Doc, &a), Kept: s.doc(m.Kept, &b), Evidence: string(evidenceNames[m.Evidence]),
			Intersection: int64(m.Inter), Union: int64(m.Union), Diff: report.Compare(a.text, b.text),
		}
		if max(a.size, b.size) > sampleBytes {
			p.Diff.Compared = sampleBytes
		}
		out = append(out, p)
	}
	return out, nil
}

func (s *sampleStore) doc(ord uint64, d *sample) report.Doc {
	file, row := corpus.SplitOrdinal(ord)
	id := s.docID(ord, d.id)
	out := report.Doc{File: report.Name(s.set.Files[file].Path), Row: row, Bytes: d.size, ID: report.Name(id.String())}
	if id.kind == corpus.StringIDs {
		out.ID = report.Name(id.str) // without quotes
	}
	if s.set.Format == corpus.Files {
		out.Row = -1
	}
	return out
}
