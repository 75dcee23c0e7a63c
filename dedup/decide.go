package dedup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
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

// huge reports whether two documents of the stage may be too much for an actor's share. Then every partition moves
// its texts to a scratch file, so that nobody holds chunks while waiting for memory to compare such documents in:
// chunks in hand cannot be spilled, and who holds them would wait for itself.
func (s decideStage) huge() bool { return s.plan.budget > 0 && compareBytes(s.maxDoc) > s.plan.share/2 }

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
		decider: decider{windows: windows, threshold: s.threshold, cacheSize: int(s.plan.share / 2)},
	}, nil
}

type decideActor struct {
	decideStage
	env     *executor.Env
	norm    *lsh.Normalizer
	decider decider
}

func (a *decideActor) Close() error { return nil }

var verdictColumns = []string{"doc", "kept", "inter", "union"}

// wanted is the candidates of a split that the text pass looks for, in the order of their ordinals.
type wanted struct {
	refs    []ref
	labels  []uint64
	hashes  []lsh.Hash128
	leaders [][]byte
}

func (a *decideActor) wanted(file string) (w wanted, err error) {
	f, err := a.openColumns(file)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for f.next() {
		refs := f.refs(a.refs, "keep", "ord")
		labels, hi, lo, leaders := f.u64("label"), f.u64("row_hi"), f.u64("row_lo"), f.blobs("leaders")
		if f.err != nil {
			return w, f.err
		}
		w.labels = append(w.labels, labels...)
		for i := range f.rows {
			w.refs = append(w.refs, refs.at(i))
			w.hashes = append(w.hashes, lsh.Hash128{Hi: hi[i], Lo: lo[i]})
			w.leaders = append(w.leaders, slices.Clone(leaders[i]))
		}
	}
	return w, f.err
}

func (a *decideActor) Insert(ctx context.Context, task executor.Task, out *executor.PartWriter) (err error) {
	in, err := decodeTask[routeResult](task)
	if err != nil {
		return err
	}
	want, err := a.wanted(in.File)
	if err != nil {
		return err
	}
	ords := make([]uint64, len(want.refs))
	for i, r := range want.refs {
		ords[i] = r.ord
	}
	// Its leaders and the text in one piece, the records of its partition, and a chunk: three copies.
	turn, err := a.readTurn(ctx, out.Meter, &a.signs[in.Split], 3)
	if err != nil {
		return err
	}
	defer turn.done()
	reader, err := a.set.Open(a.splits[in.Split], corpus.ReadOptions{
		Alloc: a.env.Alloc, BatchBytes: a.plan.batchBytes, BatchRows: a.plan.batchRows, Columns: corpus.ColumnText, Select: ords,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	w := a.records(out, decideRecords, a.parts)
	var blob []byte
	at := 0
	for {
		b, err := reader.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		for i, ord := range b.Ord {
			if at == len(ords) || ords[at] != ord || textHash(b.Text.At(i), b.Text.IsNull(i)) != want.hashes[at] {
				b.Release()
				return a.changed(ord)
			}
			text := b.Text.At(i)
			if a.normalizes {
				text = a.norm.Apply(text)
			}
			blob = append(append(blob[:0], want.leaders[at]...), text...)
			r := want.refs[at]
			err := w.addBlob(ctx, partOf(want.labels[at], a.parts), blob, want.labels[at], r.keep, r.ord, uint64(len(want.leaders[at])/16))
			if err != nil {
				b.Release()
				return err
			}
			at++
		}
		n := b.Text.Data.Len()
		b.Release()
		out.Progress(int64(n))
	}
	if at != len(ords) {
		return a.changed(ords[at])
	}
	return w.flush(ctx)
}

// textStore holds the texts of one partition: in the chunks they came in while they fit the actor's share of
// memory, and in a scratch file when a component is too large for that.
type textStore struct {
	chunks []*mem.Buffer
	file   *os.File
	size   int64
	buf    []byte
}

// textPlace is where a text is: in memory, or at an offset of the scratch file.
type textPlace struct {
	mem  []byte
	off  int64
	n    int
	hash uint64 // of texts in the file
}

// candidates of a partition, sorted by component and pi.
type located struct {
	label uint64
	candidate
	text textPlace
}

func (s *textStore) close() {
	for _, c := range s.chunks {
		c.Release()
	}
	s.chunks = nil
	if s.file != nil {
		_ = s.file.Close() // removed already; nothing in it is needed any more
	}
}

func (s *textStore) get(p textPlace) ([]byte, error) {
	if s.file == nil {
		return p.mem, nil
	}
	s.buf = slices.Grow(s.buf[:0], p.n)[:p.n]
	if _, err := s.file.ReadAt(s.buf, p.off); err != nil {
		return nil, fmt.Errorf("dedup: scratch file of texts: %w", err)
	}
	if xxh3.Hash(s.buf) != p.hash {
		return nil, errors.New("dedup: scratch file of texts: a text is not what was written; the disk or memory is faulty")
	}
	return s.buf, nil
}

// load reads the texts of a partition and lists its candidates, sorted by component and pi.
func (a *decideActor) load(ctx context.Context, part *shuffle.Partition) (_ *textStore, _ []located, err error) {
	s := &textStore{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if part.Bytes() > a.plan.share || a.huge() {
		if s.file, err = os.CreateTemp(a.env.SpillDir, "texts-*"); err != nil {
			return nil, nil, err
		}
		// Removed at once: it lives as long as it is open, whatever happens to this process.
		if err = os.Remove(s.file.Name()); err != nil {
			return nil, nil, err
		}
	}
	all := make([]located, 0, part.Rows())
	for c, err := range part.Chunks(ctx) {
		if err != nil {
			return nil, nil, err
		}
		recs, err := openRecords(c, decideRecords)
		if err != nil {
			return nil, nil, err
		}
		if s.file == nil {
			s.chunks = append(s.chunks, c.Data.Retain())
		}
		for i := range recs.rows() {
			w, blob := recs.at(i), recs.bytes(i)
			n := w[3]
			if n > uint64(len(blob)/16) {
				return nil, nil, fmt.Errorf("dedup: document %d claims %d leaders in %d bytes", w[2], n, len(blob))
			}
			l := located{label: w[0], candidate: candidate{ref: ref{w[1], w[2]}}}
			for k := range n {
				b := blob[16*k:]
				l.leaders = append(l.leaders, ref{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])})
			}
			text := blob[16*n:]
			if s.file == nil {
				l.text = textPlace{mem: text, n: len(text)}
			} else {
				if _, err := s.file.Write(text); err != nil {
					return nil, nil, fmt.Errorf("dedup: scratch file of texts: %w", err)
				}
				l.text = textPlace{off: s.size, n: len(text), hash: xxh3.Hash(text)}
				s.size += int64(len(text))
			}
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(x, y located) int {
		if x.label != y.label {
			if x.label < y.label {
				return -1
			}
			return 1
		}
		return compareRefs(x.ref, y.ref)
	})
	return s, all, nil
}

func (a *decideActor) Extract(ctx context.Context, part *shuffle.Partition, out *executor.Attempt) ([]executor.Task, error) {
	store, all, err := a.load(ctx, part)
	if err != nil {
		return nil, err
	}
	defer store.close()
	w, err := newRowFile(out, "verdicts", verdictColumns)
	if err != nil {
		return nil, err
	}
	// The windows of two documents at a time, with their texts, beyond what the cache may hold.
	longest := 0
	for _, l := range all {
		longest = max(longest, l.text.n)
	}
	turn := largeTurn{r: a.run}
	defer turn.done()
	if need := compareBytes(int64(longest)); a.huge() && need > a.plan.share/2 {
		if err := turn.take(ctx, out.Meter, need, fmt.Sprintf("comparing a document of %d MiB exactly", longest>>20)); err != nil {
			return nil, err
		}
	}
	a.decider.tests = 0
	var members []candidate
	for start := 0; start < len(all); {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		end := start + 1
		for end < len(all) && all[end].label == all[start].label {
			end++
		}
		job := all[start:end]
		members = members[:0]
		for _, l := range job {
			members = append(members, l.candidate)
		}
		err := a.decider.component(members,
			func(i int) ([]byte, error) { return store.get(job[i].text) },
			func(v verdict) error {
				return w.row(append(w.buf[:0], v.removed.ord, v.kept.ord, v.inter, v.union))
			})
		if err != nil {
			return nil, err
		}
		start = end
	}
	out.Count("tests", a.decider.tests)
	return w.finish(out, part)
}
