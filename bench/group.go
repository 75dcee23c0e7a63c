package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/dovetail-dedup/dovetail/bench/data"
	"github.com/dovetail-dedup/dovetail/dedup"
)

// curatorBytes is what NeMo Curator moves for a document of 1 KB with 20 bands of 13: signatures written and read again once,
// and the band keys as strings of 35 characters with an id.
const curatorBytes = 1048 + 1048 + 20*47

// groupWorkload is finding the buckets of many short documents, as the stages of a run report it.
func groupWorkload(ctx context.Context, e *Env) (*Workload, error) {
	docs := 1_000_000
	if e.Quick {
		docs = 2000
	}
	dir, err := e.temp("group")
	if err != nil {
		return nil, err
	}
	in := filepath.Join(dir, "in.parquet")
	if err := writeShort(in, docs); err != nil {
		return nil, err
	}
	var last *dedup.Result
	run := func(ctx context.Context) (Sample, error) {
		out := filepath.Join(dir, "out")
		if err := os.RemoveAll(out); err != nil {
			return nil, err
		}
		s := dedup.DefaultSpec()
		s.Write = dedup.WriteIDs
		last, err = dedup.Run(ctx, dedup.Options{Spec: s, Exec: dedup.Exec{NoReport: true}, Inputs: []string{in}, Output: out})
		if err != nil {
			return nil, err
		}
		used := grouping(last)
		if used == 0 {
			return nil, unavailable("this system does not tell the processor time of a process")
		}
		records := float64(last.Steps.Documents) * float64(s.NumBands)
		return Sample{Nanos: used * 1e9 / records, Bytes: moved(last) / float64(last.Steps.Documents)}, nil
	}
	return &Workload{
		Name: "group", Data: fmt.Sprintf("%d documents of about 150 bytes, made up, a tenth of them edited copies", docs),
		Sides: []Side{
			{Name: "dedup", About: "dedup without writing, its stages bands-*", Run: run},
			{Name: "curator", About: "NeMo Curator, calculated", Run: func(context.Context) (Sample, error) {
				return Sample{Bytes: curatorBytes}, nil
			}},
		},
		Ratios: []Ratio{
			{What: "group by band key, ns per (document, band), per core", Of: "dedup", Unit: Nanos, Target: Target{AtMost: 20},
				Short: "loops that cannot be left out take 15 ns and more (scattering 3, two sums for the ledger 6, twice through the filter 6), and reading, copying " +
					"to chunks and files of pairs come on top; the prototype's 17 had no ledger, chunks or files. Order of bands, sizes of chunks and " +
					"partitions changed nothing (docs/design/20261127-grouping.md)",
				Note: fmt.Sprintf("%d records; processor time of the process while these stages ran: reading band keys, shuffle with its ledger, "+
					"buckets, files of pairs, garbage collection", docs*20)},
			{What: "bytes moved per document beside its text, of NeMo Curator's", Of: "dedup", By: "curator", Unit: Bytes,
				Target: Target{AtMost: 0.25}, Note: "work files, rows of shuffles and what was spilled, less texts of candidates; Curator's is calculated"},
		},
		Quality: func(context.Context) (string, error) {
			return fmt.Sprintf("%d of %d documents removed, each by exact similarity", last.Steps.Removed, last.Steps.Documents), nil
		},
		Close: func() { _ = os.RemoveAll(dir) }, // or with the scratch folder
	}, nil
}

// grouping is the processor time of the stages that find buckets, in seconds.
func grouping(r *dedup.Result) (used float64) {
	for _, s := range r.Stages.Stages {
		if strings.HasPrefix(s.Name, "bands-") {
			used += s.ProcessorSeconds
		}
	}
	return used
}

// moved is the bytes of work files, of rows that went through shuffles, and of rows that were spilled, without the texts of
// candidates and the tables of the result.
func moved(r *dedup.Result) float64 {
	sum := r.Ledger.ShuffledBytes + r.Ledger.SpilledBytes - r.Steps.CandidateBytes
	for _, s := range r.Stages.Stages {
		if s.Name != "write" && s.Name != "samples" {
			sum += s.Bytes
		}
	}
	return float64(max(sum, 0))
}

// writeShort writes documents of random words, every tenth a copy of an earlier one with a word changed.
func writeShort(path string, n int) error {
	rng := rand.New(rand.NewPCG(3, 3))
	words := make([]string, 50_000)
	for i := range words {
		words[i] = fmt.Sprintf("%x", rng.Uint32()>>(4*rng.IntN(6)))
	}
	docs := make([]data.Doc, n)
	for i := range docs {
		w := make([]string, 20+rng.IntN(8))
		for k := range w {
			w[k] = words[rng.IntN(len(words))]
		}
		if i > 0 && i%10 == 0 {
			w = strings.Fields(docs[rng.IntN(i)].Text)
			w[len(w)-1] = words[rng.IntN(len(words))]
		}
		docs[i] = data.Doc{Text: strings.Join(w, " ")}
	}
	return data.WriteDocs(path, docs)
}
