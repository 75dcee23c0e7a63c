package kerneltest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/lsh"
)

// partOf is flow.PartOf, which is internal to dedup. Both are held to the values in cuda/testdata/flow.golden.
func partOf(h uint64, parts int) int {
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	hi, _ := bits.Mul64(h*0xd6e8feb86659fd93, uint64(parts))
	return int(hi)
}

// recordHash is flow.RecordHash; see partOf.
func recordHash(words []uint64, blob []byte, hasBlob bool) (x, y uint64) {
	const (
		k0 = 0xa0761d6478bd642f
		k1 = 0xe7037ed1a0b428db
		k2 = 0x8ebc6af09c88c6e3
		k3 = 0x589965cc75374cc3
	)
	a, b := uint64(k0), uint64(k1)
	fold := func(w uint64) {
		hi, lo := bits.Mul64(a^w, k2)
		a = bits.RotateLeft64(a, 29) ^ hi ^ lo
		hi, lo = bits.Mul64(b^w^k3, k1)
		b = bits.RotateLeft64(b, 31) + (hi ^ lo)
	}
	for _, w := range words {
		fold(w)
	}
	if hasBlob {
		h := xxh3.Hash128(blob)
		fold(h.Hi)
		fold(h.Lo)
	}
	hi, lo := bits.Mul64(a^b, k3)
	return a ^ hi, b ^ lo
}

func testRecords(b *bench) {
	rows, words := 1+b.rng.IntN(200), b.rng.IntN(6)
	records := make([]uint64, rows*words)
	for i := range records {
		records[i] = b.rng.Uint64()
	}
	blobs, _ := corpus(b.rng, rows, 400)
	t := b.column(blobs, nil)
	for _, hasBlob := range []bool{false, true} {
		var want []uint64
		for i := range rows {
			x, y := recordHash(records[i*words:(i+1)*words], []byte(blobs[i]), hasBlob)
			want = append(want, x, y)
		}
		offsets := t.offsets
		if !hasBlob {
			offsets = 0
		}
		out := alloc[uint64](b, "hashes", 2*rows)
		b.launch("dv_record_hash", 0, put(b, "records", records), uint64(words), uint64(rows), offsets, t.width, t.data, out)
		equal(b, "record hashes", get[uint64](b, out, 2*rows), want)
	}
}

func testContent(b *bench) {
	rows, valid := corpus(b.rng, 40, 300)
	for _, n := range []int{1, 3, 4, 8, 9, 16, 17, 32, 33, 64, 65, 96, 97, 128, 129, 160, 161, 240, 241, 1024, 1025, 1088, 1089, 2048, 5000} {
		rows = append(rows, text(b.rng, n))
		if valid != nil {
			valid = append(valid, true)
		}
	}
	var want []uint64
	for i, s := range rows {
		if valid != nil && !valid[i] {
			s = ""
		}
		h := lsh.ContentHash([]byte(s))
		want = append(want, h.Hi, h.Lo)
	}
	t := b.column(rows, valid)
	out := alloc[uint64](b, "hashes", len(want))
	b.launch("dv_content_hash", 0, t.offsets, t.width, t.data, t.validity, uint64(t.rows), out)
	equal(b, "content hashes", get[uint64](b, out, len(want)), want)
}

// record is a document in a bucket.
type record struct{ key, keep, ord uint64 }

func comparePi(a, b record) int {
	return cmp.Or(cmp.Compare(a.keep, b.keep), cmp.Compare(a.ord, b.ord))
}

// records makes records of few keys, one of which has a great share; ordinals differ.
func (b *bench) records(n int, withKeep bool) []record {
	keys := 1 + b.rng.IntN(n/2+1)
	rs := make([]record, n)
	for i, ord := range b.rng.Perm(n) {
		rs[i].ord = uint64(ord)*0x9e3779b97f4a7c15>>1 + uint64(ord)
		rs[i].key = b.rng.Uint64N(uint64(keys)) << 40
		if b.rng.IntN(4) == 0 {
			rs[i].key = 0
		}
		if withKeep {
			rs[i].keep = b.rng.Uint64N(4)
		}
	}
	return rs
}

func testGroup(b *bench) {
	for _, withKeep := range []bool{false, true} {
		rs := b.records(2+b.rng.IntN(700), withKeep)
		n := len(rs)
		members := map[uint64][]int{}
		var keys, keep, ord []uint64
		for i, r := range rs {
			members[r.key] = append(members[r.key], i)
			keys, keep, ord = append(keys, r.key), append(keep, r.keep), append(ord, r.ord)
		}
		// The rule itself: the leaders of a bucket are its first four in pi order.
		var wantDoc, wantLeader []uint32
		buckets := 0
		for _, m := range members {
			slices.SortFunc(m, func(i, j int) int { return comparePi(rs[i], rs[j]) })
			if len(m) > 1 {
				buckets++
			}
		}
		for i, r := range rs {
			for _, l := range members[r.key][:min(4, len(members[r.key]))] {
				if comparePi(rs[l], r) < 0 {
					wantDoc, wantLeader = append(wantDoc, uint32(i)), append(wantLeader, uint32(l))
				}
			}
		}
		capacity := 1
		for capacity <= len(members)+b.rng.IntN(len(members)+1) {
			capacity *= 2
		}
		k, o, p := put(b, "keys", keys), put(b, "ord", ord), uint64(0)
		if withKeep {
			p = put(b, "keep", keep)
		}
		table, full := zeros[uint32](b, "table", 4*capacity), zeros[uint64](b, "full", 1)
		half := b.rng.IntN(n + 1)
		b.launch("dv_group_leaders", 0, k, p, o, 0, uint64(half), table, uint64(capacity), full)
		b.launch("dv_group_leaders", 0, k, p, o, uint64(half), uint64(n), table, uint64(capacity), full)
		equal(b, "full", get[uint64](b, full, 1), []uint64{0})
		counts, count := alloc[uint64](b, "counts", n+1), zeros[uint64](b, "buckets", 1)
		b.launch("dv_group_count", 0, k, p, o, uint64(n), table, uint64(capacity), counts, count)
		equal(b, "buckets", get[uint64](b, count, 1), []uint64{uint64(buckets)})
		starts := b.scan(counts, n, true)
		equal(b, "pairs", get[uint64](b, starts+8*uint64(n), 1), []uint64{uint64(len(wantDoc))})
		doc, leader := alloc[uint32](b, "doc", len(wantDoc)), alloc[uint32](b, "leader", len(wantDoc))
		b.launch("dv_group_pairs", 0, k, p, o, uint64(n), table, uint64(capacity), starts, doc, leader)
		equal(b, "doc", get[uint32](b, doc, len(wantDoc)), wantDoc)
		equal(b, "leader", get[uint32](b, leader, len(wantDoc)), wantLeader)
	}
	// A table that is too small says so.
	keys := []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9}
	table, full := zeros[uint32](b, "table", 4*4), zeros[uint64](b, "full", 1)
	b.launch("dv_group_leaders", 0, put(b, "keys", keys), 0, put(b, "ord", keys), 0, uint64(len(keys)), table, 4, full)
	equal(b, "full", get[uint64](b, full, 1), []uint64{1})
}

func testComponents(b *bench) {
	// Edges between entries, several of which may be one document; chains, and a few large components.
	n := 2 + b.rng.IntN(500)
	docs := 1 + b.rng.IntN(n)
	withKeep := b.rng.IntN(2) == 0
	ords, keeps := make([]uint64, n), make([]uint64, n)
	entry := map[uint64]uint64{}
	for i := range ords {
		ords[i] = uint64(b.rng.IntN(docs)) * 0x9e3779b97f4a7c15
		if _, ok := entry[ords[i]]; !ok {
			entry[ords[i]] = 0
			if withKeep {
				entry[ords[i]] = b.rng.Uint64N(3)
			}
		}
		keeps[i] = entry[ords[i]]
	}
	var u, v []uint32
	root := map[uint64]uint64{} // by ordinal: naive, smallest in pi
	for o := range entry {
		root[o] = o
	}
	less := func(x, y uint64) bool {
		return comparePi(record{keep: entry[x], ord: x}, record{keep: entry[y], ord: y}) < 0
	}
	join := func(i, j int) {
		u, v = append(u, uint32(i)), append(v, uint32(j))
		x, y := root[ords[i]], root[ords[j]]
		if less(y, x) {
			x, y = y, x
		}
		for o, r := range root {
			if r == y {
				root[o] = x
			}
		}
	}
	for i := 1; i < n; i++ {
		if b.rng.IntN(3) > 0 {
			join(i, max(0, i-1-b.rng.IntN(3)))
		}
		if b.rng.IntN(20) == 0 {
			join(b.rng.IntN(n), b.rng.IntN(n))
		}
	}
	capacity := 1
	for capacity <= len(entry) {
		capacity *= 2
	}
	o, table, full := put(b, "ord", ords), zeros[uint32](b, "table", capacity), zeros[uint64](b, "full", 1)
	vertex := alloc[uint32](b, "vertex", n)
	b.launch("dv_distinct", 0, o, uint64(n), table, uint64(capacity), vertex, full)
	equal(b, "full", get[uint64](b, full, 1), []uint64{0})
	of := get[uint32](b, vertex, n)
	for i := range of {
		if ords[of[i]] != ords[i] || of[of[i]] != of[i] {
			b.Fatalf("entry %d with ordinal %d is vertex %d", i, ords[i], of[i])
		}
	}
	for i := range u {
		u[i], v[i] = of[u[i]], of[v[i]]
	}
	keep := uint64(0)
	if withKeep {
		keep = put(b, "keep", keeps)
	}
	parent, label := alloc[uint32](b, "parent", n), alloc[uint32](b, "label", n)
	b.launch("dv_components_init", 0, uint64(n), parent)
	half := len(u) / 2
	b.launch("dv_components_join", 0, put(b, "u", u[:half]), put(b, "v", v[:half]), uint64(half), keep, o, parent)
	b.launch("dv_components_join", 0, put(b, "u", u[half:]), put(b, "v", v[half:]), uint64(len(u)-half), keep, o, parent)
	b.launch("dv_components_label", 0, vertex, uint64(n), parent, label)
	for i, l := range get[uint32](b, label, n) {
		if ords[l] != root[ords[i]] {
			b.Fatalf("entry %d with ordinal %d has the label %d, want %d", i, ords[i], ords[l], root[ords[i]])
		}
	}
	// By number, without ordinals: labels are the least numbers.
	b.launch("dv_components_init", 0, uint64(n), parent)
	b.launch("dv_components_join", 0, put(b, "u", u), put(b, "v", v), uint64(len(u)), 0, 0, parent)
	b.launch("dv_components_label", 0, 0, uint64(n), parent, label)
	got := get[uint32](b, label, n)
	least := map[uint64]uint32{}
	for i := range got {
		c := root[ords[i]]
		if of[i] == uint32(i) {
			if m, ok := least[c]; !ok || uint32(i) < m {
				least[c] = uint32(i)
			}
		}
	}
	for i := range got {
		want := least[root[ords[i]]]
		if of[i] != uint32(i) {
			want = uint32(i) // no edge names it
		}
		if got[i] != want {
			b.Fatalf("vertex %d has the label %d, want %d", i, got[i], want)
		}
	}
}

func testJaccard(b *bench) {
	width := []int{1, 2, 3, 4, 5, 8, 13, 17, 24, 40, 130, 300}[b.rng.IntN(12)]
	rows, valid := corpus(b.rng, 8, 700)
	// Texts that share parts, and repeats.
	base := text(b.rng, 600)
	rows = append(rows, base, base[100:]+"x", strings.Repeat("abc", 100), strings.Repeat("abc", 99)+"d"+base, "", text(b.rng, 2500))
	key := b.rng.Uint64()
	if b.rng.IntN(2) == 0 {
		// Windows that only their bytes tell apart, in two texts and in one; and a short text that others begin with.
		width, key = 8, 0
		one, two := sameHalf(b)
		rows = append(rows, one, two, one+base+two, two+"!", one[:5], one[:7])
	}
	rows = append(rows, "\xe4\xb8", "\xe4\xb8\xad", "\xe4\xb8\xad\xe4\xb8")
	for valid != nil && len(valid) < len(rows) {
		valid = append(valid, true)
	}
	t := b.column(rows, valid)
	sets := make([][]uint64, len(rows))
	w, err := lsh.NewWindows(width)
	if err != nil {
		b.Fatal(err)
	}
	for i, s := range rows {
		if valid == nil || valid[i] {
			w.Set([]byte(s))
			sets[i] = w.Hashes(nil)
		}
	}
	var a, c []uint32
	var wantInter, wantUnion []uint64
	for n := range 40 + len(rows) {
		i, j := b.rng.IntN(len(rows)), b.rng.IntN(len(rows))
		if n < len(rows)-1 {
			i, j = n, n+1
		}
		a, c = append(a, uint32(i)), append(c, uint32(j))
		in := map[uint64]bool{}
		for _, h := range sets[i] {
			in[h] = true
		}
		both := uint64(0)
		for _, h := range sets[j] {
			if in[h] {
				both++
			}
		}
		wantInter, wantUnion = append(wantInter, both), append(wantUnion, uint64(len(sets[i])+len(sets[j]))-both)
	}
	counts := alloc[uint64](b, "set sizes", t.rows+1)
	b.launch("dv_window_slots", 0, t.offsets, t.width, t.validity, uint64(t.rows), counts)
	start := b.scan(counts, t.rows, true)
	total := get[uint64](b, start+8*uint64(t.rows), 1)[0]
	piece := 4*width + b.rng.IntN(2000)
	first := b.pieces(t, piece)
	set, distinct := zeros[uint64](b, "sets", int(total)), zeros[uint64](b, "distinct", t.rows)
	b.launch("dv_window_sets", sharedTexts(width), t.offsets, t.width, t.data, uint64(t.rows), first, uint64(piece), uint64(width), key, start, set, distinct)
	var want []uint64
	for _, s := range sets {
		want = append(want, uint64(len(s)))
	}
	equal(b, "distinct windows", get[uint64](b, distinct, t.rows), want)
	inter, union := alloc[uint64](b, "intersections", len(a)), alloc[uint64](b, "unions", len(a))
	b.launch("dv_jaccard", 0, t.offsets, t.width, t.data, uint64(width), put(b, "a", a), put(b, "b", c), uint64(len(a)), start, set, distinct, inter, union)
	equal(b, "intersections", get[uint64](b, inter, len(a)), wantInter)
	equal(b, "unions", get[uint64](b, union, len(a)), wantUnion)
}

// sameHalf finds two windows of 8 bytes whose hashes have one upper half: all that a slot of a set has of a hash.
func sameHalf(b *bench) (one, two string) {
	seen := make(map[uint32]string)
	for {
		w := fmt.Sprintf("%08x", b.rng.Uint32())
		half := uint32(xxh3.HashString(w) >> 32)
		if other, ok := seen[half]; ok && other != w {
			return other, w
		}
		seen[half] = w
	}
}

// testSparse uses arrays of more than 2^31 bytes, rows or slots, of which little is touched: an index that is cut to 32 bits
// reads or writes elsewhere.
func testSparse(b *bench) {
	const far = 1<<32 + 1<<31 + 12345
	le := binary.LittleEndian

	// A text far into its column: 64-bit offsets.
	rows := []string{text(b.rng, 300), text(b.rng, 50)}
	data, err := b.Alloc("data", far+1000, true)
	if err != nil {
		b.Fatal(err)
	}
	if err := b.Write(data+far, []byte(rows[0]+rows[1])); err != nil {
		b.Fatal(err)
	}
	var offsets []byte
	for _, o := range []uint64{far, far + 300, far + 350} {
		offsets = le.AppendUint64(offsets, o)
	}
	t := texts{rows: 2, offsets: put(b, "offsets", offsets), width: 8, data: data}
	for _, sketch := range lsh.Sketches() {
		p := lsh.Params{Sketch: sketch, NumBands: 2, MinhashesPerBand: 3, CharNgrams: 5, Seed: 3}
		ref, err := lsh.NewReference(p)
		if err != nil {
			b.Fatal(err)
		}
		at := b.sign(p, t, 100)
		var got []uint64
		for i := range 12 {
			if p.SlotBytes() == 8 {
				got = append(got, get[uint64](b, at+uint64(8*i), 1)...)
			} else {
				got = append(got, uint64(get[uint32](b, at+uint64(4*i), 1)[0]))
			}
		}
		equal(b, string(sketch), got, append(ref.Sign([]byte(rows[0])), ref.Sign([]byte(rows[1]))...))
	}
	// Hashes and copies of it.
	h0, h1 := lsh.ContentHash([]byte(rows[0])), lsh.ContentHash([]byte(rows[1]))
	hashes := alloc[uint64](b, "hashes", 4)
	b.launch("dv_content_hash", 0, t.offsets, 8, data, 0, 2, hashes)
	equal(b, "content hashes", get[uint64](b, hashes, 4), []uint64{h0.Hi, h0.Lo, h1.Hi, h1.Lo})
	order, to, out := put(b, "order", []uint32{1, 0}), put(b, "to", []uint64{0, 50, 350}), alloc[byte](b, "packed", 350)
	b.launch("dv_pack_strings", 0, t.offsets, 8, data, order, 0, 2, to, out)
	equal(b, "packed", get[byte](b, out, 350), []byte(rows[1]+rows[0]))

	// Values of a row number above 2^31: 21 bytes each, and 8 bytes.
	const row = 1<<31 + 7
	for _, width := range []uint64{1, 4, 8, 16, 21} {
		values, err := b.Alloc("values", int64((row+1)*width), true)
		if err != nil {
			b.Fatal(err)
		}
		want := []byte(text(b.rng, int(width)))
		if err := b.Write(values+row*width, want); err != nil {
			b.Fatal(err)
		}
		out := alloc[byte](b, "value", int(width))
		b.launch("dv_pack_fixed", 0, values, width, 0, put(b, "order", []uint32{row}), 0, 1, out)
		equal(b, "value", get[byte](b, out, int(width)), want)
	}
	validity, err := b.Alloc("validity", row/8+1, true)
	if err != nil {
		b.Fatal(err)
	}
	if err := b.Write(validity+row/8, []byte{1 << (row % 8)}); err != nil {
		b.Fatal(err)
	}
	bit, ones := alloc[byte](b, "bit", 1), zeros[uint64](b, "ones", 1)
	b.launch("dv_pack_bits", 0, validity, 0, put(b, "order", []uint32{row, row - 1}), 0, 2, bit, ones)
	equal(b, "bit", get[byte](b, bit, 1), []byte{1})

	// A slot of a table beyond 2^31 entries: the keys say where.
	const capacity = 1 << 31
	table, err := b.Alloc("table", 16*capacity, true)
	if err != nil {
		b.Fatal(err)
	}
	keys, ord := []uint64{9 << 60, 7 << 60, 9 << 60, 8 << 60, 9 << 60}, []uint64{5, 4, 3, 2, 1}
	k, o, full := put(b, "keys", keys), put(b, "ord", ord), zeros[uint64](b, "full", 1)
	b.launch("dv_group_leaders", 0, k, 0, o, 0, 5, table, capacity, full)
	counts, buckets := alloc[uint64](b, "counts", 6), zeros[uint64](b, "buckets", 1)
	b.launch("dv_group_count", 0, k, 0, o, 5, table, capacity, counts, buckets)
	equal(b, "counts", get[uint64](b, counts, 5), []uint64{2, 0, 1, 0, 0})

	// Band keys of row numbers whose slots and keys lie beyond 2^31 would take too long; one band far into a wide signature does not.
	const wide = 1<<29 + 3
	signatures, err := b.Alloc("signatures", 4*4*wide, true)
	if err != nil {
		b.Fatal(err)
	}
	want := lsh.CuratorBucket(3, []uint32{0x61626364, 0, 0})
	if err := b.Write(signatures+4*(3*wide+wide-3), le.AppendUint32(nil, 0x61626364)); err != nil {
		b.Fatal(err)
	}
	strs := alloc[byte](b, "strings", 4*len(want))
	b.launch("dv_bucket_strings", 0, signatures, 4, 4, wide, wide-3, 3, 3, strs)
	equal(b, "bucket", get[byte](b, strs, 4*len(want))[3*len(want):], []byte(want))
}
