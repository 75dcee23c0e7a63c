package lsh

import (
	"fmt"
	"math"
	"math/bits"
)

// Comparer counts the distinct windows that texts have in common, exactly: windows are the same if their code points are,
// and no hash decides. Of two texts one is made an [Index], which serves for comparisons with others too.
//
// Windows that follow each other are looked up together. A window's anchor is the gram of 12 code points in it that is
// least by a hash, the first of those that are. On average 7 windows of the default width follow each other with one
// anchor. How far the texts around two places of a gram agree says which windows they share (minimizers: Schleimer,
// Wilkerson and Aiken, 2003; windows by anchor: the super-k-mers of Li et al., 2013). Where the last of such windows is
// known, the text behind it is compared with the text behind the place where it is known, up to the first difference,
// as fast as memory is compared: texts that are alike are mostly compared so.
//
// A gram in many different surroundings would make that slow. There are at most crowd anchors in a slot; other windows
// go to a table of single ones. The hashes have keys that are drawn when the process starts, so that nobody can
// write a text of which they take long; no count depends on them.
//
// A Comparer serves one goroutine. A text has less than 2^32 code points.
type Comparer struct {
	width  int    // code points in a window
	gram   int    // in a gram, 0 for windows too narrow for any
	starts int    // places where a gram starts in a window
	beyond int    // code points behind the last of these grams
	lower  uint32 // the windows that hold half before the gram
	half   int    // bits that are left of 8 bytes without half of the code points of a window that are not in its gram
	near   bool   // windows reach no further from their grams than same64 looks
	loops  *loops

	text Index    // what is compared with an index
	hits []uint64 // the windows of the index that it has, by where they start

	words, least, turns []uint32 // of a block of windows
	stretches           []stretch
}

const (
	// longGram and shortGram are code points in a gram. Of shorter ones there are more with the same.
	longGram, shortGram = 12, 8
	// mostStarts bounds the places of a gram in a window, so that a set of them fits 32 bits, and one fits 5.
	mostStarts = 31
	// Windows are looked at in blocks: small ones where they are likely to be followed by many that are found without.
	leastBlock, mostBlock = 64, 1024
	// nearFront is how far before a gram same64 is used from.
	nearFront = 16
	// followBlock is how many are followed at a time.
	followBlock = 2048
)

// NewComparer returns a Comparer for windows of charNgrams code points.
func NewComparer(charNgrams int) (*Comparer, error) {
	if charNgrams < 1 || charNgrams > MaxCharNgrams {
		return nil, fmt.Errorf("lsh: %w: char_ngrams %d: must be from 1 to %d", ErrParams, charNgrams, MaxCharNgrams)
	}
	l, err := currentLoops()
	if err != nil {
		return nil, err
	}
	return newComparer(charNgrams, l), nil
}

func newComparer(width int, l *loops) *Comparer {
	c := &Comparer{width: width, loops: l}
	switch {
	case width >= longGram+shortGram:
		c.gram = longGram
	case width >= longGram:
		c.gram = shortGram
	default:
		return c
	}
	c.starts = min(width-c.gram+1, mostStarts)
	c.beyond = width - c.gram - (c.starts - 1)
	half := min((width-c.gram)/2, longGram/2)
	c.lower = 1<<(c.starts-half) - 1
	c.near = l.same64 != nil && c.starts-1 <= nearFront && width <= 64-nearFront && c.beyond == 0
	c.half = 64 - 8*half
	grams := mostBlock + c.starts - 1
	c.words, c.least, c.turns = make([]uint32, grams+8), make([]uint32, grams), make([]uint32, mostBlock)
	c.stretches = make([]stretch, mostBlock)
	return c
}

// Index makes x the distinct windows of text, which it copies.
func (c *Comparer) Index(x *Index, text []byte) {
	c.load(x, text, true)
	c.add(x, nil)
}

// Overlap compares the windows of an index, made by a Comparer of the same width, with those of a text. It leaves the index
// as it is.
func (c *Comparer) Overlap(x *Index, text []byte) Overlap {
	t := &c.text
	c.load(t, text, false)
	if x.n < c.width || t.n < c.width {
		// A text that is shorter than a window is one, and unlike all longer ones.
		if x.n == t.n && x.n > 0 && x.same(front, t, front, x.n) {
			return Overlap{1, 1}
		}
		c.add(t, nil)
		return Overlap{0, uint64(x.count + t.count)}
	}
	zeros(&c.hits, len(x.firsts))
	c.add(t, x)
	x.fold(c.hits)
	common := 0
	for _, w := range c.hits {
		common += bits.OnesCount64(w)
	}
	return Overlap{uint64(common), uint64(x.count + t.count)}
}

// Bytes is the memory that is kept for the next comparison, without what a Comparer takes in any case.
func (c *Comparer) Bytes() int { return c.text.Bytes() + 8*cap(c.hits) }

// Free gives it back.
func (c *Comparer) Free() { c.text, c.hits = Index{}, nil }

// add adds the windows of t that are not there yet to it. If base is not nil, those that it has are hits, and are not added.
func (c *Comparer) add(t, base *Index) {
	switch {
	case t.n < c.width:
		t.count = min(t.n, 1)
		return
	case c.gram == 0:
		c.addSingles(t, base)
	default:
		c.addStretches(t, base)
	}
}

// addSingles looks up windows one by one.
func (c *Comparer) addSingles(t, base *Index) {
	for s, end := front, front+t.n-c.width+1; s < end; s++ {
		var from run
		h := t.windowHash(s, c.width)
		if at, ok := base.findSingle(t, s, c.width, h); ok {
			setBit(c.hits, at)
			t.count--
			from = run{base, at}
		} else if at, ok := t.findSingle(t, s, c.width, h); ok {
			from = run{t, at}
			t.repeat(s, 1, at)
		} else {
			t.addSingle(s, c.width, h)
			continue
		}
		s += c.follow(t, s+1, from, from.in == base)
	}
}

// run is where a window starts, the last of those that were looked up.
type run struct {
	in *Index // nil for none
	at int
}

// stretch is windows that follow each other and have one anchor.
type stretch struct {
	first, last int // where they start
	p           int // where the gram does
	hash        uint32
	around      uint32
}

// addStretches looks up the windows that share an anchor together, in blocks. Those whose slot is free are new; they are
// added without a branch, of which a processor would guess many wrong. The others are looked at in their order.
func (c *Comparer) addStretches(t, base *Index) {
	block := leastBlock
	baseHeads := noHeads[:]
	if base != nil {
		baseHeads = base.heads
	}
	for s, end := front, front+t.n-c.width+1; s < end; {
		n := min(block, end-s)
		turns := c.scan(t, s, n)
		some := c.addNew(t, baseHeads, s, turns, t.full(len(turns)) || base != nil && base.full(0))
		seen := s
		for i := range some {
			st := &some[i]
			if st.last < seen {
				continue
			}
			st.first = max(st.first, seen)
			seen = st.last + 1
			if from := c.lookUp(t, base, st); from.in != nil {
				seen += c.follow(t, seen, from, from.in == base)
			}
		}
		if s += n; seen > s {
			s, block = seen, leastBlock
		} else {
			block = min(2*block, mostBlock)
		}
	}
}

// noHeads are those of no text.
var noHeads [1]uint32

// addNew adds the stretches that are new for certain, unless none may be, and returns the others.
func (c *Comparer) addNew(t *Index, baseHeads []uint32, s int, turns []uint32, none bool) []stretch {
	others := c.stretches[:len(turns)]
	heads, anchors := t.heads, t.anchors[:cap(t.anchors)]
	no, used, first := 0, len(t.anchors), 0
	var always uint32
	if none {
		always = 1
	}
	text, long := t.text, uint64(0)
	if c.gram == longGram {
		long = math.MaxUint32
	}
	for _, last := range turns {
		from := s + first
		p := from + int(c.least[first]&mostStarts)
		g := load64(text, p) + uint64(load32(text, p+8))&long*windowKeys[0]
		hash := uint32((g ^ g>>32) * hashKey >> 32)
		before, behind := load64(text, p-8)>>c.half, load64(text, p+c.gram)<<c.half
		around := uint32((g+before)*aroundKeys[0]>>48<<16 | (g+behind)*aroundKeys[1]>>48)
		head := &heads[slotIn(hash, heads)]
		old := *head | baseHeads[slotIn(hash, baseHeads)] | always
		o := &others[no] // field by field: a literal would be put together on the stack, and copying it from there waits
		o.first, o.last, o.p, o.hash, o.around = from, s+int(last), p, hash, around
		is := int(notZero32(old))
		no += is
		origin := p - (c.starts - 1)
		a := &anchors[used]
		a.around, a.pos, a.windows, a.next = around, uint32(p-front), (uint32(1)<<(int(last)-first+1)-1)<<(from-origin), 0
		used += 1 - is
		*head |= uint32(used) & (uint32(is) - 1)
		first = int(last) + 1
	}
	t.anchors = anchors[:used]
	return others[:no]
}

// scan finds the anchors of n windows from s on: least[i] & mostStarts is how far that of window i is from where the
// window starts. It returns the last window of each stretch that shares one.
func (c *Comparer) scan(t *Index, s, n int) (turns []uint32) {
	grams := n + c.starts - 1
	words := c.words[:grams+8]
	c.loops.words(words, t.text[s:s+grams+8+3])
	third := gramKeys[2]
	if c.gram == shortGram {
		third = 0
	}
	least := c.least[:grams]
	c.loops.grams(least, words, gramKeys[0], gramKeys[1], third)
	// The lesser of two, of four ..., the one in front if they are the same.
	span := 1
	for ; 2*span <= c.starts; span *= 2 {
		c.loops.lower(least[:len(least)-span], least, uint32(span))
		least = least[:len(least)-span]
	}
	if span < c.starts {
		c.loops.lower(least[:n], least, uint32(c.starts-span))
	}
	k := c.loops.turns(c.turns[:n-1], least[:n])
	c.turns[k] = uint32(n - 1)
	return c.turns[:k+1]
}

// lookUp looks up the windows of a stretch and adds those that are new. It says where the last of them was before, if it was.
func (c *Comparer) lookUp(t, base *Index, st *stretch) (from run) {
	// Bit i stands for the window that starts at origin+i.
	p, hash := st.p, st.hash
	origin := p - (c.starts - 1)
	left := (uint32(1)<<(st.last-st.first+1) - 1) << (st.first - origin)
	lastBit := uint32(1) << (st.last - origin)
	if base != nil {
		many := 0
		for i := base.heads[slotIn(hash, base.heads)]; i != 0; {
			a := &base.anchors[i-1]
			i = a.next
			many++
			some := c.maybe(a, st.around, left)
			if some == 0 {
				continue
			}
			at := front + int(a.pos)
			if both := c.common(base, at, t, p) & some; both != 0 {
				orBits(c.hits, at-(c.starts-1), both)
				t.count -= bits.OnesCount32(both)
				if left &^= both; both&lastBit != 0 {
					from = run{base, st.last - p + at}
				}
				if left == 0 {
					return from
				}
			}
		}
		if many >= crowd || base.full(0) {
			for some := left; some != 0; some &= some - 1 {
				s := origin + bits.TrailingZeros32(some)
				if at, ok := base.findSingle(t, s, c.width, t.windowHash(s, c.width)); ok {
					setBit(c.hits, at)
					t.count--
					left &^= some & -some
					if s == st.last {
						from = run{base, at}
					}
				}
			}
		}
		if left == 0 {
			return from
		}
	}
	many := 0
	for i := t.heads[slotIn(hash, t.heads)]; i != 0; {
		a := &t.anchors[i-1]
		i = a.next
		many++
		some := c.maybe(a, st.around, left)
		if some == 0 {
			continue
		}
		at := front + int(a.pos)
		if both := c.common(t, at, t, p) & some; both != 0 {
			t.repeats(both, origin, at-p)
			if left &^= both; both&lastBit != 0 {
				from = run{t, st.last - p + at}
			}
			if left == 0 {
				return from
			}
		}
	}
	if many < crowd && !t.full(0) {
		t.addAnchor(st, p, left)
		return from
	}
	for ; left != 0; left &= left - 1 {
		s := origin + bits.TrailingZeros32(left)
		h := t.windowHash(s, c.width)
		if at, ok := t.findSingle(t, s, c.width, h); !ok {
			t.addSingle(s, c.width, h)
		} else {
			t.repeat(s, 1, at)
			if s == st.last {
				from = run{t, at}
			}
		}
	}
	return from
}

// maybe says which windows of a stretch may be those of an anchor. Each holds half of what there is around its gram, on one
// side or the other.
func (c *Comparer) maybe(a *anchor, around, windows uint32) uint32 {
	d := a.around ^ around
	before, behind := notZero32(d>>16)-1, notZero32(d&0xffff)-1
	return a.windows & windows & (before&c.lower | behind&^c.lower)
}

// common says which windows around an anchor are the same in both texts: bit i for those that start starts-1-i before it.
func (c *Comparer) common(x *Index, p int, y *Index, q int) uint32 {
	a, b := x.text, y.text
	if c.near && (x.points == nil || y.points == nil) {
		same := c.loops.same64((*[64]byte)(a[p-nearFront:]), (*[64]byte)(b[q-nearFront:]))
		gram := bits.TrailingZeros64(^(same >> nearFront)) - c.gram
		if gram < 0 {
			return 0
		}
		before := min(bits.LeadingZeros64(^(same << (64 - nearFront))), c.starts-1)
		after := min(gram, c.width-c.gram)
		return uint32(uint64(2)<<after-1) &^ (uint32(1)<<(c.starts-1-before) - 1)
	}
	g := load64(a, p)
	all, differ := g, g^load64(b, q)
	if c.gram == longGram {
		h := uint64(load32(a, p+8))
		all, differ = all|h, differ|h^uint64(load32(b, q+8))
	}
	if differ != 0 {
		return 0
	}
	// How far they agree is found without a branch, as far as windows of the default width reach.
	before, most := 0, c.starts-1
	if most > 0 {
		v, w := load64(a, p-8), load64(a, p-16)
		all |= v | w
		near, far := bits.LeadingZeros64(v^load64(b, q-8))/8, bits.LeadingZeros64(w^load64(b, q-16))/8
		before = near + far&-(near>>3)
		for before&7 == 0 && before >= 16 && before < most {
			v := load64(a, p-before-8)
			all |= v
			d := v ^ load64(b, q-before-8)
			before += bits.LeadingZeros64(d) / 8
			if d != 0 {
				break
			}
		}
		before = min(before, most)
	}
	at, most := c.gram, c.width-c.gram
	v, w := load64(a, p+at), load64(a, p+at+8)
	all |= v | w
	near, far := bits.TrailingZeros64(v^load64(b, q+at))/8, bits.TrailingZeros64(w^load64(b, q+at+8))/8
	after := near + far&-(near>>3)
	for after&7 == 0 && after >= 16 && after < most {
		v := load64(a, p+at+after)
		all |= v
		d := v ^ load64(b, q+at+after)
		after += bits.TrailingZeros64(d) / 8
		if d != 0 {
			break
		}
	}
	after = min(after, most)
	if all&ascii8 != 0 && x.points != nil && y.points != nil {
		before = samePointsBefore(x.points[:p], y.points[:q], before)
		n := c.gram + after
		if after = samePoints(x.points[p:p+n], y.points[q:q+n]) - c.gram; after < 0 {
			return 0
		}
	}
	if after -= c.beyond; after < 0 {
		return 0
	}
	return uint32(uint64(2)<<after-1) &^ (uint32(1)<<(c.starts-1-before) - 1)
}

// follow returns how many windows from s on are those behind from, and marks them as hits.
func (c *Comparer) follow(t *Index, s int, from run, hits bool) int {
	// The window before s is the one at from, so all but the last code points are known to be the same.
	x, at := from.in, from.at+1
	p, q := s+c.width-1, at+c.width-1
	all, n := min(front+t.n-p, front+x.n-q), 0
	for n < all {
		some := min(all-n, followBlock)
		if hits {
			some = onesFrom(x.firsts, at+n, some)
		}
		same := sameBytes(t.text[p+n:p+n+some], x.text[q+n:q+n+some])
		if t.points != nil && x.points != nil {
			same = samePoints(t.points[p+n:p+n+same], x.points[q+n:q+n+same])
		}
		if n += same; same < followBlock {
			break
		}
	}
	switch {
	case n <= 0:
		return 0
	case hits:
		setBits(c.hits, at, at+n)
		t.count -= n
	default:
		t.repeat(s, n, at)
	}
	return n
}
