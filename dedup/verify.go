package dedup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/dedup/internal/runfolder"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/mem"
)

// VerifyOptions say which result is verified, and how.
type VerifyOptions struct {
	// Dir is the output folder of a run.
	Dir string
	// Inputs are where the input is now; nil means where it was.
	Inputs []string
	// Against are where the reference set is now, if there was one; nil means where it was.
	Against []string
	// Sample is the number of removals whose evidence is replayed, chosen by Seed alone; negative means all. Of Parquet
	// it is also about how many rows have their other columns compared: those of as many files as it takes.
	Sample int64
	Seed   uint64
	Exec   Exec
	// Job makes this process a rank of a job, all of which call Verify with the same options. What is found is returned to all.
	Job *executor.Job
	// FS is where inputs are; nil means the local disk.
	FS corpus.FS
	// Progress is told how it goes; nil means nobody is.
	Progress executor.Reporter
}

// Verification is what [Verify] found.
type Verification struct {
	// Digest is that of the result as it was found, Recorded the one in run.json.
	Digest   string `json:"digest"`
	Recorded string `json:"recorded"`
	// Documents were read again from the input; Kept of them found in their place among the kept.
	Documents int64 `json:"documents"`
	Kept      int64 `json:"kept"`
	Removed   int64 `json:"removed"`
	// References of the Documents are of the reference set.
	References int64 `json:"references,omitempty"`
	// SkippedRecords are lines and rows that were left out when the result was made, and again.
	SkippedRecords int64 `json:"skipped_records,omitempty"`
	// Whole of the written rows were compared with the input in all their columns.
	Whole int64 `json:"whole"`
	// Annotated rows were compared with the tables in what they say became of the document.
	Annotated int64 `json:"annotated,omitempty"`
	// Replayed is the number of removals whose similarity was computed again from the texts, Wrong of
	// which did not come out as recorded.
	Replayed int64 `json:"replayed"`
	Wrong    int64 `json:"wrong"`
	// Unverifiable removals were made without verification (--verify none): there is no evidence to replay.
	Unverifiable int64 `json:"unverifiable"`
	// Bound is the largest share of wrong removals that is likely, given the sample: the one-sided
	// Clopper-Pearson limit at 95 % confidence; 0 if every removal was replayed and right.
	Bound float64 `json:"bound"`
	// Problems are lines for people, at most 100; More is how many were left out.
	Problems []string `json:"problems,omitempty"`
	More     int64    `json:"more,omitempty"`
}

// OK reports whether the result is what its run said it is.
func (v *Verification) OK() bool { return len(v.Problems) == 0 }

const (
	maxProblems = 100
	confidence  = 0.95
)

// Verify reads the input and the result of a run again and checks what the run promised: every document is either
// in its place among the kept, with the text and id that was read, or in removed/ for a document that was kept; the other
// columns are those of the input too, in every line of JSON Lines and in a sample of Parquet files, or all; files that
// are annotated say what the tables say; no two kept documents have the same text; the tables agree with each other;
// ledger, digest, counts, findings and what was skipped come out as run.json has them, but for what only the steps in
// between knew: candidates, pairs, tests and what was rejected. For a sample of the removals, or all, it computes the
// similarity again from the two texts.
//
// What it finds wrong is in [Verification.Problems]. An error means that it could not find out.
func Verify(ctx context.Context, o VerifyOptions) (*Verification, error) {
	res, err := ReadResult(o.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("dedup: %s holds no %s: it is not the output folder of a run that is complete", o.Dir, resultName)
	case err != nil:
		return nil, fmt.Errorf("dedup: %s: %w", filepath.Join(o.Dir, resultName), err)
	case res.Format != resultFormat:
		return nil, fmt.Errorf("dedup: %s was made by another version (%q, this one reads %q)", o.Dir, res.Format, resultFormat)
	}
	if o.Inputs == nil {
		o.Inputs = res.InputPaths
	}
	if o.Against == nil {
		o.Against = res.AgainstPaths
	}
	o.Exec.BandsPerIteration = 1 // of no meaning here
	r, err := prepare(&Options{
		Spec: res.Spec, Exec: o.Exec, Inputs: o.Inputs, Against: o.Against, Output: o.Dir, FS: o.FS, Progress: o.Progress, Job: o.Job,
	})
	if err != nil {
		return nil, err
	}
	if err := r.agree(ctx); err != nil {
		return nil, err
	}
	v := &verifier{run: r, o: &o, res: res, out: &Verification{Recorded: res.Digest}}
	if err := r.resolve(ctx); err != nil {
		return nil, err
	}
	if d := diffPaths(res.Inputs, r.inputFiles()); d != "" {
		return nil, fmt.Errorf("dedup: the input is not the one that %s was made from (%s); name it with --input, and the reference set with --against", o.Dir, d)
	}
	v.unread = make([]bool, len(r.set.Files))
	for i, reason := range res.skippedFiles() {
		if i < 0 || i >= len(r.set.Files) {
			return nil, fmt.Errorf("dedup: %s: file %d of %d was skipped", filepath.Join(o.Dir, resultName), i, len(r.set.Files))
		}
		v.unread[i] = r.set.Files[i].Bad == ""
		r.set.Files[i].Bad = reason
	}
	v.chooseFiles()
	if err := v.findKept(ctx); err != nil {
		return nil, err
	}
	if err := v.strayTables(); err != nil {
		return nil, err
	}
	if err := v.choose(ctx); err != nil {
		return nil, err
	}
	if err := v.compare(ctx); err != nil {
		return nil, err
	}
	return v.out, nil
}

// diffPaths is [runfolder.DiffInputs] by the names of the files alone: the digest decides whether their contents are the same,
// and copying a collection changes the times.
func diffPaths(was, is []InputFile) string {
	bare := func(files []InputFile) []InputFile {
		out := make([]InputFile, len(files))
		for i, f := range files {
			out[i].Path, out[i].Reference = f.Path, f.Reference
		}
		return out
	}
	return runfolder.DiffInputs(bare(was), bare(is))
}

// verifier is one verification.
type verifier struct {
	*run
	o   *VerifyOptions
	res *Result
	out *Verification

	kept   *corpus.Set    // the files of kept/ or annotated/; nil if there are none
	keptAt []int          // index in kept of each input file's, or -1
	added  []corpus.Added // the columns that say what became of documents; nil in kept/
	whole  []bool         // of which input files all columns are compared
	unread []bool         // which input files were skipped for something that only reading them to the end tells

	// The removals to replay and the documents they were removed for; nil means all.
	picked, keptFor map[docID]struct{}
}

func (v *verifier) problem(format string, args ...any) {
	if len(v.out.Problems) == maxProblems {
		v.out.More++
		return
	}
	v.out.Problems = append(v.out.Problems, fmt.Sprintf(format, args...))
}

// chooseFiles picks the files of which all columns are compared: of JSON Lines, where it costs next to nothing, all; of
// Parquet those with the smallest hashes of their paths, until they have as many rows as the sample.
func (v *verifier) chooseFiles() {
	files := v.set.Files
	v.whole = make([]bool, len(files))
	if v.spec.folder() == "" || v.set.Format == corpus.Files { // which are nothing but text
		return
	}
	var order []int
	for i := v.set.References; i < len(files); i++ {
		if files[i].Bad == "" {
			order = append(order, i)
		}
	}
	hash := func(i int) uint64 { return xxh3.HashStringSeed(files[i].Path, v.o.Seed) }
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(hash(a), hash(b)), cmp.Compare(a, b)) })
	rows := int64(0)
	for _, i := range order {
		if v.set.Format == corpus.Parquet && v.o.Sample >= 0 && rows >= v.o.Sample {
			break
		}
		v.whole[i] = true
		rows += files[i].Rows
	}
}

// findKept finds the file of kept/ or annotated/ that belongs to each input file.
func (v *verifier) findKept(ctx context.Context) error {
	folder := v.spec.folder()
	if folder == "" {
		return nil
	}
	if v.spec.Write == WriteAnnotate {
		v.added = annotations(v.set.IDKind)
	}
	dir := filepath.Join(v.Output, folder)
	index := make(map[string]int, len(v.set.Files))
	for i := v.set.References; i < len(v.set.Files); i++ {
		index[v.set.Files[i].Path] = i
	}
	v.keptAt = slices.Repeat([]int{-1}, len(v.set.Files))
	var names []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if _, ok := index[filepath.ToSlash(rel)]; !ok {
			v.problem("%s belongs to no input file", path)
			return nil
		}
		names = append(names, path)
		return nil
	})
	if err != nil || len(names) == 0 {
		return err
	}
	o := v.corpusOptions()
	o.Format, o.KeepField, o.Adds = v.set.Format, "", nil
	if v.kept, err = corpus.Resolve(ctx, flow.Metered(corpus.Local()), names, o); err != nil {
		return err
	}
	for k := range v.kept.Files {
		rel, err := filepath.Rel(dir, v.kept.Files[k].Name)
		if err != nil {
			return err
		}
		v.keptAt[index[filepath.ToSlash(rel)]] = k
	}
	return nil
}

// strayTables finds files among the tables that are none of the run's: whoever reads the folder would count them.
func (v *verifier) strayTables() error {
	for _, kind := range []string{"removed", "clusters"} {
		entries, err := os.ReadDir(filepath.Join(v.Output, kind))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		known := make(map[string]bool)
		for part := range v.res.Parts {
			known[filepath.Base(v.tableName(kind, part))] = true
		}
		for _, e := range entries {
			if !known[e.Name()] {
				v.problem("%s is no table of this run", filepath.Join(v.Output, kind, e.Name()))
			}
		}
	}
	return nil
}

func (v *verifier) tableName(kind string, part int) string {
	return filepath.Join(v.Output, filepath.FromSlash(tablePath(kind, part)))
}

// choose picks the removals to replay: those with the smallest hashes of their ids.
func (v *verifier) choose(ctx context.Context) error {
	if v.o.Sample < 0 || v.o.Sample >= v.res.Steps.Removed {
		v.o.Sample = -1
		return nil
	}
	type pick struct {
		hash     uint64
		id, kept docID
	}
	var picks []pick
	var buf []byte
	keep := func() {
		slices.SortFunc(picks, func(a, b pick) int {
			if a.hash < b.hash {
				return -1
			}
			return 1
		})
		picks = picks[:min(int64(len(picks)), v.o.Sample)]
	}
	for part := range v.res.Parts {
		t, err := openTable(ctx, v.tableName("removed", part), removedFields(v.set.IDKind))
		if err != nil {
			continue // which the full pass finds, too, and reports
		}
		for err = t.next(); err == nil; err = t.next() {
			id := t.id(0, v.set.IDKind)
			buf = id.append(buf[:0])
			picks = append(picks, pick{xxh3.HashSeed(buf, v.o.Seed), id, t.id(1, v.set.IDKind)})
			if int64(len(picks)) >= 2*v.o.Sample+1024 {
				keep()
			}
		}
		if err = errors.Join(t.close()); err != nil {
			return err
		}
	}
	keep()
	v.picked, v.keptFor = make(map[docID]struct{}), make(map[docID]struct{})
	for _, p := range picks {
		v.picked[p.id], v.keptFor[p.kept] = struct{}{}, struct{}{}
	}
	return nil
}

// compare reads everything and compares the sums with what run.json says.
func (v *verifier) compare(ctx context.Context) (err error) {
	v.budget = mem.NewBudget(v.plan.Budget)
	v.ex, err = executor.New(executor.Config{
		Ranks: v.Exec.Ranks, Workers: v.Exec.Workers, Budget: v.budget, Progress: v.Progress, Job: v.Job,
		TaskTimeout: flow.TaskTimeout(v.Exec.TaskTimeout),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.ex.Close()) }()
	var total verifySum
	for i, f := range v.set.Files {
		if f.Bad != "" {
			total.Digest.skippedFile(i, f.Path)
		}
	}
	if len(v.res.Parts) > 0 {
		inputs := make([]verifyInput, len(v.res.Parts))
		for i, p := range v.res.Parts {
			if p.First < 0 || p.Last < p.First || p.Last >= len(v.set.Files) {
				return fmt.Errorf("dedup: %s: part %d has the files %d to %d of %d", filepath.Join(v.Output, resultName), i, p.First, p.Last, len(v.set.Files))
			}
			inputs[i] = verifyInput{Index: i, FileRange: p}
		}
		tasks, err := flow.EncodeTasks("part", inputs)
		if err != nil {
			return err
		}
		for i, p := range v.res.Parts {
			for f := p.First; f <= p.Last; f++ {
				tasks[i].Size += v.set.Files[f].Work
			}
		}
		out, err := v.ex.Shuffle(ctx, verifyStage{v, v.partitions()}, tasks)
		if err != nil {
			return err
		}
		sums, err := flow.DecodeAll[verifySum](out)
		if err != nil {
			return err
		}
		for i := range sums {
			total.add(&sums[i])
		}
	}
	v.sumUp(&total)
	return nil
}

// partitions returns how many hold the kept texts of the sample with their windows, and the hashes of all kept texts.
func (v *verifier) partitions() int {
	s := &v.res.Steps
	clusters := s.Clusters
	if v.picked != nil {
		clusters = int64(len(v.keptFor))
	}
	perText := int64(1)
	if s.Documents > 0 {
		perText += s.TextBytes / s.Documents
	}
	texts := clusters * perText * 10 // a text and eight bytes for each of its windows
	return max(v.parts(1, texts), v.parts(s.Kept, classBytes))
}

// sumUp compares the sums with each other and with run.json.
func (v *verifier) sumUp(t *verifySum) {
	for _, p := range t.Problems {
		v.problem("%s", p)
	}
	v.out.More += t.More
	if !t.Abandoned { // otherwise they may be kept in what was not read to its end
		for _, p := range t.Missing {
			v.problem("%s", p)
		}
	}
	o := v.out
	o.Documents, o.Kept, o.Removed, o.References = t.Docs, t.Kept, t.Removed, t.References
	o.SkippedRecords, o.Whole, o.Annotated = t.Skipped, t.Whole, t.Annotated
	o.Replayed, o.Wrong, o.Unverifiable = t.Replayed, t.Wrong, t.Unverifiable
	o.Digest = t.Digest.String()
	if o.Replayed > 0 && (v.o.Sample >= 0 || o.Wrong > 0) {
		o.Bound = upperBound(o.Wrong, o.Replayed, confidence)
	}
	if len(o.Problems) > 0 {
		return // the sums are off for the reasons given
	}
	if s := &v.res.Steps; t.Docs != s.Documents || t.Kept != s.Kept || t.Removed != s.Removed || v.res.SpecHash != v.res.Spec.Hash() {
		v.problem("run.json does not agree with itself or with what was found: its steps have %d documents, %d kept, %d removed", s.Documents, s.Kept, s.Removed)
	}
	l := &v.res.Ledger
	if t.Docs != l.Read || t.Kept != l.Written || t.Removed != l.Removed || t.References != l.References || !t.Rows.Equal(l.Hash) {
		v.problem("the ledger of run.json is %d documents read, %d written, %d removed; found were %d, %d and %d, or other texts: "+
			"the input is not the one that was read, or the result was changed", l.Read, l.Written, l.Removed, t.Docs, t.Kept, t.Removed)
	}
	if !t.KeptOf.Equal(t.KeptSizes) {
		v.problem("a document was removed for one that is not kept, or a cluster has not the size that clusters/ says")
	}
	if !t.SizeOf.Equal(t.Sizes) {
		v.problem("members of one cluster say different sizes in clusters/")
	}
	if o.Digest != o.Recorded {
		v.problem("the digest of what was found is %s, run.json says %s", o.Digest, o.Recorded)
	}
	if len(o.Problems) == 0 {
		v.compareFindings(t)
	}
}

// mismatch is something wrong with the result or the input, unlike a failure to find out.
type mismatch struct{ error }

func (m mismatch) Unwrap() error { return m.error }

func wrong(format string, args ...any) error { return mismatch{fmt.Errorf(format, args...)} }

// decoding makes a mismatch of an error that comes from the bytes of a file, not from the disk or the context.
func decoding(err error) error {
	var io *fs.PathError
	var f *corpus.FileError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f), !errors.As(err, &io) && !errors.Is(err, context.Canceled) && !errors.Is(err, mem.ErrNoMemory):
		return mismatch{err}
	}
	return err
}

// verifyTable opens a table; a missing or damaged one is a mismatch.
func (v *verifier) table(ctx context.Context, kind string, part int, fields []field) (*tableReader, error) {
	name := v.tableName(kind, part)
	t, err := openTable(ctx, name, fields)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, wrong("%s is missing", name)
	}
	return t, decoding(err)
}

// oneLine is an error as a line without the names of packages.
func oneLine(err error) string {
	line := strings.ReplaceAll(err.Error(), "\n", "; ")
	for _, p := range []string{"dedup: ", "corpus: "} {
		line = strings.ReplaceAll(line, p, "")
	}
	return line
}

// nextRow moves a table on and reports whether there is a row.
func nextRow(t *tableReader) (bool, error) {
	err := t.next()
	if err == io.EOF {
		return false, nil
	}
	return err == nil, decoding(err)
}

// decodeSum reads the sum of a part from its record.
func decodeSum(blob []byte) (s verifySum, err error) { return s, json.Unmarshal(blob, &s) }
