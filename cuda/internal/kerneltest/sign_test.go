package kerneltest

import (
	"slices"
	"strings"

	"github.com/dovetail-dedup/dovetail/lsh"
)

// checkSign signs texts and compares the signatures with the reference's.
func checkSign(b *bench, p lsh.Params, rows []string, valid []bool, piece int) {
	b.Helper()
	ref, err := lsh.NewReference(p)
	if err != nil {
		b.Fatal(err)
	}
	var want []uint64
	for i, s := range rows {
		if valid != nil && !valid[i] {
			s = ""
		}
		want = append(want, ref.Sign([]byte(s))...)
	}
	at := b.sign(p, b.column(rows, valid), piece)
	var got []uint64
	if p.SlotBytes() == 8 {
		got = get[uint64](b, at, len(want))
	} else {
		for _, v := range get[uint32](b, at, len(want)) {
			got = append(got, uint64(v))
		}
	}
	for i := range want {
		if got[i] != want[i] {
			row := i / p.NumHashes()
			b.Fatalf("%+v, pieces of %d: slot %d of row %d, %d bytes: %#x, want %#x", p, piece, i%p.NumHashes(), row, len(rows[row]), got[i], want[i])
		}
	}
}

// Signatures of all sketches: widths with few and many bits, pieces so small that texts of a few lines are cut, texts shorter than
// a window, and repetitive texts, of which most slots stay empty.
func testSign(b *bench) {
	for _, sketch := range lsh.Sketches() {
		width := []int{1, 2, 3, 5, 13, 24, 25, 31, 64}[b.rng.IntN(9)]
		p := lsh.Params{Sketch: sketch, NumBands: 1 + b.rng.IntN(20), MinhashesPerBand: 1 + b.rng.IntN(13), CharNgrams: width, Seed: b.rng.Uint64() >> 33}
		rows, valid := corpus(b.rng, 3+b.rng.IntN(6), 900)
		rows = append(rows, strings.Repeat("ab", 200), "\x80\x80\x80\x80\x80\x80\x80\x80", "é")
		if valid != nil {
			valid = append(valid, true, true, true)
		}
		checkSign(b, p, rows, valid, 4*width+b.rng.IntN(300))
		checkSign(b, p, nil, nil, 16384)
	}
	// Texts that end where the bytes of a tile end.
	for _, sketch := range lsh.Sketches() {
		p := lsh.Params{Sketch: sketch, NumBands: 2, MinhashesPerBand: 2, CharNgrams: 1 + b.rng.IntN(30), Seed: 1}
		var rows []string
		for n := range 4 {
			rows = append(rows, text(b.rng, 1021+n), text(b.rng, 1024-n))
		}
		checkSign(b, p, rows, nil, 16384)
	}
	// A text of several tiles, uncut and cut.
	sketch := lsh.Sketches()[b.rng.IntN(3)]
	p := lsh.Params{Sketch: sketch, NumBands: 3, MinhashesPerBand: 11, CharNgrams: 24, Seed: 1}
	checkSign(b, p, []string{text(b.rng, 3000), "", strings.Repeat("abcdefghijklmnopqrstuvwxyz012345", 100)}, nil, []int{16384, 1500}[b.rng.IntN(2)])
}

// The widest windows, and more slots than fit shared memory.
func testSignWide(b *bench) {
	sketch := lsh.Sketches()[b.rng.IntN(3)]
	width := []int{255, 256, 257, 1023, 2047, 4095, lsh.MaxCharNgrams}[b.rng.IntN(7)]
	p := lsh.Params{Sketch: sketch, NumBands: 2, MinhashesPerBand: 3, CharNgrams: width, Seed: 7}
	checkSign(b, p, []string{text(b.rng, width/2), text(b.rng, 2*width+b.rng.IntN(1000)), text(b.rng, 20)}, nil, 16384)
	p = lsh.Params{Sketch: lsh.Fast, NumBands: 41, MinhashesPerBand: 31, CharNgrams: 5, Seed: 7}
	checkSign(b, p, []string{text(b.rng, 700), "", "abc"}, []bool{true, true, true}, 400)
}

func testBands(b *bench) {
	for _, slotBytes := range []int{4, 8} {
		rows, bands, per := b.rng.IntN(100), 1+b.rng.IntN(40), 1+b.rng.IntN(5)
		slots := make([]uint64, rows*bands*per)
		narrow := make([]uint32, len(slots))
		for i := range slots {
			slots[i] = b.rng.Uint64()
			if slotBytes == 4 {
				slots[i] = uint64(uint32(slots[i]))
			}
			narrow[i] = uint32(slots[i])
		}
		at := put(b, "signatures", slots)
		if slotBytes == 4 {
			at = put(b, "signatures", narrow)
		}
		want := make([]uint64, bands*rows)
		for r := range rows {
			for k := range bands {
				first := (r*bands + k) * per
				want[k*rows+r] = lsh.BandKey(k, slots[first:first+per])
			}
		}
		out := alloc[uint64](b, "keys", len(want))
		b.launch("dv_band_keys", 0, at, uint64(slotBytes), uint64(rows), uint64(bands), uint64(per), out)
		equal(b, "band keys", get[uint64](b, out, len(want)), want)
	}
}

func testBuckets(b *bench) {
	for _, number := range []int{0, 9, 10, 99, 100, 999, 12345, 65535}[b.rng.IntN(7):] {
		per := []int{1, 2, 7, 12, 13, 14, 15, 16, 17, 26, 27, 29, 100}[b.rng.IntN(13)]
		rows, before, after := 1+b.rng.IntN(40), b.rng.IntN(4), b.rng.IntN(4)
		slots := before + per + after
		v := make([]uint64, rows*slots)
		narrow := make([]uint32, len(v))
		for i := range v {
			v[i] = b.rng.Uint64()
			narrow[i] = uint32(v[i])
		}
		var want32, want64 []string
		for r := range rows {
			first := r*slots + before
			want32 = append(want32, lsh.CuratorBucket(number, narrow[first:first+per]))
			want64 = append(want64, lsh.CuratorBucket(number, v[first:first+per]))
		}
		size := len(want32[0])
		for _, c := range []struct {
			at    uint64
			bytes int
			want  []string
		}{{put(b, "signatures", narrow), 4, want32}, {put(b, "signatures", v), 8, want64}} {
			out := alloc[byte](b, "buckets", rows*size)
			b.launch("dv_bucket_strings", 0, c.at, uint64(c.bytes), uint64(rows), uint64(slots), uint64(before), uint64(per), uint64(number), out)
			all := get[byte](b, out, rows*size)
			var got []string
			for s := range slices.Chunk(all, size) {
				got = append(got, string(s))
			}
			equal(b, "buckets", got, c.want)
		}
	}
}
