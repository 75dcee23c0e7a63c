// Package kernelstest is the conformance suite of lsh.Kernels. An implementation, on a processor or on a
// device, is right if Run passes: every signature and band key is compared bit for bit with lsh.Reference.
package kernelstest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"unsafe"

	"github.com/dovetail-dedup/dovetail/internal/invariants"
	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// Device is what the suite needs of an implementation.
type Device struct {
	// New returns kernels that the suite closes.
	New func(p lsh.Params) (lsh.Kernels, error)
	// Alloc makes buffers of the kernels' tier. Nil means mem.Host().
	Alloc mem.Allocator
	// Upload copies bytes into a buffer of the tier and Download copies them back. Nil means that the tier
	// is addressable.
	Upload   func(dst *mem.Buffer, src []byte) error
	Download func(dst []byte, src *mem.Buffer) error
}

// Run runs the suite. It fails t if a buffer is not released.
func Run(t *testing.T, d Device) {
	if d.Alloc == nil {
		d.Alloc = mem.Host()
	}
	if d.Upload == nil {
		d.Upload = func(dst *mem.Buffer, src []byte) error { copy(dst.Bytes(), src); return nil }
		d.Download = func(dst []byte, src *mem.Buffer) error { copy(dst, src.Bytes()); return nil }
	}
	d.Alloc = mem.NewChecked(t, d.Alloc)
	t.Run("Texts", d.texts)
	t.Run("Lengths", d.lengths)
	t.Run("Part", d.part)
	t.Run("NoRows", d.noRows)
	t.Run("BandKeys", d.bandKeys)
	t.Run("Faults", d.faults)
	t.Run("Cancelled", d.cancelled)
}

// parameters returns sets of parameters of every sketch that reach each shape of a window and of a band.
func parameters() []lsh.Params {
	var all []lsh.Params
	for _, sketch := range lsh.Sketches() {
		add := func(bands, rows, width int, seed uint64) {
			all = append(all, lsh.Params{Sketch: sketch, NumBands: bands, MinhashesPerBand: rows, CharNgrams: width, Seed: seed})
		}
		add(20, 13, 24, 42)
		add(1, 1, 24, 1)
		add(3, 11, 13, 7)
		add(70, 9, 25, 8)
		widths := []int{1, 2, 3, 4, 5, 6, 7, 8, 12, 15, 16, 17, 31, 32, 33, 48, 63, 100, 1000}
		if thin() {
			widths = []int{2, 7, 48, 63}
		}
		for _, width := range widths {
			add(5, 4, width, 3)
		}
	}
	return all
}

// thin reports whether to do less, because the reference is slow enough as it is.
func thin() bool { return testing.Short() || invariants.Enabled }

func (d *Device) texts(t *testing.T) {
	texts := Texts()
	for _, p := range parameters() {
		t.Run(name(p), func(t *testing.T) { d.signAndCompare(t, p, texts) })
	}
}

// lengths signs texts of every length around a window, a block of threads and a power of two.
func (d *Device) lengths(t *testing.T) {
	var texts [][]byte
	unit := []byte("The 1st text, и второй, 第三个文本 and \xff\xc3 the rest of it. ")
	for n := range 130 {
		texts = append(texts, unit2(unit, n))
	}
	step := 1
	if thin() {
		step = 7
	}
	for size := 256; size <= 8192; size *= 2 {
		for n := size - 26; n <= size+26; n += step {
			texts = append(texts, unit2([]byte("abcdefghijklm nopqrstuvwxyz."), n))
		}
	}
	for _, sketch := range lsh.Sketches() {
		p := lsh.Params{Sketch: sketch, NumBands: 2, MinhashesPerBand: 4, CharNgrams: 24, Seed: 42}
		t.Run(name(p), func(t *testing.T) { d.signAndCompare(t, p, texts) })
	}
}

// unit2 returns n bytes that do not repeat: unit again and again with a counter between.
func unit2(unit []byte, n int) []byte {
	var out []byte
	for i := 0; len(out) < n; i++ {
		out = append(out, unit...)
		out = fmt.Append(out, i)
	}
	return out[:n:n]
}

func (d *Device) signAndCompare(t *testing.T, p lsh.Params, texts [][]byte) {
	k := d.open(t, p)
	column := d.column(t, texts)
	defer column.Release()
	d.compare(t, k, column, texts)
}

// compare signs a column and makes its band keys without waiting in between, and compares both with the
// reference.
func (d *Device) compare(t *testing.T, k lsh.Kernels, column *mem.Strings, texts [][]byte) {
	t.Helper()
	p, ctx := k.Params(), context.Background()
	signatures, keys := d.alloc(t, p.SignatureBytes(len(texts))), d.alloc(t, p.BandKeyBytes(len(texts)))
	defer signatures.Release()
	defer keys.Release()
	signed, err := k.Sign(ctx, column, signatures)
	if err != nil {
		t.Fatal(err)
	}
	keyed, err := k.BandKeys(ctx, signatures, len(texts), keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, fence := range []mem.Fence{signed, keyed} {
		if err := fence.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		if !fence.Done() {
			t.Error("a fence is not done after Wait")
		}
	}
	r, err := lsh.NewReference(p)
	if err != nil {
		t.Fatal(err)
	}
	slots := d.slots(t, p, signatures, len(texts))
	gotKeys := d.slots(t, lsh.Params{Sketch: lsh.Curator64, NumBands: p.NumBands, MinhashesPerBand: 1}, keys, len(texts))
	n := p.NumHashes()
	faults := 0
	for i, text := range texts {
		want := r.Sign(text)
		for j, v := range slots[i*n : (i+1)*n] {
			if v != want[j] {
				t.Errorf("text %d (%d bytes, %.40q): slot %d is %#x, want %#x", i, len(text), text, j, v, want[j])
				faults++
				break
			}
		}
		for band, key := range r.BandKeys(want) {
			if got := gotKeys[band*len(texts)+i]; got != key {
				t.Errorf("text %d (%d bytes, %.40q): key of band %d is %#x, want %#x", i, len(text), text, band, got, key)
				faults++
				break
			}
		}
		if faults > 10 {
			t.Fatal("and so on")
		}
	}
}

// part signs rows from the middle of a larger column, with data behind the last of them.
func (d *Device) part(t *testing.T) {
	texts := Texts()
	column := d.column(t, texts)
	defer column.Release()
	for _, sketch := range lsh.Sketches() {
		p := lsh.DefaultParams()
		p.Sketch = sketch
		k := d.open(t, p)
		first, rows := 8, 11 // 8, so that the validity bits start at a byte
		offsets, err := column.Offsets.Slice(first*8, (first+rows+1)*8)
		if err != nil {
			t.Fatal(err)
		}
		valid, err := column.Valid.Slice(first/8, column.Valid.Len())
		if err != nil {
			t.Fatal(err)
		}
		middle := &mem.Strings{Rows: rows, Offsets: offsets, Data: column.Data.Retain(), Valid: valid}
		d.compare(t, k, middle, texts[first:first+rows])
		middle.Release()
	}
}

func (d *Device) noRows(t *testing.T) {
	for _, p := range parameters()[:1] {
		d.signAndCompare(t, p, nil)
	}
}

// bandKeys makes keys of signatures that no text has.
func (d *Device) bandKeys(t *testing.T) {
	for _, p := range parameters() {
		k := d.open(t, p)
		const rows = 37
		raw := make([]byte, p.SignatureBytes(rows))
		x := uint64(1)
		for i := range raw {
			x = x*6364136223846793005 + 1442695040888963407
			raw[i] = byte(x >> 56)
		}
		signatures, out := d.alloc(t, len(raw)), d.alloc(t, p.BandKeyBytes(rows))
		d.upload(t, signatures, raw)
		fence, err := k.BandKeys(context.Background(), signatures, rows, out)
		if err != nil {
			t.Fatal(err)
		}
		if err := fence.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		r, err := lsh.NewReference(p)
		if err != nil {
			t.Fatal(err)
		}
		slots := d.slots(t, p, signatures, rows)
		keys := d.slots(t, lsh.Params{Sketch: lsh.Curator64, NumBands: p.NumBands, MinhashesPerBand: 1}, out, rows)
		n := p.NumHashes()
		for i := range rows {
			for band, want := range r.BandKeys(slots[i*n : (i+1)*n]) {
				if got := keys[band*rows+i]; got != want {
					t.Fatalf("%s: key of band %d of row %d is %#x, want %#x", name(p), band, i, got, want)
				}
			}
		}
		signatures.Release()
		out.Release()
	}
}

func (d *Device) faults(t *testing.T) {
	bad := lsh.Params{Sketch: "sha"}
	if k, err := d.New(bad); !errors.Is(err, lsh.ErrParams) || k != nil {
		t.Errorf("New with invalid parameters returns %v, %v", k, err)
	}
	p := lsh.DefaultParams()
	k := d.open(t, p)
	if k.Params() != p || k.Tier() != d.Alloc.Tier() {
		t.Errorf("kernels have parameters %+v and tier %s", k.Params(), k.Tier())
	}
	texts := [][]byte{[]byte("one"), []byte("two"), nil}
	column := d.column(t, texts)
	defer column.Release()
	good, small := d.alloc(t, p.SignatureBytes(3)), d.alloc(t, p.SignatureBytes(3)-1)
	defer good.Release()
	defer small.Release()
	keys, fewKeys := d.alloc(t, p.BandKeyBytes(3)), d.alloc(t, p.BandKeyBytes(3)-1)
	defer keys.Release()
	defer fewKeys.Release()
	disk := mem.NewHostBuffer(mem.TierDisk, make([]byte, p.SignatureBytes(3)), nil)
	short := *column
	short.Rows = 1000
	elsewhere := *column
	elsewhere.Data = disk
	ctx := context.Background()
	for what, err := range map[string]error{
		"no texts":             second(k.Sign(ctx, nil, good)),
		"too few offsets":      second(k.Sign(ctx, &short, good)),
		"texts elsewhere":      second(k.Sign(ctx, &elsewhere, good)),
		"no output":            second(k.Sign(ctx, column, nil)),
		"output too small":     second(k.Sign(ctx, column, small)),
		"output elsewhere":     second(k.Sign(ctx, column, disk)),
		"no signatures":        second(k.BandKeys(ctx, nil, 3, keys)),
		"signatures too small": second(k.BandKeys(ctx, small, 3, keys)),
		"signatures elsewhere": second(k.BandKeys(ctx, disk, 3, keys)),
		"negative rows":        second(k.BandKeys(ctx, good, -1, keys)),
		"no keys":              second(k.BandKeys(ctx, good, 3, nil)),
		"keys too small":       second(k.BandKeys(ctx, good, 3, fewKeys)),
	} {
		if !errors.Is(err, lsh.ErrColumn) {
			t.Errorf("%s: error %v, want one that wraps %v", what, err, lsh.ErrColumn)
		}
	}
}

func second(_ mem.Fence, err error) error { return err }

// cancelled gives a context that has ended: the call or its fence must say so, or the work be done.
func (d *Device) cancelled(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	p := lsh.DefaultParams()
	k := d.open(t, p)
	column := d.column(t, [][]byte{unit2([]byte("text "), 10000)})
	defer column.Release()
	out := d.alloc(t, p.SignatureBytes(1))
	defer out.Release()
	fence, err := k.Sign(ctx, column, out)
	if err == nil {
		err = fence.Wait(ctx)
		// The device may still be at work on the buffers.
		_ = fence.Wait(context.Background())
	}
	if err != nil && !errors.Is(err, cause) && !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the cause of the context's end", err)
	}
}

func (d *Device) open(t *testing.T, p lsh.Params) lsh.Kernels {
	t.Helper()
	k, err := d.New(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return k
}

func (d *Device) alloc(t *testing.T, n int) *mem.Buffer {
	t.Helper()
	b, err := d.Alloc.Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	// Leave nothing right there by chance.
	rubbish := make([]byte, n)
	for i := range rubbish {
		rubbish[i] = 0xdb
	}
	d.upload(t, b, rubbish)
	return b
}

func (d *Device) upload(t *testing.T, b *mem.Buffer, data []byte) {
	t.Helper()
	if err := d.Upload(b, data); err != nil {
		t.Fatal(err)
	}
}

// column makes a column on the device. A nil text is null.
func (d *Device) column(t *testing.T, texts [][]byte) *mem.Strings {
	t.Helper()
	offsets, data, valid := layout(texts)
	s := &mem.Strings{Rows: len(texts), Offsets: d.alloc(t, len(offsets)), Data: d.alloc(t, len(data)), Valid: d.alloc(t, len(valid))}
	d.upload(t, s.Offsets, offsets)
	d.upload(t, s.Data, data)
	d.upload(t, s.Valid, valid)
	return s
}

// layout returns the three buffers of a column. The first text does not start at 0, and a null has bytes, as
// Arrow allows: what counts is its validity.
func layout(texts [][]byte) (offsets, data, valid []byte) {
	data = append(data, "before"...)
	valid = make([]byte, (len(texts)+7)/8)
	offsets = binary.NativeEndian.AppendUint64(offsets, uint64(len(data)))
	for i, text := range texts {
		if text == nil {
			data = append(data, "null"...)
		} else {
			data = append(data, text...)
			valid[i/8] |= 1 << (i % 8)
		}
		offsets = binary.NativeEndian.AppendUint64(offsets, uint64(len(data)))
	}
	return offsets, append(data, "behind"...), valid
}

// slots downloads a column of signatures and widens its slots.
func (d *Device) slots(t *testing.T, p lsh.Params, b *mem.Buffer, rows int) []uint64 {
	t.Helper()
	words := make([]uint64, (p.SignatureBytes(rows)+7)/8) // aligned for either width
	raw := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), p.SignatureBytes(rows))
	if err := d.Download(raw, b); err != nil {
		t.Fatal(err)
	}
	if p.SlotBytes() == 8 {
		return words
	}
	out := make([]uint64, 0, rows*p.NumHashes())
	for i := 0; i < len(raw); i += 4 {
		out = append(out, uint64(binary.NativeEndian.Uint32(raw[i:])))
	}
	return out
}

func name(p lsh.Params) string {
	return fmt.Sprintf("%s-%dx%d-%d", p.Sketch, p.NumBands, p.MinhashesPerBand, p.CharNgrams)
}
