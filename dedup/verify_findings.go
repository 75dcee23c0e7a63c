package dedup

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// What verify counts again beside the documents: the steps, findings and skipped records of run.json.

// count adds a document to what is counted.
func (p *partCheck) count(ord uint64, raw []byte, said *annotation) {
	text := raw
	if p.normalizes {
		text = p.norm.Apply(raw)
	}
	n, s := int64(len(text)), &p.sum.Steps
	s.TextBytes += int64(len(raw))
	s.LongestBytes = max(s.LongestBytes, int64(len(raw)), n)
	if n == 0 {
		s.Empty++
	}
	var m *member
	switch {
	case said.removed:
		m = &member{size: said.size, inter: said.inter, union: said.union, evidence: said.evidence}
		s.RemovedTextBytes += n
		if said.evidence == evidenceExact {
			s.RemovedExact++
		}
	case said.size > 1:
		m = &member{size: said.size}
		s.Clusters++
		s.LargestCluster = max(s.LargestCluster, int64(said.size))
	}
	file, _ := corpus.SplitOrdinal(ord)
	p.found.count(n, file, m)
}

// annotated compares what the columns of the document in hand in annotated/ say with the tables.
func (p *partCheck) annotated(ord uint64, said *annotation) {
	values := make([]corpus.AddedValue, len(p.added))
	for i := range values {
		values[i] = said.value(i)
	}
	p.buf = corpus.AppendAdded(p.buf[:0], p.added, values...)
	p.sum.Annotated++
	k := p.kept.batch
	if got := k.Added.At(p.kept.at); !bytes.Equal(got, p.buf) {
		p.sum.problem(fmt.Sprintf("%s says {%.400s} where removed/ and clusters/ say {%.400s} of %s",
			whereIn(p.verifier.kept, k.Ord[p.kept.at]), got, p.buf, p.where(ord)))
	}
}

// stillBad reads a file that was skipped to its end, or to where it cannot be read.
func (p *partCheck) stillBad(file int) (err error) {
	set := *p.set
	set.Files = slices.Clone(set.Files)
	set.Files[file].Bad = ""
	r, err := set.Open(corpus.Split{First: file, Last: file}, corpus.ReadOptions{
		Alloc: p.env.Alloc, BatchBytes: p.plan.BatchBytes, BatchRows: p.plan.BatchRows, Verify: true,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		b, err := r.Next(p.ctx)
		if err == io.EOF {
			p.sum.problem(fmt.Sprintf("%s was left out (%s), and can be read", set.Files[file].Path, p.set.Files[file].Bad))
			return nil
		}
		if _, bad := corpus.BadFile(err); bad {
			return nil
		}
		if err != nil {
			return err
		}
		b.Release()
	}
}

// addFindings adds what another part or partition counted.
func (s *verifySum) addFindings(o *verifySum) {
	a, b := &s.Steps, &o.Steps
	a.Empty += b.Empty
	a.TextBytes += b.TextBytes
	a.LongestBytes = max(a.LongestBytes, b.LongestBytes)
	a.RemovedExact += b.RemovedExact
	a.RemovedTextBytes += b.RemovedTextBytes
	a.Clusters += b.Clusters
	a.LargestCluster = max(a.LargestCluster, b.LargestCluster)
	s.Found = append(s.Found, o.Found...)
	s.Examples = append(s.Examples, o.Examples...)
	slices.SortFunc(s.Examples, func(a, b badRecord) int { return cmp.Compare(a.Ord, b.Ord) })
	s.Examples = s.Examples[:min(len(s.Examples), badExamples)]
}

// compareFindings compares what was counted again with run.json.
func (v *verifier) compareFindings(t *verifySum) {
	bytesOut := int64(0)
	if v.kept != nil {
		bytesOut = v.kept.Size()
	}
	skippedFiles := 0
	if v.res.Skipped != nil {
		skippedFiles = len(v.res.Skipped.Files)
	}
	said, is := &v.res.Steps, &t.Steps
	for _, c := range []struct {
		name     string
		said, is int64
	}{
		{"files", int64(said.Files), int64(len(v.set.Files))},
		{"skipped_files", int64(said.SkippedFiles), int64(skippedFiles)},
		{"skipped_records", said.SkippedRecords, t.Skipped},
		{"references", said.References, t.References},
		{"empty", said.Empty, is.Empty},
		{"text_bytes", said.TextBytes, is.TextBytes},
		{"longest_bytes", said.LongestBytes, is.LongestBytes},
		{"removed_exact", said.RemovedExact, is.RemovedExact},
		{"removed_text_bytes", said.RemovedTextBytes, is.RemovedTextBytes},
		{"clusters", said.Clusters, is.Clusters},
		{"largest_cluster", said.LargestCluster, is.LargestCluster},
		{"output_bytes", said.OutputBytes, bytesOut},
	} {
		if c.said != c.is {
			v.problem("run.json says that %s is %d; counted again it is %d", c.name, c.said, c.is)
		}
	}
	v.compareSkipped(t)
	v.found = newFound(0, len(v.set.Files))
	for _, f := range t.Found {
		if err := v.found.merge(f); err != nil {
			v.problem("%s", oneLine(err)) // parts that overlap
			return
		}
	}
	found := v.findings(v.sources())
	said2 := v.res.Findings
	for _, c := range []struct {
		name     string
		said, is any
	}{
		{"similarities.removed", said2.Similarities.Removed, found.Similarities.Removed},
		{"cluster_sizes", said2.ClusterSizes, found.ClusterSizes},
		{"sources", said2.Sources, found.Sources},
	} {
		if a, b := asJSON(c.said), asJSON(c.is); a != b {
			v.problem("the findings of run.json have as %s %.200s; counted again %.200s", c.name, differing(a, b), differing(b, a))
		}
	}
}

// compareSkipped compares the files and records that run.json names as left out.
func (v *verifier) compareSkipped(t *verifySum) {
	said := v.res.Skipped
	if said == nil {
		said = &Skipped{}
	}
	for _, f := range said.Files {
		if path := v.set.Files[f.Index].Path; path != f.Path {
			v.problem("run.json says that file %d, %s, was left out; that file is %s", f.Index, f.Path, path)
		}
	}
	is := Skipped{Files: said.Files, Records: t.Skipped}
	for _, b := range t.Examples {
		is.Examples = append(is.Examples, skippedRecord(v.set, b))
	}
	if a, b := asJSON(said), asJSON(is); a != b {
		v.problem("run.json has as skipped %.200s; found again %.200s", differing(a, b), differing(b, a))
	}
}

func asJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error() // structs of numbers and strings always encode
	}
	return string(data)
}

// differing is the part of a from a little before where it differs from b.
func differing(a, b string) string {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	if i -= 60; i <= 0 {
		return a
	}
	return "…" + a[i:]
}
