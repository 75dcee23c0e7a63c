package dedup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// The verify stage is one shuffle. Inserting, a task reads some input files beside their files in kept/ and their
// tables, all of which have the same order, and checks them against each other document by document. It sends the
// hashes of kept texts, and the texts whose similarity is computed again, to the partitions that look at them.
type verifyStage struct {
	*verifier
	parts int
}

type verifyInput struct {
	Index int `json:"index"`
	FileRange
}

// verifySum is what parts and partitions add up to.
type verifySum struct {
	Digest                          Digest
	Rows                            shuffle.Hash
	Docs, Kept, Removed, References int64
	Skipped                         int64 // records
	Whole                           int64 // rows of which all columns were compared
	Annotated                       int64
	Replayed, Wrong                 int64
	Unverifiable                    int64
	KeptOf, KeptSizes               shuffle.Hash // of the kept documents of removed ones; of kept ones, times their removals
	SizeOf, Sizes                   shuffle.Hash // the same with the size of the cluster
	Missing                         []string     // removed for documents that were not found among the kept
	Abandoned                       bool         // a part was not read to its end
	Problems                        []string
	More                            int64

	Steps    Steps       // those that can be counted again
	Found    []*found    // of each part
	Examples []badRecord // the first records that were left out
}

func (s *verifySum) add(o *verifySum) {
	s.Digest.merge(o.Digest)
	s.Rows = s.Rows.Add(o.Rows)
	s.Docs += o.Docs
	s.Kept += o.Kept
	s.Removed += o.Removed
	s.References += o.References
	s.Skipped += o.Skipped
	s.Replayed += o.Replayed
	s.Wrong += o.Wrong
	s.Unverifiable += o.Unverifiable
	s.Whole += o.Whole
	s.Annotated += o.Annotated
	s.addFindings(o)
	s.KeptOf, s.KeptSizes = s.KeptOf.Add(o.KeptOf), s.KeptSizes.Add(o.KeptSizes)
	s.SizeOf, s.Sizes = s.SizeOf.Add(o.SizeOf), s.Sizes.Add(o.Sizes)
	s.More += o.More
	for _, p := range o.Problems {
		s.problem(p)
	}
	s.Abandoned = s.Abandoned || o.Abandoned
	s.Missing = append(s.Missing, o.Missing[:min(len(o.Missing), maxProblems-len(s.Missing))]...)
}

func (s *verifySum) problem(line string) {
	if len(s.Problems) == maxProblems {
		s.More++
		return
	}
	s.Problems = append(s.Problems, line)
}

var (
	verifySums  = flow.Layout{Kind: 's', Words: 1, Blob: true} // JSON of a verifySum
	verifyHash  = flow.Layout{Kind: 'k', Words: 3}             // hash of a kept text, ordinal
	verifyTexts = flow.Layout{Kind: 'e', Words: 6, Blob: true} // textRecord
)

// textRecord is a text of the sample.
type textRecord struct {
	group        lsh.Hash128 // of the kept document's id
	evidence     evidence    // 0 for the kept document itself
	inter, union uint64
	name         string // for messages
	text         []byte // normalized
}

func (t *textRecord) words() []uint64 {
	return []uint64{t.group.Hi, t.group.Lo, t.evidence, t.inter, t.union, uint64(len(t.name))}
}

func textRecordOf(w []uint64, blob []byte) (textRecord, error) {
	if w[5] > uint64(len(blob)) {
		return textRecord{}, errors.New("dedup: a record of a text is damaged")
	}
	return textRecord{lsh.Hash128{Hi: w[0], Lo: w[1]}, w[2], w[3], w[4], string(blob[:w[5]]), blob[w[5]:]}, nil
}

func (s verifyStage) Name() string    { return "verify" }
func (s verifyStage) TotalParts() int { return s.parts }

func (s verifyStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	windows, err := lsh.NewWindows(s.spec.CharNgrams)
	if err != nil {
		return nil, err
	}
	return &verifyActor{verifyStage: s, env: env, windows: windows, norm: lsh.NewNormalizer(s.norm)}, nil
}

type verifyActor struct {
	verifyStage
	env     *executor.Env
	windows *lsh.Windows
	norm    *lsh.Normalizer
}

func (a *verifyActor) Close() error { return nil }

func (a *verifyActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) error {
	in, err := flow.DecodeTask[verifyInput](task)
	if err != nil {
		return err
	}
	p := &partCheck{
		verifyActor: a, ctx: ctx, in: in, out: out,
		hashes: a.plan.Records(out, verifyHash, a.parts), texts: a.plan.Records(out, verifyTexts, a.parts),
	}
	var m mismatch
	if err := p.run(); errors.As(err, &m) {
		// What follows it in this part would be found wrong for the same reason.
		p.sum.problem(oneLine(err))
		p.sum.Abandoned = true
	} else if err != nil {
		return err
	}
	blob, err := json.Marshal(&p.sum)
	if err != nil {
		return err
	}
	sums := a.plan.Records(out, verifySums, a.parts)
	if err := sums.AddBlob(ctx, 0, blob, 0); err != nil {
		return err
	}
	return errors.Join(sums.Flush(ctx), p.hashes.Flush(ctx), p.texts.Flush(ctx))
}

// partCheck checks one part.
type partCheck struct {
	*verifyActor
	ctx context.Context
	in  verifyInput
	out *executor.PartWriter
	sum verifySum

	removed, clusters     *tableReader
	isRemoved, isClusters bool      // there is a row in hand
	kept                  docCursor // in kept/ or annotated/
	found                 *found
	hashes, texts         *flow.RecordWriter
	line, buf             []byte
}

// docCursor walks over documents one at a time.
type docCursor struct {
	bad    func([]corpus.Bad) // is shown the records that are left out; may be nil
	reader *corpus.Reader     // nil if there is nothing to read
	batch  *corpus.Batch
	at     int
}

// next moves on and reports whether there is a document.
func (c *docCursor) next(ctx context.Context) (bool, error) {
	if c.reader == nil {
		return false, nil
	}
	if c.batch != nil && c.at+1 < len(c.batch.Ord) {
		c.at++
		return true, nil
	}
	for {
		c.batch.Release()
		c.batch, c.at = nil, 0
		b, err := c.reader.Next(ctx)
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, decoding(err)
		}
		c.batch = b
		if c.bad != nil {
			c.bad(b.Bad)
		}
		if len(b.Ord) > 0 { // there may be nothing but bad records
			return true, nil
		}
	}
}

func (c *docCursor) close() error {
	c.batch.Release()
	if c.reader == nil {
		return nil
	}
	return c.reader.Close()
}

// idAt returns the id of a document of a batch as users see it.
func (r *run) idAt(b *corpus.Batch, i int) docID {
	var id userID
	if b.IDs != nil {
		if b.IDs.Kind.Ints() {
			id.num = uint64(b.IDs.Int[i])
		} else {
			id.str = string(b.IDs.String.At(i))
		}
	}
	return r.docID(b.Ord[i], id)
}

func (p *partCheck) open(set *corpus.Set, first, last int, added []corpus.Added, whole func(int) bool) (docCursor, error) {
	r, err := set.Open(corpus.Split{First: first, Last: last}, corpus.ReadOptions{
		Added: added, Hash: whole, Alloc: p.env.Alloc, BatchBytes: p.plan.BatchBytes, BatchRows: p.plan.BatchRows, Columns: corpus.ColumnText | corpus.ColumnID,
	})
	return docCursor{reader: r}, err
}

func (p *partCheck) run() (err error) {
	if p.removed, err = p.table(p.ctx, "removed", p.in.Index, removedFields(p.set.IDKind)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.removed.close()) }()
	if p.clusters, err = p.table(p.ctx, "clusters", p.in.Index, clustersFields(p.set.IDKind)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.clusters.close()) }()
	p.found = newFound(p.in.First, p.in.Last-p.in.First+1)
	p.sum.Found = []*found{p.found}
	var files []int                 // in kept, ascending
	whole := make(map[int]struct{}) // of them, those of which all columns are compared
	for f := p.in.First; f <= p.in.Last; f++ {
		if p.set.Files[f].Bad != "" && p.unread[f] {
			if err := p.stillBad(f); err != nil {
				return err
			}
		}
		if p.set.Files[f].Reference || p.set.Files[f].Bad != "" || p.spec.folder() == "" {
			continue
		} else if k := p.keptAt[f]; k >= 0 {
			if files = append(files, k); p.whole[f] {
				whole[k] = struct{}{}
			}
		} else if p.set.Format != corpus.Files {
			return wrong("the file of %s in %s/ is missing", p.set.Files[f].Path, p.spec.folder())
		}
	}
	if len(files) > 0 {
		if !slices.IsSorted(files) || files[len(files)-1]-files[0] != len(files)-1 {
			return wrong("the files in %s/ have another order than those of the input", p.spec.folder())
		}
		if p.kept, err = p.open(p.verifier.kept, files[0], files[len(files)-1], p.added, func(k int) bool {
			_, ok := whole[k]
			return ok
		}); err != nil {
			return decoding(err)
		}
		defer func() { err = errors.Join(err, p.kept.close()) }()
	}
	docs, err := p.open(p.set, p.in.First, p.in.Last, nil, func(f int) bool { return p.whole[f] })
	if err != nil {
		return decoding(err)
	}
	defer func() { err = errors.Join(err, docs.close()) }()
	docs.bad = func(bad []corpus.Bad) {
		for _, b := range bad {
			p.sum.Skipped++
			p.sum.Digest.skippedRecord(b.Ord)
			if len(p.sum.Examples) < badExamples {
				p.sum.Examples = append(p.sum.Examples, badRecord{b.Ord, b.Reason})
			}
		}
	}
	for _, move := range []func() error{p.nextRemoved, p.nextCluster} {
		if err := move(); err != nil {
			return err
		}
	}
	for {
		more, err := docs.next(p.ctx)
		if err != nil {
			return err
		}
		if !more {
			return p.atEnd()
		}
		if err := p.document(docs.batch, docs.at); err != nil {
			return err
		}
		if docs.at == 0 {
			p.out.Progress(int64(docs.batch.Text.Data.Len()))
		}
	}
}

func (p *partCheck) nextRemoved() (err error) {
	p.isRemoved, err = nextRow(p.removed)
	return err
}

func (p *partCheck) nextCluster() (err error) {
	p.isClusters, err = nextRow(p.clusters)
	return err
}

// atEnd makes sure that nothing is left over.
func (p *partCheck) atEnd() error {
	switch more, err := p.kept.next(p.ctx); {
	case err != nil:
		return err
	case more:
		return wrong("%s has documents that the input has not, or not there", p.keptName())
	case p.isRemoved:
		return wrong("%s names %s, which is not a document of its files, or not there", p.removed.name, p.show(p.removed.id(0, p.set.IDKind)))
	case p.isClusters:
		return wrong("%s names %s, which is not a document of its files, or not there", p.clusters.name, p.show(p.clusters.id(0, p.set.IDKind)))
	}
	return nil
}

func (p *partCheck) keptName() string {
	file, _ := corpus.SplitOrdinal(p.kept.batch.Ord[p.kept.at])
	return p.verifier.kept.Files[file].Name
}

// show names a document for people.
func (p *partCheck) show(id docID) string {
	if id.kind != corpus.NoIDs {
		return "document " + id.String()
	}
	if file, _ := corpus.SplitOrdinal(id.num); file < len(p.set.Files) {
		return fmt.Sprintf("document %d (%s)", id.num, whereIn(p.set, id.num))
	}
	return fmt.Sprintf("document %d", id.num)
}

// document checks document i of a batch of the input.
func (p *partCheck) document(b *corpus.Batch, i int) error {
	id, raw, ord := p.idAt(b, i), b.Text.At(i), b.Ord[i]
	hash := textHash(raw, b.Text.IsNull(i))
	p.sum.Docs++
	p.sum.Rows = p.sum.Rows.Add(flow.RecordHash([]uint64{ord, hash.Hi, hash.Lo}, nil, false))
	l := line{id: id, keptID: id, text: hash}
	said := annotation{size: 1}
	written := p.spec.folder() != "" && !p.set.IsReference(ord)
	if p.isRemoved && p.removed.id(0, p.set.IDKind) == id {
		r, err := p.removed.removedRow(p.set.IDKind)
		if err != nil {
			return mismatch{err}
		}
		l.verdict, l.keptID, l.inter, l.union = verdictRemoved, r.kept, r.inter, r.union
		if p.spec.Write == WriteAnnotate && written {
			if err := p.inPlace(b, i, id, hash); err != nil {
				return err
			}
		}
		said = annotation{removed: true, kept: r.kept, evidence: r.evidence, inter: r.inter, union: r.union}
		if said.size, err = p.removal(r, raw); err != nil {
			return err
		}
		if err := p.nextRemoved(); err != nil {
			return err
		}
	} else {
		if p.set.IsReference(ord) {
			l.verdict = verdictReference
			p.sum.References++
		} else {
			p.sum.Kept++
		}
		if written {
			if err := p.inPlace(b, i, id, hash); err != nil {
				return err
			}
		}
		var err error
		if said.size, err = p.survivor(id, ord, hash, raw); err != nil {
			return err
		}
	}
	if p.added != nil && written {
		p.annotated(ord, &said)
	}
	p.count(ord, raw, &said)
	p.line = p.sum.Digest.add(l, p.line)
	return nil
}

// removal checks a removed document, whose row is in hand, and returns the size of its cluster.
func (p *partCheck) removal(r removedRow, raw []byte) (size uint64, err error) {
	p.sum.Removed++
	if !p.isClusters || p.clusters.id(0, p.set.IDKind) != r.id || p.clusters.id(1, p.set.IDKind) != r.kept {
		return 0, wrong("%s was removed for %s, and clusters/ does not say so", p.show(r.id), p.show(r.kept))
	}
	size, _ = p.clusters.int(2)
	p.sum.KeptOf = p.sum.KeptOf.Add(p.idHash(r.kept, 0))
	p.sum.SizeOf = p.sum.SizeOf.Add(p.idHash(r.kept, size))
	if err := p.nextCluster(); err != nil {
		return 0, err
	}
	if r.evidence == evidenceJaccard && !p.threshold.Reached(lsh.Overlap{Intersection: r.inter, Union: r.union}) {
		p.sum.problem(fmt.Sprintf("%s was removed at a similarity of %d/%d, which is below the threshold %s", p.show(r.id), r.inter, r.union, p.spec.Threshold))
	}
	if r.evidence == evidenceCandidate {
		p.sum.Unverifiable++
		return size, nil
	}
	if p.picked != nil {
		if _, ok := p.picked[r.id]; !ok {
			return size, nil
		}
	}
	return size, p.send(&textRecord{group: p.group(r.kept), evidence: r.evidence, inter: r.inter, union: r.union, name: p.show(r.id)}, raw)
}

// inPlace checks that a document is the next in kept/, if it was not removed, or in annotated/.
func (p *partCheck) inPlace(b *corpus.Batch, i int, id docID, hash lsh.Hash128) error {
	more, err := p.kept.next(p.ctx)
	if err != nil {
		return err
	}
	file, _ := corpus.SplitOrdinal(b.Ord[i])
	annotated := p.spec.Write == WriteAnnotate
	switch {
	case !more && annotated:
		return wrong("%s is missing in annotated/", p.show(id))
	case !more:
		return wrong("%s is neither removed nor kept", p.show(id))
	}
	k := p.kept.batch
	keptFile, _ := corpus.SplitOrdinal(k.Ord[p.kept.at])
	if p.keptAt[file] != keptFile || textHash(k.Text.At(p.kept.at), k.Text.IsNull(p.kept.at)) != hash ||
		p.set.IDKind != corpus.NoIDs && p.idAt(k, p.kept.at) != id {
		if annotated {
			return wrong("%s should be the next document in %s, which has another text there", p.show(id), p.keptName())
		}
		return wrong("%s is not removed and should be the next document in %s, which has another text there", p.show(id), p.keptName())
	}
	if p.whole[file] {
		if p.sum.Whole++; b.Hash[i] != k.Hash[p.kept.at] {
			p.sum.problem(fmt.Sprintf("%s has the text of %s, but not what its other columns have, or not in columns of these types",
				whereIn(p.verifier.kept, k.Ord[p.kept.at]), p.where(b.Ord[i])))
		}
	}
	return nil
}

// survivor checks the cluster of a document that was not removed, and sends what others are compared with. It returns the
// size of the cluster.
func (p *partCheck) survivor(id docID, ord uint64, hash lsh.Hash128, raw []byte) (size uint64, err error) {
	size = 1
	if p.isClusters && p.clusters.id(0, p.set.IDKind) == id {
		size, _ = p.clusters.int(2)
		if p.clusters.id(1, p.set.IDKind) != id || size < 2 {
			return 0, wrong("%s is kept, and clusters/ says otherwise", p.show(id))
		}
		p.sum.KeptSizes = p.sum.KeptSizes.Add(times(p.idHash(id, 0), size-1))
		p.sum.Sizes = p.sum.Sizes.Add(times(p.idHash(id, size), size-1))
		if err := p.nextCluster(); err != nil {
			return 0, err
		}
		chosen := p.keptFor == nil
		if !chosen {
			_, chosen = p.keptFor[id]
		}
		if chosen {
			if err := p.send(&textRecord{group: p.group(id), name: p.show(id)}, raw); err != nil {
				return 0, err
			}
		}
	}
	text := raw
	if p.normalizes {
		text = p.norm.Apply(raw)
		hash = textHash(text, false)
	}
	if len(text) == 0 {
		if p.spec.Empty == EmptyKeep {
			return size, nil
		}
		hash = lsh.Hash128{}
	}
	return size, p.hashes.Add(p.ctx, flow.PartOf(hash.Hi^hash.Lo, p.parts), hash.Hi, hash.Lo, ord)
}

// idHash hashes an id and a number.
func (p *partCheck) idHash(id docID, n uint64) shuffle.Hash {
	p.buf = id.append(p.buf[:0])
	return flow.RecordHash([]uint64{n}, p.buf, true)
}

// times is the hash of n equal rows.
func times(h shuffle.Hash, n uint64) shuffle.Hash { return shuffle.Hash{A: h.A * n, B: h.B * n} }

func (p *partCheck) group(kept docID) lsh.Hash128 {
	p.buf = kept.append(p.buf[:0])
	h := xxh3.Hash128(p.buf)
	return lsh.Hash128{Hi: h.Hi, Lo: h.Lo}
}

func (p *partCheck) send(t *textRecord, raw []byte) error {
	text := raw
	if p.normalizes {
		text = p.norm.Apply(raw)
	}
	return p.texts.AddBlob(p.ctx, flow.PartOf(t.group.Hi, p.parts), append([]byte(t.name), text...), t.words()...)
}
