package dedup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// The decide stage is the text pass and the decision. Inserting, a task rereads the candidates of one split, in
// order, skipping files and row groups that hold none, and sends each text to the partition of its
// component: the only time that text travels. Extracting, a partition applies the decision rule to its
// components one after another and writes a verdict file: columns doc, kept, inter, union.
type decideStage struct {
	*run
	parts  int
	maxDoc int64 // bytes of the longest candidate
}

// compareBytes is the memory for the texts and window sets of two documents of n bytes.
func compareBytes(n int64) int64 { return 2 * (lsh.MaxDistinctBytes(n) + n) }

// decideRecords: label, keep, ordinal, number of leaders; then the leaders (keep, ord) and the text.
var decideRecords = layout{kind: 't', words: 4, blob: true}

func (s decideStage) Name() string    { return "decide" }
func (s decideStage) TotalParts() int { return s.parts }

func (s decideStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	windows, err := lsh.NewWindows(s.spec.CharNgrams)
	if err != nil {
		return nil, err
	}
	return &decideActor{
		decideStage: s, env: env, norm: lsh.NewNormalizer(s.norm),
		decider: decider{windows: windows, threshold: s.threshold, reference: s.set.IsReference, withKeep: s.refs.withKeep},
	}, nil
}

type decideActor struct {
	decideStage
	env     *executor.Env
	norm    *lsh.Normalizer
	decider decider
	store   textStore
}

func (a *decideActor) Close() error { return nil }

var verdictColumns = []string{"doc", "kept", "inter", "union"}

// candidateReader walks over the candidates of a split that the text pass looks for, in the order of their ordinals.
type candidateReader struct {
	*columnReader
	refs    refColumn // of the block in hand
	labels  []uint64
	hi, lo  []uint64
	leaders [][]byte
	at      int // the next of the block
}

// wantedDoc is a candidate; leaders is valid until the next call of pull.
type wantedDoc struct {
	ref     ref
	label   uint64
	hash    lsh.Hash128
	leaders []byte
}

// pull returns the next candidate; ok is false at the end.
func (c *candidateReader) pull() (w wantedDoc, ok bool, err error) {
	for c.refs.ord == nil || c.at == c.rows {
		if !c.next() {
			return w, false, c.err
		}
		c.refs, c.at = c.columnReader.refs(c.run.refs, "keep", "ord"), 0
		c.labels, c.hi, c.lo, c.leaders = c.u64("label"), c.u64("row_hi"), c.u64("row_lo"), c.blobs("leaders")
		if c.err != nil {
			return w, false, c.err
		}
	}
	i := c.at
	c.at++
	return wantedDoc{c.refs.at(i), c.labels[i], lsh.Hash128{Hi: c.hi[i], Lo: c.lo[i]}, c.leaders[i]}, true, nil
}

func (a *decideActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) (err error) {
	in, err := decodeTask[routeResult](task)
	if err != nil {
		return err
	}
	columns, err := a.openColumns(in.File)
	if err != nil {
		return err
	}
	want := &candidateReader{columnReader: columns}
	defer func() { err = errors.Join(err, want.Close()) }()
	// The reader of texts is ahead by a batch, so it has a list of its own.
	ords, err := a.openOrdinals(in.File, "ord")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ords.Close()) }()
	turn, err := a.readTurn(ctx, out.Meter, &a.signs[in.Split], textCopies)
	if err != nil {
		return err
	}
	defer turn.done()
	reader, err := a.set.Open(a.splits[in.Split], corpus.ReadOptions{
		Alloc: a.env.Alloc, BatchBytes: a.plan.batchBytes, BatchRows: a.plan.batchRows, Columns: corpus.ColumnText, Select: ords.pull,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	w := a.records(out, decideRecords, a.parts)
	var blob []byte
	send := func(ord uint64, text []byte, null bool) error {
		d, ok, err := want.pull()
		if err != nil {
			return err
		}
		if !ok || d.ref.ord != ord || textHash(text, null) != d.hash {
			return a.changed(ord)
		}
		if a.normalizes {
			text = a.norm.Apply(text)
		}
		blob = append(append(blob[:0], d.leaders...), text...)
		return w.addBlob(ctx, partOf(d.label, a.parts), blob, d.label, d.ref.keep, ord, uint64(len(d.leaders)/16))
	}
	for {
		b, err := reader.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		n := b.Text.Data.Len()
		for i, ord := range b.Ord {
			if err = send(ord, b.Text.At(i), b.Text.IsNull(i)); err != nil {
				break
			}
		}
		b.Release()
		if err != nil {
			return err
		}
		out.Progress(int64(n))
	}
	if d, more, err := want.pull(); err != nil || more {
		if err == nil {
			err = a.changed(d.ref.ord)
		}
		return err
	}
	return w.flush(ctx)
}

// textStore holds the leaders and texts of one partition: in memory while they fit the actor's share, and otherwise in
// a scratch file. In memory they are copies: who held the chunks they came in while waiting for memory could not spill
// them, and might wait for itself.
type textStore struct {
	mem  blobBlocks
	file *os.File // nil if they are in memory
	w    *bufio.Writer
	size int64
	buf  []byte
}

// textPlace is where the leaders of a candidate and the text behind them are.
type textPlace struct {
	at      uint64 // of blobBlocks, or the offset in the file
	leaders uint32 // number of them, 16 bytes each
	n       uint32 // bytes of text
	hash    uint64 // of both, in the file
}

func (p textPlace) size() uint64 { return 16*uint64(p.leaders) + uint64(p.n) }

// candidateRows are the rows that are sorted: label, keep, ordinal, and the words of a textPlace.
var candidateRows = rowKind{width: 6, keys: []int{0, 1, 2}}

// candidateBytes is the memory of one of them.
const candidateBytes = 6*8 + keyBytes

func (p textPlace) words() (at, size, hash uint64) {
	return p.at, uint64(p.leaders)<<32 | uint64(p.n), p.hash
}

func placeOf(w []uint64) textPlace {
	return textPlace{at: w[0], leaders: uint32(w[1] >> 32), n: uint32(w[1]), hash: w[2]}
}

// reset empties the store; without a file it keeps its memory.
func (s *textStore) reset(dir string, onDisk bool) (err error) {
	s.close()
	s.size = 0
	if !onDisk {
		return nil
	}
	s.mem = blobBlocks{}
	if s.file, err = scratchFile(dir, "texts-*"); err == nil {
		s.w = bufio.NewWriterSize(s.file, 64<<10)
	}
	return err
}

func (s *textStore) close() {
	s.mem.reset()
	if s.file != nil {
		_ = s.file.Close() // removed already; nothing in it is needed any more
		s.file = nil
	}
	if cap(s.buf) > 1<<20 {
		s.buf = nil
	}
}

// add stores leaders and a text.
func (s *textStore) add(blob []byte, leaders uint64) (p textPlace, err error) {
	p = textPlace{leaders: uint32(leaders), n: uint32(uint64(len(blob)) - 16*leaders)}
	if s.file == nil {
		p.at = s.mem.add(blob)
		return p, nil
	}
	p.at, p.hash = uint64(s.size), xxh3.Hash(blob)
	s.size += int64(len(blob))
	_, err = s.w.Write(blob)
	return p, scratchError(err)
}

// stored ends adding.
func (s *textStore) stored() error {
	if s.file == nil {
		return nil
	}
	return scratchError(s.w.Flush())
}

// get returns leaders and a text, valid until the next call.
func (s *textStore) get(p textPlace) (leaders, text []byte, err error) {
	var b []byte
	if s.file == nil {
		b = s.mem.get(p.at, p.size())
	} else {
		s.buf = slices.Grow(s.buf[:0], int(p.size()))[:p.size()]
		b = s.buf
		if _, err := s.file.ReadAt(b, int64(p.at)); err != nil {
			return nil, nil, scratchError(err)
		}
		if xxh3.Hash(b) != p.hash {
			return nil, nil, errors.New("dedup: scratch file: a text is not what was written; the disk or memory is faulty")
		}
	}
	return b[:16*p.leaders], b[16*p.leaders:], nil
}

// load stores the texts of a partition and lists its candidates in all. It returns the length of the longest text.
func (a *decideActor) load(ctx context.Context, part *shuffle.Partition, all *sorter) (longest int64, err error) {
	err = eachRecord(ctx, part, decideRecords, func(w []uint64, blob []byte) error {
		n := w[3]
		if n > uint64(len(blob)/16) {
			return fmt.Errorf("dedup: document %d claims %d leaders in %d bytes", w[2], n, len(blob))
		}
		p, err := a.store.add(blob, n)
		if err != nil {
			return err
		}
		longest = max(longest, int64(p.n))
		at, size, hash := p.words()
		return all.add([]uint64{w[0], w[1], w[2], at, size, hash}, nil)
	})
	return longest, errors.Join(err, a.store.stored())
}

// fits reports whether a partition can be held in an actor's share: texts, list, and what comparing takes.
func (a *decideActor) fits(part *shuffle.Partition) (cache int64, ok bool) {
	left := a.plan.share - part.Bytes() - part.Rows()*(candidateBytes+a.decider.memberBytes())
	return left, left >= max(a.plan.share/4, compareBytes(a.maxDoc))
}

func (a *decideActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	all := a.sorter(a.env, candidateRows, 4)
	defer all.close()
	cache, inMemory := a.fits(part)
	if inMemory {
		all.limit = a.plan.share // it is known to take less
	} else {
		cache = a.plan.share / 2
	}
	defer a.store.close()
	if err := a.store.reset(a.env.SpillDir, !inMemory); err != nil {
		return nil, err
	}
	longest, err := a.load(ctx, part, all)
	if err != nil {
		return nil, err
	}
	// Beyond a share go two documents that are compared, and the list of a component. A quarter is left for the
	// latter where both are small.
	need, what := int64(0), ""
	if n := compareBytes(longest); n > a.plan.share/2 {
		need, what = n, fmt.Sprintf("comparing a document of %d MiB exactly", longest>>20)
	}
	room := 0 // for the members of a component
	if !inMemory && part.Rows()*a.decider.memberBytes() > a.plan.share/8 {
		largest, err := largestGroup(all)
		if err != nil {
			return nil, err
		}
		room = largest
		if n := int64(largest) * a.decider.memberBytes(); n > a.plan.share/8 {
			need += n
			what = fmt.Sprintf("deciding %d documents that are connected", largest)
		}
	}
	turn := largeTurn{r: a.run}
	defer turn.done()
	if need > 0 {
		if err := turn.take(ctx, out.Meter, need, need, what); err != nil {
			return nil, err
		}
	}
	d := &a.decider
	d.tests, d.cacheSize, d.text = 0, int(cache), a.store.get
	clear(d.rejected[:])
	defer d.free()
	w, err := newRowFile(out, "verdicts", verdictColumns)
	if err != nil {
		return nil, err
	}
	d.emit = func(v verdict) error {
		return w.row(append(w.buf[:0], v.removed.ord, v.kept.ord, v.inter, v.union))
	}
	c, err := all.cursor()
	if err != nil {
		return nil, err
	}
	a.watch("candidates", all.peak)
	label, n := uint64(0), 0
	for ; c.next(); n++ {
		if n == 0 || c.row[0] != label {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			a.watch("component", d.held()-need)
			label = c.row[0]
			d.begin(room)
		}
		if err := d.next(ref{c.row[1], c.row[2]}, placeOf(c.row[3:])); err != nil {
			return nil, err
		}
	}
	if c.err != nil {
		return nil, c.err
	}
	a.watch("component", d.held()-need)
	out.Count("tests", d.tests)
	if err := w.close(); err != nil {
		return nil, err
	}
	out.Count("rows", w.w.Rows())
	res := decideResult{rowResult: rowResult{part.Index(), w.name, w.w.Rows()}}
	if d.rejected != [similarityBins]int64{} {
		res.Rejected = slices.Clone(d.rejected[:])
	}
	return []executor.Task{partTask(part.Index(), res)}, nil
}

// decideResult is a verdict file, and how many pairs were compared and found below the threshold, by similarity.
type decideResult struct {
	rowResult
	Rejected []int64 `json:"rejected,omitempty"`
}

// largestGroup returns the number of rows of the first key that most rows share.
func largestGroup(s *sorter) (largest int, err error) {
	c, err := s.cursor()
	if err != nil {
		return 0, err
	}
	key, n := uint64(0), 0
	for c.next() {
		if c.row[0] != key {
			key, n = c.row[0], 0
		}
		n++
		largest = max(largest, n)
	}
	return largest, c.err
}
