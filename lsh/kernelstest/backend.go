package kernelstest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// RunBackend is the conformance suite of lsh.Backend: everything is compared bit for bit with lsh.Reference. open makes backends
// that the suite closes.
func RunBackend(t *testing.T, open func(p lsh.Params) (lsh.Backend, error)) {
	d := &Device{Alloc: mem.NewChecked(t, mem.Host())}
	d.Upload = func(dst *mem.Buffer, src []byte) error { copy(dst.Bytes(), src); return nil }
	b := &backendSuite{d, open}
	t.Run("Texts", b.texts)
	t.Run("Wanted", b.wanted)
	t.Run("Again", b.again)
	t.Run("Faults", b.faults)
	t.Run("Cancelled", b.cancelled)
}

type backendSuite struct {
	*Device
	make func(p lsh.Params) (lsh.Backend, error)
}

func (s *backendSuite) backend(t *testing.T, p lsh.Params) lsh.Backend {
	t.Helper()
	b, err := s.make(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if b.Params() != p {
		t.Errorf("the backend has parameters %+v", b.Params())
	}
	return b
}

func (s *backendSuite) texts(t *testing.T) {
	texts := append(Texts(), bytes.Repeat([]byte("a text of more bytes than others have. "), 900))
	for _, sketch := range lsh.Sketches() {
		p := lsh.DefaultParams()
		p.Sketch = sketch
		t.Run(name(p), func(t *testing.T) {
			column := s.column(t, texts)
			defer column.Release()
			s.check(t, s.backend(t, p), column, texts, true, true)
		})
	}
}

// check computes what is wanted and compares it.
func (s *backendSuite) check(t *testing.T, b lsh.Backend, column *mem.Strings, texts [][]byte, signatures, keys bool) {
	t.Helper()
	p, ctx := b.Params(), context.Background()
	var sigs, ks *mem.Buffer
	if signatures {
		sigs = s.alloc(t, p.SignatureBytes(len(texts)))
		defer sigs.Release()
	}
	if keys {
		ks = s.alloc(t, p.BandKeyBytes(len(texts)))
		defer ks.Release()
	}
	fence, err := b.Start(ctx, column, sigs, ks)
	if err != nil {
		t.Fatal(err)
	}
	if err := fence.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if !fence.Done() {
		t.Error("the fence is not done after Wait")
	}
	r, err := lsh.NewReference(p)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		want := r.Sign(text)
		if signatures {
			var raw []byte
			for _, v := range want {
				if p.SlotBytes() == 8 {
					raw = binary.NativeEndian.AppendUint64(raw, v)
				} else {
					raw = binary.NativeEndian.AppendUint32(raw, uint32(v))
				}
			}
			if !bytes.Equal(sigs.Bytes()[i*len(raw):(i+1)*len(raw)], raw) {
				t.Fatalf("text %d (%d bytes, %.40q): its signature is wrong", i, len(text), text)
			}
		}
		if keys {
			for band, key := range r.BandKeys(want) {
				if got := mem.Uint64s(ks)[band*len(texts)+i]; got != key {
					t.Fatalf("text %d (%d bytes, %.40q): key of band %d is %#x, want %#x", i, len(text), text, band, got, key)
				}
			}
		}
	}
}

// wanted asks for one of the two, for neither, and for those of no texts and of texts without validity.
func (s *backendSuite) wanted(t *testing.T) {
	b := s.backend(t, lsh.DefaultParams())
	texts := [][]byte{[]byte("the first"), nil, {}, []byte("the last of these four texts")}
	column := s.column(t, texts)
	defer column.Release()
	for i := range 4 {
		s.check(t, b, column, texts, i&1 > 0, i&2 > 0)
	}
	none := s.column(t, nil)
	defer none.Release()
	s.check(t, b, none, nil, true, true)
	texts[1] = []byte("null") // what layout puts there
	all := *column
	all.Valid = nil
	s.check(t, b, &all, texts, true, true)
}

// again uses a backend for columns of many shapes, one after the other.
func (s *backendSuite) again(t *testing.T) {
	p := lsh.Params{Sketch: lsh.Fast, NumBands: 3, MinhashesPerBand: 5, CharNgrams: 7, Seed: 9}
	b := s.backend(t, p)
	for n := range 12 {
		var texts [][]byte
		for i := range n * n {
			texts = append(texts, unit2(fmt.Appendf(nil, "text %d of %d, ", i, n), i%(3*n+1)*n))
		}
		column := s.column(t, texts)
		s.check(t, b, column, texts, n%2 == 0, true)
		column.Release()
	}
}

func (s *backendSuite) faults(t *testing.T) {
	if b, err := s.make(lsh.Params{Sketch: "sha"}); !errors.Is(err, lsh.ErrParams) || b != nil {
		t.Errorf("made with invalid parameters: %v, %v", b, err)
	}
	p := lsh.DefaultParams()
	b := s.backend(t, p)
	column := s.column(t, [][]byte{[]byte("one"), []byte("two")})
	defer column.Release()
	sigs, keys := s.alloc(t, p.SignatureBytes(2)), s.alloc(t, p.BandKeyBytes(2))
	small := s.alloc(t, p.BandKeyBytes(2)-1)
	defer sigs.Release()
	defer keys.Release()
	defer small.Release()
	disk := mem.NewHostBuffer(mem.TierDisk, make([]byte, p.SignatureBytes(2)), nil)
	short := *column
	short.Rows = 1000
	ctx := context.Background()
	for what, err := range map[string]error{
		"no texts":           second(b.Start(ctx, nil, sigs, keys)),
		"too few offsets":    second(b.Start(ctx, &short, sigs, keys)),
		"signatures small":   second(b.Start(ctx, column, small, keys)),
		"keys small":         second(b.Start(ctx, column, sigs, small)),
		"signatures on disk": second(b.Start(ctx, column, disk, keys)),
		"keys on disk":       second(b.Start(ctx, column, nil, disk)),
	} {
		if !errors.Is(err, lsh.ErrColumn) {
			t.Errorf("%s: error %v, want one that wraps %v", what, err, lsh.ErrColumn)
		}
	}
	s.check(t, b, column, [][]byte{[]byte("one"), []byte("two")}, true, true) // it still works
}

// cancelled ends the context before, and between Start and Wait.
func (s *backendSuite) cancelled(t *testing.T) {
	cause := errors.New("enough")
	p := lsh.DefaultParams()
	b := s.backend(t, p)
	texts := [][]byte{unit2([]byte("text "), 10000), []byte("and another")}
	column := s.column(t, texts)
	defer column.Release()
	keys := s.alloc(t, p.BandKeyBytes(2))
	defer keys.Release()
	for _, early := range []bool{true, false} {
		ctx, cancel := context.WithCancelCause(context.Background())
		if early {
			cancel(cause)
		}
		fence, err := b.Start(ctx, column, nil, keys)
		cancel(cause)
		if err == nil {
			err = fence.Wait(ctx)
		}
		if err != nil && !errors.Is(err, cause) && !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want the cause of the context's end", err)
		}
	}
	s.check(t, b, column, texts, true, true) // it still works
}
