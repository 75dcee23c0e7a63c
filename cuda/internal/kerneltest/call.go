package kerneltest

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/dovetail-dedup/dovetail/lsh"
)

// Number is what arrays consist of.
type Number interface {
	~uint8 | ~uint32 | ~uint64 | ~int64
}

// bench is a device with what a test needs to use it shortly. Whatever fails ends the test.
type bench struct {
	*testing.T
	Device
	rng *rand.Rand
}

// launch runs a kernel on a grid of any size: it never decides a result. A few blocks more than there is work for are tried too.
func (b *bench) launch(kernel string, shared int, params ...uint64) {
	b.Helper()
	if err := b.Launch(kernel, 1+b.rng.IntN(7), shared, b.rng.Uint64()|1, params...); err != nil {
		b.Fatal(err)
	}
}

func bytesOf[T Number](v []T) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}

// put copies values to a new array.
func put[T Number](b *bench, name string, v []T) uint64 {
	b.Helper()
	addr := alloc[T](b, name, len(v))
	if err := b.Write(addr, bytesOf(v)); err != nil {
		b.Fatal(err)
	}
	return addr
}

// alloc makes a new array of n values that nobody knows.
func alloc[T Number](b *bench, name string, n int) uint64 {
	b.Helper()
	return newArray[T](b, name, n, false)
}

// zeros makes a new array of n zeros.
func zeros[T Number](b *bench, name string, n int) uint64 {
	b.Helper()
	return newArray[T](b, name, n, true)
}

func newArray[T Number](b *bench, name string, n int, zeroed bool) uint64 {
	b.Helper()
	var t T
	addr, err := b.Alloc(name, int64(n)*int64(unsafe.Sizeof(t)), zeroed)
	if err != nil {
		b.Fatal(err)
	}
	return addr
}

// get copies an array back.
func get[T Number](b *bench, addr uint64, n int) []T {
	b.Helper()
	v := make([]T, n)
	if err := b.Read(addr, bytesOf(v)); err != nil {
		b.Fatal(err)
	}
	return v
}

// texts is a column of strings on the device.
type texts struct {
	rows           int
	offsets, width uint64
	data, validity uint64
	bytes          int
}

// column puts strings on the device: with offsets of 4 or 8 bytes, a few bytes before the first, and what was under nulls. valid may be
// nil.
func (b *bench) column(rows []string, valid []bool) texts {
	t := texts{rows: len(rows), width: 4 + 4*b.rng.Uint64N(2)}
	data := make([]byte, b.rng.IntN(9))
	var offsets []uint64
	for _, s := range rows {
		offsets = append(offsets, uint64(len(data)))
		data = append(data, s...)
	}
	offsets = append(offsets, uint64(len(data)))
	t.bytes = len(data)
	t.data = put(b, "data", data)
	if t.width == 4 {
		narrow := make([]uint32, len(offsets))
		for i, o := range offsets {
			narrow[i] = uint32(o)
		}
		t.offsets = put(b, "offsets", narrow)
	} else {
		t.offsets = put(b, "offsets", offsets)
	}
	t.validity = b.bits("validity", valid)
	return t
}

// bits puts bits on the device; nil is a null pointer.
func (b *bench) bits(name string, v []bool) uint64 {
	if v == nil {
		return 0
	}
	return put(b, name, packBits(v))
}

func packBits(v []bool) []byte {
	out := make([]byte, (len(v)+7)/8)
	for i, x := range v {
		if x {
			out[i/8] |= 1 << (i % 8)
		}
	}
	return out
}

// scan returns the exclusive prefix sums of n values, n+1 of them; in place if asked.
func (b *bench) scan(in uint64, n int, inPlace bool) uint64 {
	b.Helper()
	const tile = 2048
	tiles := (n + tile - 1) / tile
	sums := alloc[uint64](b, "sums", tiles+1)
	out := in
	if !inPlace {
		out = alloc[uint64](b, "scanned", n+1)
	}
	b.launch("dv_scan_reduce", 0, in, uint64(n), sums)
	b.launch("dv_scan_sums", 0, sums, uint64(tiles))
	b.launch("dv_scan_apply", 0, in, uint64(n), sums, out)
	return out
}

// tileOf, and the sizes below, are the macros of kernels.h.
func tileOf(width int) int {
	if width <= 256 {
		return 1020 - width
	}
	return 512
}

func sharedTexts(width int) int { return (tileOf(width)+width)*8 + 1152 }
func sharedFast(width int) int {
	return (tileOf(width)+width)*4 + (bits.OnesCount(uint(width))-1)*tileOf(width)*4 + 64
}

// pieces cuts texts and returns where each row's begin.
func (b *bench) pieces(t texts, piece int) uint64 {
	b.Helper()
	counts := alloc[uint64](b, "piece counts", t.rows+1)
	b.launch("dv_pieces", 0, t.offsets, t.width, t.validity, uint64(t.rows), uint64(piece), counts)
	return b.scan(counts, t.rows, true)
}

// sign returns the address of the signatures.
func (b *bench) sign(p lsh.Params, t texts, piece int) uint64 {
	b.Helper()
	first := b.pieces(t, piece)
	slots, width := uint64(p.NumHashes()), p.CharNgrams
	out, err := b.Alloc("signatures", int64(p.SignatureBytes(t.rows)), false)
	if err != nil {
		b.Fatal(err)
	}
	b.launch("dv_sign_init", 0, first, uint64(t.rows), slots, uint64(p.SlotBytes()), out)
	head := []uint64{t.offsets, t.width, t.data, uint64(t.rows), first, uint64(piece), uint64(width)}
	switch p.Sketch {
	case lsh.Fast:
		c := p.FastConstants()
		b.launch("dv_sign_fast_map", sharedFast(width), append(head, uint64(c.Quad), uint64(c.Final), uint64(c.Round), slots, out)...)
		b.launch("dv_sign_fast_fill", sharedFast(width), append(head, uint64(c.Quad), uint64(c.Final), put(b, "a", c.A), put(b, "b", c.B), slots, out)...)
	case lsh.Curator32:
		a, c := p.Permutations()
		a32, c32 := make([]uint32, len(a)), make([]uint32, len(a))
		for i := range a {
			a32[i], c32[i] = uint32(a[i]), uint32(c[i])
		}
		b.launch("dv_sign_curator32", sharedTexts(width)+4*tileOf(width), append(head, put(b, "a", a32), put(b, "b", c32), slots, out)...)
	case lsh.Curator64:
		a, c := p.Permutations()
		b.launch("dv_sign_curator64", sharedTexts(width)+8*tileOf(width), append(head, put(b, "a", a), put(b, "b", c), slots, out)...)
	default:
		b.Fatal(fmt.Errorf("sketch %s", p.Sketch))
	}
	return out
}
