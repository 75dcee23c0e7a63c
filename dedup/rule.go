package dedup

import (
	"fmt"
	"slices"

	"github.com/dovetail-dedup/dovetail/lsh"
)

// candidate is a document of a component, with the leaders that the buckets named for it.
type candidate struct {
	ref     ref
	leaders []ref // in pi order, distinct, each before ref
}

// verdict says that document removed is a duplicate of kept.
type verdict struct {
	removed, kept ref
	inter, union  uint64 // distinct windows the two have in common, and in all
}

// decider applies the decision rule to one component at a time. It is used by one goroutine.
//
// The rule: in pi order, test d against the distinct rep(l) of its leaders l, pi-smallest first; the first
// with J >= t becomes rep(d), and d is removed; if there is none, d is kept and rep(d) = d. Nothing but the
// first hit ends the tests of d, because any other shortcut would let the order of arrival decide.
type decider struct {
	windows   *lsh.Windows
	threshold lsh.Threshold
	cacheSize int // bytes of window sets held at one time

	sets  [][]uint64 // window set of candidate i, nil if not held
	order []int      // candidates whose sets are held, oldest first
	held  int
	spare [][]uint64
	reps  []int
	rep   []int

	tests int64 // pairs whose Jaccard similarity was computed
}

// component decides one component. members are all its candidates in pi order; text returns the text of
// member i, valid until the next call; emit is called for every removal, in pi order.
func (d *decider) component(members []candidate, text func(i int) ([]byte, error), emit func(verdict) error) error {
	d.sets = slices.Grow(d.sets[:0], len(members))[:len(members)]
	clear(d.sets)
	d.order, d.held = d.order[:0], 0
	d.rep = d.rep[:0]
	defer d.forget()
	for i, m := range members {
		d.rep = append(d.rep, i)
		d.reps = d.reps[:0]
		for _, l := range m.leaders {
			j, ok := slices.BinarySearchFunc(members[:i], l, func(c candidate, r ref) int { return compareRefs(c.ref, r) })
			if !ok {
				return fmt.Errorf("dedup: leader %d of document %d is not in its component before it", l.ord, m.ref.ord)
			}
			d.reps = append(d.reps, d.rep[j])
		}
		slices.Sort(d.reps) // positions are in pi order
		for _, r := range slices.Compact(d.reps) {
			a, err := d.set(i, text, i)
			if err != nil {
				return err
			}
			b, err := d.set(r, text, i)
			if err != nil {
				return err
			}
			d.tests++
			o, ok := d.threshold.AtLeast(a, b)
			if !ok {
				continue
			}
			d.rep[i] = r
			err = emit(verdict{removed: m.ref, kept: members[r].ref, inter: o.Intersection, union: o.Union})
			if err != nil {
				return err
			}
			d.drop(i) // only kept documents are tested against
			break
		}
	}
	return nil
}

// set returns the window set of candidate i, hashing its text if the set is not held. The sets of i and
// pinned are not evicted to make room.
func (d *decider) set(i int, text func(int) ([]byte, error), pinned int) ([]uint64, error) {
	if d.sets[i] != nil {
		return d.sets[i], nil
	}
	t, err := text(i)
	if err != nil {
		return nil, err
	}
	var buf []uint64
	if n := len(d.spare); n > 0 {
		buf, d.spare = d.spare[n-1], d.spare[:n-1]
	}
	set := d.windows.Distinct(buf[:0], t)
	d.sets[i] = set
	d.order = append(d.order, i)
	d.held += 8 * cap(set)
	for at := 0; d.held > d.cacheSize && at < len(d.order); {
		if j := d.order[at]; j != i && j != pinned {
			d.drop(j)
			continue
		}
		at++
	}
	return set, nil
}

func (d *decider) drop(i int) {
	set := d.sets[i]
	if set == nil {
		return
	}
	d.sets[i] = nil
	d.held -= 8 * cap(set)
	if at := slices.Index(d.order, i); at >= 0 {
		d.order = slices.Delete(d.order, at, at+1)
	}
	// A few small sets are worth keeping for the next document; large ones are not.
	if len(d.spare) < 64 && cap(set) <= 64<<10 {
		d.spare = append(d.spare, set)
	}
}

func (d *decider) forget() {
	for len(d.order) > 0 {
		d.drop(d.order[len(d.order)-1])
	}
}
