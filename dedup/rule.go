package dedup

import (
	"fmt"
	"math"
	"slices"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// verdict says that document removed is a duplicate of kept.
type verdict struct {
	removed, kept flow.Ref
	inter, union  uint64 // distinct windows the two have in common, and in all
}

// decider applies the decision rule to one component at a time. It is used by one goroutine.
//
// The rule: in pi order, test d against the distinct rep(l) of its leaders l, pi-smallest first; the first
// with J >= t becomes rep(d), and d is removed; if there is none, d is kept and rep(d) = d. Nothing but the
// first hit ends the tests of d, because any other shortcut would let the order of arrival decide. Documents of a
// reference set, which come first in pi, are all kept.
//
// Documents pass by one after another, so a component of any size costs the words by which a leader is found and,
// of documents that are kept, where their text is.
type decider struct {
	comparer  *lsh.Comparer
	threshold lsh.Threshold
	reference func(ord uint64) bool // whether a document is of a reference set, and so not tested; nil if there is none
	withKeep  bool                  // keep keys count
	cacheSize int                   // bytes of indexes held at one time
	// text returns the leaders (keep key and ordinal each, in pi order, distinct, each before the document) and the
	// text at a place, valid until the next call.
	text func(textPlace) (leaders, text []byte, err error)
	emit func(verdict) error // called for every removal, in pi order
	// known returns the counts of a kept document and another if they were computed elsewhere; it may be nil.
	known func(kept, doc uint64) (lsh.Overlap, bool)

	// The documents of the component so far, in pi order.
	ords  []uint64
	keeps []uint64 // empty unless withKeep
	reps  []uint32 // indexes of kept
	kept  []keptDoc

	indexes   map[uint32]*lsh.Index // windows of kept documents, by index of kept
	order     []uint32              // those held, oldest first
	indexSize int                   // bytes of all of them
	spare     []*lsh.Index
	unused    int // bytes of spare

	tests    int64                 // pairs whose Jaccard similarity was computed
	rejected [similarityBins]int64 // those of them below the threshold, by similarity

	cands []uint32 // scratch: what the document in hand is tested against
}

// keptDoc is a document that is kept.
type keptDoc struct {
	member uint32
	place  textPlace
}

// memberBytes is the memory of one document of a component, at worst.
func (d *decider) memberBytes() int64 {
	if d.withKeep {
		return 8 + 8 + 4 + 32
	}
	return 8 + 4 + 32
}

// held is the memory of the documents of the component.
func (d *decider) held() int64 {
	return int64(8*cap(d.ords) + 8*cap(d.keeps) + 4*cap(d.reps) + 32*cap(d.kept))
}

// begin starts a component of room documents, if that is known. Otherwise what is held may double as it grows.
func (d *decider) begin(room int) {
	d.forget()
	d.ords, d.reps, d.kept, d.keeps = slices.Grow(d.ords[:0], room), slices.Grow(d.reps[:0], room), slices.Grow(d.kept[:0], room), d.keeps[:0]
	if d.withKeep {
		d.keeps = slices.Grow(d.keeps, room)
	}
}

// free gives back what is only needed for large components.
func (d *decider) free() {
	d.forget()
	d.comparer.Free()
	d.spare, d.unused = nil, 0
	d.ords, d.keeps, d.reps, d.kept = nil, nil, nil, nil
}

func (d *decider) ref(i int) flow.Ref {
	if d.withKeep {
		return flow.Ref{Keep: d.keeps[i], Ord: d.ords[i]}
	}
	return flow.Ref{Keep: 0, Ord: d.ords[i]}
}

// find returns the place of a document among those before the one in hand.
func (d *decider) find(r flow.Ref) (int, bool) {
	if !d.withKeep {
		i, ok := slices.BinarySearch(d.ords, r.Ord)
		return i, ok && r.Keep == 0
	}
	lo, hi := 0, len(d.ords)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); d.ref(mid).Before(r) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(d.ords) && d.ref(lo) == r
}

// next decides the next document in pi order.
func (d *decider) next(doc flow.Ref, place textPlace) error {
	leaders, _, err := d.text(place)
	if err != nil {
		return err
	}
	d.cands = d.cands[:0]
	if d.reference != nil && d.reference(doc.Ord) {
		leaders = nil
	}
	for words := flow.Uint64sAt(leaders); len(words) > 0; words = words[2:] {
		l := flow.Ref{Keep: words[0], Ord: words[1]}
		i, ok := d.find(l)
		if !ok {
			return fmt.Errorf("dedup: leader %d of document %d is not in its component before it", l.Ord, doc.Ord)
		}
		d.cands = append(d.cands, d.reps[i])
	}
	slices.Sort(d.cands) // indexes are in pi order
	for _, k := range slices.Compact(d.cands) {
		o, err := d.overlap(k, doc, place)
		if err != nil {
			return err
		}
		d.tests++
		if !d.threshold.Reached(o) {
			d.rejected[similarityBin(o.Intersection, o.Union)]++
			continue
		}
		d.add(doc, k)
		return d.emit(verdict{removed: doc, kept: d.ref(int(d.kept[k].member)), inter: o.Intersection, union: o.Union})
	}
	if len(d.kept) == math.MaxUint32 {
		return fmt.Errorf("dedup: a component of more than %d documents", math.MaxUint32)
	}
	k := uint32(len(d.kept))
	d.kept = append(d.kept, keptDoc{uint32(len(d.ords)), place})
	d.add(doc, k)
	return nil
}

// overlap compares a document with a kept one.
func (d *decider) overlap(k uint32, doc flow.Ref, place textPlace) (o lsh.Overlap, err error) {
	if d.known != nil {
		if o, ok := d.known(d.ords[d.kept[k].member], doc.Ord); ok {
			return o, nil
		}
	}
	index, err := d.index(k)
	if err != nil {
		return o, err
	}
	_, text, err := d.text(place)
	if err != nil {
		return o, err
	}
	return d.comparer.Overlap(index, text), nil
}

func (d *decider) add(doc flow.Ref, rep uint32) {
	d.ords = append(d.ords, doc.Ord)
	if d.withKeep {
		d.keeps = append(d.keeps, doc.Keep)
	}
	d.reps = append(d.reps, rep)
}

// index returns the windows of a kept document. It is good until the next call.
func (d *decider) index(k uint32) (*lsh.Index, error) {
	if x, ok := d.indexes[k]; ok {
		return x, nil
	}
	_, text, err := d.text(d.kept[k].place)
	if err != nil {
		return nil, err
	}
	if d.indexes == nil {
		d.indexes = make(map[uint32]*lsh.Index)
	}
	d.makeRoom(int(lsh.IndexBytes(int64(len(text)))))
	x := new(lsh.Index)
	if n := len(d.spare); n > 0 {
		x, d.spare = d.spare[n-1], d.spare[:n-1]
		d.unused -= indexBytes(x)
	}
	d.comparer.Index(x, text)
	d.indexSize += indexBytes(x)
	d.indexes[k] = x
	d.order = append(d.order, k)
	return x, nil
}

// indexBytes is the memory of an index, with its place in the map.
func indexBytes(x *lsh.Index) int { return 384 + x.Bytes() }

// makeRoom drops the oldest indexes until there is room for n more bytes.
func (d *decider) makeRoom(n int) {
	for d.indexSize+d.comparer.Bytes()+n > d.cacheSize && len(d.order) > 0 {
		d.drop(d.indexes[d.order[0]])
		delete(d.indexes, d.order[0])
		d.order = d.order[1:]
	}
}

// drop takes back an index.
func (d *decider) drop(x *lsh.Index) {
	n := indexBytes(x)
	d.indexSize -= n
	// A few small ones are worth keeping for the next documents; large ones are not.
	if len(d.spare) < 64 && d.unused+n <= d.cacheSize/8 {
		d.spare = append(d.spare, x)
		d.unused += n
	}
}

// forget drops all indexes.
func (d *decider) forget() {
	for _, k := range d.order {
		d.drop(d.indexes[k])
	}
	clear(d.indexes)
	d.order = d.order[:0]
}
