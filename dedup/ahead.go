package dedup

import (
	"context"
	"errors"
	"slices"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// ahead compares pairs on a device before the decision rule asks for them, many at a time. Documents that come one after another, of
// many components, are gathered with their texts. All of them whose leaders are decided have the pairs that the rule may ask for
// compared in one go; that decides some, and so on, until few are left. Then the rule itself, by decider.next, goes through the
// documents: what it finds among the counts it does not compute, and nothing else about it is different. Counts that it does
// not ask for, because an earlier pair of the same document was a hit, are the surplus.
type ahead struct {
	d       *decider
	backend lsh.PairBackend
	most    int64 // bytes of texts that may be gathered
	limit   int64 // that are gathered: less once memory was short
	few     int   // fewPairs, but for tests

	docs     []aheadDoc
	leaders  []uint64       // keep key and ordinal of each, of all documents
	segment  int            // the first document of the component in hand
	earlier  []uint32       // kept documents of the component that was begun before, by index of decider.kept, whose texts are needed, too
	rowOf    map[uint32]int // and where they are in it
	texts    int64          // bytes of all of them
	counts   map[pairOf]lsh.Overlap
	stats    aheadStats
	pairs    []nodePair // scratch
	cands    []int      // scratch
	deciding []int      // documents that are not decided
}

// aheadStats counts.
type aheadStats struct {
	compared int64 // pairs on the device
	used     int64 // of these, by the rule
	short    int64 // times that memory was short, and the processor compared
}

// aheadDoc is a document that was gathered.
type aheadDoc struct {
	label   uint64
	ref     flow.Ref
	place   textPlace
	segment int // the first document of its component
	from    int // of leaders
	to      int
	rep     int // what it is removed for, or itself: a node, or undecided
}

// A node is a document that others may be compared with: of those that were gathered number i is node i, and of earlier ones
// number i is node -1-i.
const undecided = int(^uint(0) >> 1)

// pairOf is two documents, by their ordinals.
type pairOf struct{ kept, doc uint64 }

type nodePair struct{ kept, doc int }

const (
	// aheadDocs bounds the documents that are gathered.
	aheadDocs = 64 << 10
	// aheadPairs is how many pairs of one document are compared at a time, at most: those behind a hit are surplus.
	aheadPairs = 8
	// fewPairs are left to the processor: it compares a pair in the time that starting a kernel and waiting for it takes.
	fewPairs = 4
)

// newAhead returns an ahead for a decider. textBytes is how much text may be gathered.
func newAhead(d *decider, backend lsh.PairBackend, textBytes int64) *ahead {
	return &ahead{d: d, backend: backend, most: textBytes, limit: textBytes, few: fewPairs, rowOf: make(map[uint32]int), counts: make(map[pairOf]lsh.Overlap)}
}

// find is what the decider asks. A count serves once.
func (a *ahead) find(kept, doc uint64) (lsh.Overlap, bool) {
	o, ok := a.counts[pairOf{kept, doc}]
	if ok {
		a.stats.used++
	}
	return o, ok
}

// add gathers a document, the next in the order of components and in pi order. It reports false if there is no room for it: then
// those before are to be run, or, if there are none, it is to be decided without.
func (a *ahead) add(label uint64, ref flow.Ref, place textPlace) (ok bool, err error) {
	if len(a.docs) >= aheadDocs || int64(8*len(a.leaders)) > a.most && len(a.docs) > 0 || a.texts+int64(place.n) > a.limit {
		return false, nil
	}
	d := aheadDoc{label: label, ref: ref, place: place, segment: a.segment, from: len(a.leaders), rep: undecided}
	if len(a.docs) > 0 && a.docs[len(a.docs)-1].label != label {
		d.segment = len(a.docs)
	}
	leaders, _, err := a.d.text(place)
	if err != nil {
		return false, err
	}
	if a.d.reference != nil && a.d.reference(ref.Ord) {
		leaders = nil
	}
	a.leaders = append(a.leaders, flow.Uint64sAt(leaders)...)
	d.to = len(a.leaders)
	// Leaders that were decided before stand for kept documents, whose texts are needed.
	texts, known := a.texts+int64(place.n), len(a.earlier)
	for w := a.leaders[d.from:d.to]; len(w) > 0; w = w[2:] {
		l := flow.Ref{Keep: w[0], Ord: w[1]}
		if _, here := a.gathered(&d, l); here || d.segment > 0 {
			continue // of a component that was not begun before
		}
		i, found := a.d.find(l)
		if !found {
			break // and the decider says so
		}
		if k := a.d.reps[i]; !a.isEarlier(k) {
			a.rowOf[k] = len(a.earlier)
			a.earlier = append(a.earlier, k)
			texts += int64(a.d.kept[k].place.n)
		}
	}
	if texts > a.limit && len(a.docs) > 0 {
		for _, k := range a.earlier[known:] {
			delete(a.rowOf, k)
		}
		a.earlier, a.leaders = a.earlier[:known], a.leaders[:d.from]
		return false, nil
	}
	a.texts, a.segment = texts, d.segment
	a.docs = append(a.docs, d)
	return true, nil
}

func (a *ahead) isEarlier(k uint32) bool {
	_, ok := a.rowOf[k]
	return ok
}

// gathered finds a document of a component among those that were gathered.
func (a *ahead) gathered(of *aheadDoc, l flow.Ref) (int, bool) {
	part := a.docs[of.segment:]
	i, ok := slices.BinarySearchFunc(part, l, func(d aheadDoc, l flow.Ref) int {
		switch {
		case d.label == of.label && d.ref.Before(l):
			return -1
		case d.label == of.label && d.ref == l:
			return 0
		}
		return 1
	})
	return of.segment + i, ok
}

// next takes the next document: it is gathered, and decided by a later call, or by this one. decide is called for all in their order.
func (a *ahead) next(ctx context.Context, label uint64, ref flow.Ref, place textPlace, decide decideFunc) error {
	for {
		gathered, err := a.add(label, ref, place)
		if err != nil || gathered {
			return err
		}
		if len(a.docs) == 0 {
			return decide(label, ref, place)
		}
		if err := a.run(ctx, decide); err != nil {
			return err
		}
	}
}

// decideFunc decides the next document in the order of components and in pi order.
type decideFunc func(label uint64, ref flow.Ref, place textPlace) error

// run compares what it can of the documents that were gathered, and then decides them. Where memory is short it does so for half of
// them at a time.
func (a *ahead) run(ctx context.Context, decide decideFunc) error {
	defer a.reset()
	switch err := a.compare(ctx); {
	case errors.Is(err, mem.ErrNoMemory):
		a.stats.short++
		a.limit = max(1, a.texts/2)
		docs := slices.Clone(a.docs)
		a.reset()
		if len(docs) == 1 {
			return decide(docs[0].label, docs[0].ref, docs[0].place)
		}
		for _, d := range docs {
			if err := a.next(ctx, d.label, d.ref, d.place, decide); err != nil {
				return err
			}
		}
		return a.run(ctx, decide)
	case err != nil:
		return err
	}
	for i := range a.docs {
		d := &a.docs[i]
		if err := decide(d.label, d.ref, d.place); err != nil {
			return err
		}
	}
	a.limit = min(a.most, a.limit+a.limit/8+1)
	return nil
}

func (a *ahead) reset() {
	a.docs, a.leaders, a.earlier, a.segment, a.texts = a.docs[:0], a.leaders[:0], a.earlier[:0], 0, 0
	clear(a.rowOf)
	clear(a.counts)
}

// compare brings the texts to the device and compares pairs until few are left.
func (a *ahead) compare(ctx context.Context) error {
	a.deciding = a.deciding[:0]
	for i := range a.docs {
		a.deciding = append(a.deciding, i)
	}
	a.pairs = a.wanted(a.pairs[:0])
	if len(a.pairs) < a.few {
		return nil
	}
	texts, err := a.column()
	if err != nil {
		return err
	}
	defer texts.Release()
	if err := a.backend.Load(ctx, texts); err != nil {
		return err
	}
	// The texts are the backend's until it has others.
	defer func() { _ = a.unload() }()
	for ; len(a.pairs) >= a.few; a.pairs = a.wanted(a.pairs[:0]) {
		if err := a.round(ctx); err != nil {
			return err
		}
	}
	return nil
}

// unload has the backend let go of the texts.
func (a *ahead) unload() error {
	none, err := stringsOf(a.backend.TextAlloc(), 0, 0)
	if err != nil {
		return err
	}
	defer none.Release()
	return a.backend.Load(context.Background(), none)
}

// stringsOf makes a column for n texts of some bytes in all, with the first offset set.
func stringsOf(alloc mem.Allocator, n int, size int64) (*mem.Strings, error) {
	s := &mem.Strings{Rows: n}
	var err error
	if s.Offsets, err = mem.Host().Alloc(8 * (n + 1)); err == nil {
		s.Data, err = alloc.Alloc(int(size))
	}
	if err != nil {
		s.Release()
		return nil, err
	}
	mem.Int64s(s.Offsets)[0] = 0
	return s, nil
}

// column has the texts of all documents that were gathered and, behind them, of the earlier ones.
func (a *ahead) column() (*mem.Strings, error) {
	n := len(a.docs) + len(a.earlier)
	s, err := stringsOf(a.backend.TextAlloc(), n, a.texts)
	if err != nil {
		return nil, err
	}
	at, off, data := int64(0), mem.Int64s(s.Offsets), s.Data.Bytes()
	for i := range n {
		var place textPlace
		if i < len(a.docs) {
			place = a.docs[i].place
		} else {
			place = a.d.kept[a.earlier[i-len(a.docs)]].place
		}
		_, text, err := a.d.text(place)
		if err != nil {
			s.Release()
			return nil, err
		}
		if len(text) != int(place.n) {
			s.Release()
			return nil, errText
		}
		at += int64(copy(data[at:], text))
		off[i+1] = at
	}
	return s, nil
}

var errText = errors.New("dedup: a text has another length than it was stored with; memory or a disk is faulty")

// row is where the text of a node is in the column.
func (a *ahead) row(node int) uint32 {
	if node < 0 {
		node = len(a.docs) - 1 - node
	}
	return uint32(node)
}

// ord is the ordinal of a node.
func (a *ahead) ord(node int) uint64 {
	if node < 0 {
		return a.d.ords[a.d.kept[a.earlier[-1-node]].member]
	}
	return a.docs[node].ref.Ord
}

// round compares pairs.
func (a *ahead) round(ctx context.Context) error {
	n := len(a.pairs)
	in, err := mem.Host().Alloc(8 * n)
	if err != nil {
		return err
	}
	defer in.Release()
	out, err := mem.Host().Alloc(16 * n)
	if err != nil {
		return err
	}
	defer out.Release()
	rows := mem.Uint32s(in)
	for i, p := range a.pairs {
		rows[i], rows[n+i] = a.row(p.kept), a.row(p.doc)
	}
	fence, err := a.backend.Compare(ctx, in, n, out)
	if err == nil {
		err = fence.Wait(ctx)
	}
	if err != nil {
		return err
	}
	counts := mem.Uint64s(out)
	for i, p := range a.pairs {
		a.counts[pairOf{a.ord(p.kept), a.ord(p.doc)}] = lsh.Overlap{Intersection: counts[i], Union: counts[n+i]}
	}
	a.stats.compared += int64(n)
	return nil
}

// wanted decides the documents whose pairs are counted, and appends pairs that the others need next: of all whose leaders are
// decided.
func (a *ahead) wanted(pairs []nodePair) []nodePair {
	left := a.deciding[:0]
	for _, i := range a.deciding {
		d := &a.docs[i]
		reps, ok := a.repsOf(d)
		if !ok {
			left = append(left, i)
			continue
		}
		some, rep := 0, i
		for _, r := range reps {
			if o, known := a.counts[pairOf{a.ord(r), d.ref.Ord}]; known && a.d.threshold.Reached(o) {
				rep = r // if none before it has to be counted first
				break
			} else if !known && some < aheadPairs {
				pairs = append(pairs, nodePair{r, i})
				some++
			}
		}
		if some > 0 {
			left = append(left, i)
		} else {
			d.rep = rep
		}
	}
	a.deciding = left
	return pairs
}

// repsOf returns what a document is tested against, in pi order, or false if that is not decided.
func (a *ahead) repsOf(d *aheadDoc) ([]int, bool) {
	a.cands = a.cands[:0]
	for w := a.leaders[d.from:d.to]; len(w) > 0; w = w[2:] {
		l := flow.Ref{Keep: w[0], Ord: w[1]}
		if i, here := a.gathered(d, l); here {
			rep := a.docs[i].rep
			if rep == undecided {
				return nil, false
			}
			a.cands = append(a.cands, rep)
			continue
		}
		i, found := a.d.find(l)
		if d.segment > 0 || !found {
			return nil, false // and the decider says what is wrong
		}
		a.cands = append(a.cands, -1-a.rowOf[a.d.reps[i]])
	}
	slices.SortFunc(a.cands, a.inPi)
	return slices.Compact(a.cands), true
}

// inPi compares nodes of one component: earlier ones come first, in the order in which they were kept.
func (a *ahead) inPi(x, y int) int {
	if x < 0 && y < 0 {
		return int(a.earlier[-1-x]) - int(a.earlier[-1-y])
	}
	return x - y
}
