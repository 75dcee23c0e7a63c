package dedup

import (
	"cmp"
	"math/big"
	"slices"
	"strings"

	"github.com/dovetail-dedup/dovetail/lsh"
)

// Document is what the decision rule sees of a document.
type Document struct {
	Ordinal uint64
	// KeepKey is the first criterion of pi: a smaller one is preferred. It is 0 for all where Keep is "first".
	KeepKey uint64
	// Reference marks a document of a reference set: first in pi whatever its KeepKey, and never removed.
	Reference bool
	// Text is normalized; a null is an empty text.
	Text string
	// Skipped documents are left out: they take part in nothing and have no verdict.
	Skipped bool
}

// Verdict is what the rule makes of a document.
type Verdict struct {
	// Kept is the ordinal of the document it is a duplicate of, or its own.
	Kept uint64
	// Intersection and Union count the distinct windows of the two texts whose similarity decided; they are
	// 0 for a kept document and for one removed because its text is that of Kept.
	Intersection, Union uint64
}

// Reference applies the decision rule of the package documentation to documents in memory, in the plainest way
// there is: sets of strings, fractions, no hashing but the sketch's, nothing shared with the pipeline. It is the
// specification that the pipeline is tested against, and quadratic at worst. The Spec must be valid.
func Reference(docs []Document, s Spec) (map[uint64]Verdict, error) {
	sketch, err := lsh.NewReference(s.Params())
	if err != nil {
		return nil, err
	}
	threshold, ok := new(big.Rat).SetString(s.Threshold)
	if !ok {
		_, err := lsh.ParseThreshold(s.Threshold)
		return nil, err
	}
	order := slices.DeleteFunc(slices.Clone(docs), func(d Document) bool { return d.Skipped })
	slices.SortFunc(order, func(a, b Document) int {
		switch {
		case a.Reference && b.Reference:
			return cmp.Compare(a.Ordinal, b.Ordinal)
		case a.Reference:
			return -1
		case b.Reference:
			return 1
		}
		return cmp.Or(cmp.Compare(a.KeepKey, b.KeepKey), cmp.Compare(a.Ordinal, b.Ordinal))
	})
	verdicts := make(map[uint64]Verdict, len(docs))

	// Classes, and the buckets of their representatives. In pi order the first of a class represents it.
	type bucket struct {
		band int
		key  uint64
	}
	representative := make(map[string]Document)
	class := make(map[uint64]Document)
	buckets := make(map[bucket][]Document)
	for _, d := range order {
		verdicts[d.Ordinal] = Verdict{Kept: d.Ordinal}
		if d.Text == "" && s.Empty == EmptyKeep {
			continue
		}
		rep, seen := representative[d.Text]
		if seen {
			class[d.Ordinal] = rep
			continue
		}
		representative[d.Text] = d
		if d.Text == "" {
			continue // it has no shingles
		}
		for band, key := range sketch.BandKeys(sketch.Sign([]byte(d.Text))) {
			b := bucket{band, key}
			buckets[b] = append(buckets[b], d)
		}
	}

	// Candidates: the leaders of each document over all its buckets.
	leaders := make(map[uint64][]Document)
	for _, members := range buckets {
		for i, d := range members { // in pi order
			leaders[d.Ordinal] = append(leaders[d.Ordinal], members[:min(i, numLeaders)]...)
		}
	}
	if s.Verify == VerifyNone {
		referenceComponents(order, leaders, verdicts)
	} else {
		position := make(map[uint64]int)
		byOrdinal := make(map[uint64]Document)
		for i, d := range order {
			position[d.Ordinal], byOrdinal[d.Ordinal] = i, d
		}
		for _, d := range order {
			if d.Reference {
				continue
			}
			var reps []uint64
			for _, l := range leaders[d.Ordinal] {
				reps = append(reps, verdicts[l.Ordinal].Kept)
			}
			slices.SortFunc(reps, func(a, b uint64) int { return position[a] - position[b] })
			for _, r := range slices.Compact(reps) {
				inter, union := referenceJaccard(d.Text, byOrdinal[r].Text, s.CharNgrams)
				if big.NewRat(inter, union).Cmp(threshold) >= 0 {
					verdicts[d.Ordinal] = Verdict{Kept: r, Intersection: uint64(inter), Union: uint64(union)}
					break
				}
			}
		}
	}
	keepReferences := func() {
		for _, d := range order {
			if d.Reference {
				verdicts[d.Ordinal] = Verdict{Kept: d.Ordinal}
			}
		}
	}
	keepReferences() // of which components take all but the first
	for ord, rep := range class {
		verdicts[ord] = verdicts[rep.Ordinal]
	}
	keepReferences() // of which one may be a copy of another
	return verdicts, nil
}

// referenceComponents keeps the first document in pi order of every connected component.
func referenceComponents(order []Document, leaders map[uint64][]Document, verdicts map[uint64]Verdict) {
	for changed := true; changed; {
		changed = false
		position := make(map[uint64]int)
		for i, d := range order {
			position[d.Ordinal] = i
		}
		for _, d := range order {
			for _, l := range leaders[d.Ordinal] {
				a, b := verdicts[d.Ordinal].Kept, verdicts[l.Ordinal].Kept
				if a == b {
					continue
				}
				if position[b] < position[a] {
					a, b = b, a
				}
				verdicts[d.Ordinal], verdicts[l.Ordinal] = Verdict{Kept: a}, Verdict{Kept: a}
				changed = true
			}
		}
	}
}

// referenceJaccard counts the distinct windows that two texts have in common and in all.
func referenceJaccard(a, b string, width int) (inter, union int64) {
	wa, wb := referenceWindows(a, width), referenceWindows(b, width)
	for w := range wa {
		if wb[w] {
			inter++
		}
	}
	return inter, int64(len(wa)+len(wb)) - inter
}

// referenceWindows returns the set of windows of width code points, or the whole text if it is shorter. Ranging
// over a string takes an invalid byte for a code point of its own.
func referenceWindows(text string, width int) map[string]bool {
	var starts []int
	for i := range text {
		starts = append(starts, i)
	}
	windows := make(map[string]bool)
	if len(starts) <= width {
		windows[text] = true
		return windows
	}
	starts = append(starts, len(text))
	for i := 0; i+width < len(starts); i++ {
		windows[strings.Clone(text[starts[i]:starts[i+width]])] = true
	}
	return windows
}
