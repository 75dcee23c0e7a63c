package dedup

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// The decide stage is the text pass and the decision. Inserting, a task rereads the candidates of one split, in
// order, skipping files and row groups that hold none, and sends each text to the partition of its
// component: the only time that text travels. A text that stays in the memory of the only process there is does not travel,
// but is looked up there. Extracting, a partition applies the decision rule to its
// components one after another and writes a verdict file: columns doc, kept, inter, union.
type decideStage struct {
	*run
	parts  int
	maxDoc int64 // bytes of the longest candidate
}

// compareBytes is the memory for comparing two documents of n bytes: one text at a time, the index of one, and what the
// comparer keeps of the other.
func compareBytes(n int64) int64 { return n + 2*lsh.IndexBytes(n) }

// decideRecords: label, keep, ordinal, number of leaders; then the leaders (keep, ord) and the text. If the number has the
// bit textInMemory, the text is not there but its document's ordinal once more, and bits 32 to 62 are its length.
var decideRecords = flow.Layout{Kind: 't', Words: 4, Blob: true}

const textInMemory = 1 << 63

func (s decideStage) Name() string { return "decide" }

// Resources implements executor.ShuffleStage: devices compare, if there are any.
func (s decideStage) Resources() executor.Resources { return s.Exec.deciding() }

func (s decideStage) TotalParts() int { return s.parts }

func (s decideStage) NewShuffleActor(_ context.Context, env *executor.Env) (executor.ShuffleActor, error) {
	comparer, err := lsh.NewComparer(s.spec.CharNgrams)
	if err != nil {
		return nil, err
	}
	a := &decideActor{
		decideStage: s, env: env, norm: lsh.NewNormalizer(s.norm),
		decider: decider{comparer: comparer, threshold: s.threshold, reference: s.set.IsReference, withKeep: s.refs.WithKeep},
	}
	if env.Device != nil && s.Exec.Pairs != nil {
		pairs, err := s.Exec.Pairs(s.spec.CharNgrams, env)
		if err != nil {
			return nil, err
		}
		a.ahead = newAhead(&a.decider, pairs, s.plan.Share/8)
		a.decider.known = a.ahead.find
	}
	return a, nil
}

type decideActor struct {
	decideStage
	env     *executor.Env
	norm    *lsh.Normalizer
	decider decider
	store   textStore
	kept    keptTexts
	ahead   *ahead // nil if the processor compares
}

func (a *decideActor) Close() error {
	if a.ahead == nil {
		return nil
	}
	return a.ahead.backend.Close()
}

var verdictColumns = []string{"doc", "kept", "inter", "union"}

func (a *decideActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) (err error) {
	in, err := flow.DecodeTask[routeResult](task)
	if err != nil {
		return err
	}
	columns, err := flow.OpenColumns(ctx, a.work, in.File)
	if err != nil {
		return err
	}
	want := &candidateReader{ColumnReader: columns, codec: a.refs}
	defer func() { err = errors.Join(err, want.Close()) }()
	// The reader of texts is ahead by a batch, so it has a list of its own.
	ords, err := flow.OpenOrdinals(ctx, a.work, in.File, "ord")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ords.Close()) }()
	turn, err := a.readTurn(ctx, out.Meter, &a.signs[in.Split], textCopies)
	if err != nil {
		return err
	}
	defer turn.Done()
	kept := a.texts.Open(in.Split)
	defer kept.Close()
	shared := kept.Resident() && a.shared()
	w := a.plan.Records(out, decideRecords, a.parts)
	var blob []byte
	err = a.eachText(ctx, a.env.Alloc, in.Split, kept, ords.Pull, func(ord uint64, text []byte, null bool) error {
		d, ok, err := want.pull()
		if err != nil {
			return err
		}
		if !ok || d.ref.Ord != ord || textHash(text, null) != d.hash {
			return a.changed(ord)
		}
		out.Progress(int64(len(text)))
		size := uint64(len(d.leaders) / 16)
		blob = append(blob[:0], d.leaders...)
		switch {
		case shared && len(text) <= math.MaxInt32:
			size |= textInMemory | uint64(len(text))<<32
			blob = binary.LittleEndian.AppendUint64(blob, ord)
		case a.normalizes:
			blob = append(blob, a.norm.Apply(text)...)
		default:
			blob = append(blob, text...)
		}
		return w.AddBlob(ctx, flow.PartOf(d.label, a.parts), blob, d.label, d.ref.Keep, ord, size)
	})
	if err != nil {
		return err
	}
	if d, more, err := want.pull(); err != nil || more {
		if err == nil {
			err = a.changed(d.ref.Ord)
		}
		return err
	}
	return w.Flush(ctx)
}

// textStore holds the leaders and texts of one partition: in memory while they fit the actor's share, and otherwise in
// a scratch file. In memory they are copies: who held the chunks they came in while waiting for memory could not spill
// them, and might wait for itself.
type textStore struct {
	mem  flow.BlobBlocks
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
	shared  bool   // behind the leaders is not the text but the ordinal by which it is found in memory
}

// size is that of what is stored.
func (p textPlace) size() uint64 {
	if p.shared {
		return 16*uint64(p.leaders) + 8
	}
	return 16*uint64(p.leaders) + uint64(p.n)
}

// candidateRows are the rows that are sorted: label, keep, ordinal, and the words of a textPlace.
var candidateRows = flow.RowKind{Width: 6, Keys: []int{0, 1, 2}}

// candidateBytes is the memory of one of them.
const candidateBytes = 6*8 + flow.KeyBytes

func (p textPlace) words() (at, size, hash uint64) {
	size = uint64(p.leaders)<<32 | uint64(p.n)
	if p.shared {
		size |= textInMemory
	}
	return p.at, size, p.hash
}

func placeOf(w []uint64) textPlace {
	return textPlace{at: w[0], leaders: uint32(w[1] &^ textInMemory >> 32), n: uint32(w[1]), hash: w[2], shared: w[1]&textInMemory != 0}
}

// reset empties the store; without a file it keeps its memory.
func (s *textStore) reset(dir string, onDisk bool) (err error) {
	s.close()
	s.size = 0
	if !onDisk {
		return nil
	}
	s.mem = flow.BlobBlocks{}
	if s.file, err = flow.ScratchFile(dir, "texts-*"); err == nil {
		s.w = bufio.NewWriterSize(s.file, 64<<10)
	}
	return err
}

func (s *textStore) close() {
	s.mem.Reset()
	if s.file != nil {
		_ = s.file.Close() // removed already; nothing in it is needed any more
		s.file = nil
	}
	if cap(s.buf) > 1<<20 {
		s.buf = nil
	}
}

// add stores leaders and what is behind them, which the number of leaders says.
func (s *textStore) add(blob []byte, leaders uint64) (p textPlace, err error) {
	if leaders&textInMemory != 0 {
		p = textPlace{leaders: uint32(leaders), n: uint32(leaders &^ textInMemory >> 32), shared: true}
	} else {
		p = textPlace{leaders: uint32(leaders), n: uint32(uint64(len(blob)) - 16*leaders)}
	}
	if s.file == nil {
		p.at = s.mem.Add(blob)
		return p, nil
	}
	p.at, p.hash = uint64(s.size), xxh3.Hash(blob)
	s.size += int64(len(blob))
	_, err = s.w.Write(blob)
	return p, flow.ScratchError(err)
}

// stored ends adding.
func (s *textStore) stored() error {
	if s.file == nil {
		return nil
	}
	return flow.ScratchError(s.w.Flush())
}

// get returns leaders and what is behind them, valid until the next call.
func (s *textStore) get(p textPlace) (leaders, text []byte, err error) {
	var b []byte
	if s.file == nil {
		b = s.mem.Get(p.at, p.size())
	} else {
		s.buf = slices.Grow(s.buf[:0], int(p.size()))[:p.size()]
		b = s.buf
		if _, err := s.file.ReadAt(b, int64(p.at)); err != nil {
			return nil, nil, flow.ScratchError(err)
		}
		if xxh3.Hash(b) != p.hash {
			return nil, nil, errors.New("dedup: scratch file: a text is not what was written; the disk or memory is faulty")
		}
	}
	return b[:16*p.leaders], b[16*p.leaders:], nil
}

// load stores the texts of a partition and lists its candidates in all. It returns the length of the longest text.
func (a *decideActor) load(ctx context.Context, part *shuffle.Partition, all *flow.Sorter) (longest int64, err error) {
	err = flow.EachRecord(ctx, part, decideRecords, func(w []uint64, blob []byte) error {
		shared, n := w[3]&textInMemory != 0, w[3]&math.MaxUint32
		if n > uint64(len(blob)/16) || shared && 16*n+8 != uint64(len(blob)) {
			return fmt.Errorf("dedup: document %d claims %d leaders in %d bytes", w[2], n, len(blob))
		}
		p, err := a.store.add(blob, w[3])
		if err != nil {
			return err
		}
		longest = max(longest, int64(p.n))
		at, size, hash := p.words()
		return all.Add([]uint64{w[0], w[1], w[2], at, size, hash}, nil)
	})
	return longest, errors.Join(err, a.store.stored())
}

// fits reports whether a partition can be held in an actor's share: texts, list, and what comparing takes.
func (a *decideActor) fits(part *shuffle.Partition) (cache int64, ok bool) {
	left := a.plan.Share - part.Bytes() - part.Rows()*(candidateBytes+a.decider.memberBytes())
	return left, left >= max(a.plan.Share/4, compareBytes(a.maxDoc))
}

func (a *decideActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	all := a.plan.Sorter(a.env.SpillDir, candidateRows, 4)
	defer all.Close()
	cache, inMemory := a.fits(part)
	if inMemory {
		all.Limit = a.plan.Share // it is known to take less
	} else {
		cache = a.plan.Share / 2
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
	if n := compareBytes(longest); n > a.plan.Share/2 {
		need, what = n, fmt.Sprintf("comparing a document of %d MiB exactly", longest>>20)
	}
	room := 0 // for the members of a component
	if !inMemory && part.Rows()*a.decider.memberBytes() > a.plan.Share/8 {
		largest, err := largestGroup(all)
		if err != nil {
			return nil, err
		}
		room = largest
		if n := int64(largest) * a.decider.memberBytes(); n > a.plan.Share/8 {
			need += n
			what = fmt.Sprintf("deciding %d documents that are connected", largest)
		}
	}
	turn := flow.Turn{Of: a.large}
	defer turn.Done()
	if need > 0 {
		if err := turn.Take(ctx, out.Meter, need, need, what); err != nil {
			return nil, err
		}
	}
	d := &a.decider
	if a.ahead != nil {
		a.ahead.reset() // of an attempt that failed
		cache -= cache / 4
	}
	d.tests, d.cacheSize = 0, int(cache)
	defer a.kept.close()
	d.text = func(place textPlace) (leaders, text []byte, err error) {
		out.Alive() // a large component takes long
		if leaders, text, err = a.store.get(place); err == nil && place.shared {
			text, err = a.kept.find(a.run, binary.LittleEndian.Uint64(text))
		}
		return leaders, text, err
	}
	clear(d.rejected[:])
	defer d.free()
	w, err := flow.NewRowFile(out, "verdicts", verdictColumns)
	if err != nil {
		return nil, err
	}
	d.emit = func(v verdict) error {
		return w.Row(append(w.Buf[:0], v.removed.Ord, v.kept.Ord, v.inter, v.union))
	}
	c, err := all.Cursor()
	if err != nil {
		return nil, err
	}
	a.watch("candidates", all.Peak)
	label, begun := uint64(0), false
	decide := func(l uint64, doc flow.Ref, place textPlace) error {
		if !begun || l != label {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			a.watch("component", d.held()-need)
			label, begun = l, true
			d.begin(room)
		}
		return d.next(doc, place)
	}
	if err := a.decideAll(ctx, c, decide); err != nil {
		return nil, err
	}
	a.watch("component", d.held()-need)
	out.Count("tests", d.tests)
	if a.ahead != nil {
		s := &a.ahead.stats
		out.Count("tests_on_devices", s.used)
		out.Count("tests_in_vain", s.compared-s.used)
		out.Count("device_memory_short", s.short)
		*s = aheadStats{}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	out.Count("rows", w.Rows())
	res := decideResult{RowResult: flow.RowResult{Part: part.Index(), File: w.Name, Rows: w.Rows()}}
	if d.rejected != [similarityBins]int64{} {
		res.Rejected = slices.Clone(d.rejected[:])
	}
	return []executor.Task{flow.PartTask(part.Index(), res)}, nil
}

// decideAll calls decide for the candidates in their order, if there is a device after it has compared pairs of them.
func (a *decideActor) decideAll(ctx context.Context, c *flow.RowCursor, decide decideFunc) error {
	next := decide
	if a.ahead != nil {
		next = func(label uint64, doc flow.Ref, place textPlace) error {
			return a.ahead.next(ctx, label, doc, place, decide)
		}
	}
	for c.Next() {
		if err := next(c.Row[0], flow.Ref{Keep: c.Row[1], Ord: c.Row[2]}, placeOf(c.Row[3:])); err != nil {
			return err
		}
	}
	if c.Err != nil || a.ahead == nil {
		return c.Err
	}
	return a.ahead.run(ctx, decide)
}

// decideResult is a verdict file, and how many pairs were compared and found below the threshold, by similarity.
type decideResult struct {
	flow.RowResult
	Rejected []int64 `json:"rejected,omitempty"`
}

// largestGroup returns the number of rows of the first key that most rows share.
func largestGroup(s *flow.Sorter) (largest int, err error) {
	c, err := s.Cursor()
	if err != nil {
		return 0, err
	}
	key, n := uint64(0), 0
	for c.Next() {
		if c.Row[0] != key {
			key, n = c.Row[0], 0
		}
		n++
		largest = max(largest, n)
	}
	return largest, c.Err
}
