package kernelstest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/dovetail-dedup/dovetail/lsh"
	"github.com/dovetail-dedup/dovetail/mem"
)

// RunPairs is the conformance suite of lsh.PairBackend: all counts are compared with those of sets of windows that are strings.
// open makes backends that the suite closes.
func RunPairs(t *testing.T, open func(charNgrams int) (lsh.PairBackend, error)) {
	d := &Device{Alloc: mem.NewChecked(t, mem.Host())}
	d.Upload = func(dst *mem.Buffer, src []byte) error { copy(dst.Bytes(), src); return nil }
	s := &pairSuite{d, open}
	t.Run("Texts", s.texts)
	t.Run("Again", s.again)
	t.Run("Faults", s.faults)
	t.Run("Cancelled", s.cancelled)
}

type pairSuite struct {
	*Device
	make func(charNgrams int) (lsh.PairBackend, error)
}

func (s *pairSuite) backend(t *testing.T, width int) lsh.PairBackend {
	t.Helper()
	b, err := s.make(width)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if b.CharNgrams() != width {
		t.Errorf("the backend has windows of %d", b.CharNgrams())
	}
	return b
}

// windows is the set of a text's windows, by the definition.
func windows(text []byte, width int) map[string]bool {
	var starts []int
	for at := range string(text) { // one byte is one code point where the bytes are no valid encoding
		starts = append(starts, at)
	}
	set := make(map[string]bool)
	if len(starts) == 0 {
		return set
	}
	starts = append(starts, len(text))
	for i := 0; i == 0 || i+width < len(starts); i++ {
		set[string(text[starts[i]:starts[min(i+width, len(starts)-1)]])] = true
	}
	return set
}

// compare compares pairs of the texts that are loaded.
func (s *pairSuite) compare(t *testing.T, b lsh.PairBackend, texts [][]byte, sets []map[string]bool, pairs [][2]int) {
	t.Helper()
	n := len(pairs)
	in, out := s.alloc(t, 8*n), s.alloc(t, 16*n)
	defer in.Release()
	defer out.Release()
	for i, p := range pairs {
		mem.Uint32s(in)[i], mem.Uint32s(in)[n+i] = uint32(p[0]), uint32(p[1])
	}
	for i := range out.Bytes() {
		out.Bytes()[i] = 0xee
	}
	ctx := context.Background()
	fence, err := b.Compare(ctx, in, n, out)
	if err != nil {
		t.Fatal(err)
	}
	if err := fence.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	for i, p := range pairs {
		x, y := sets[p[0]], sets[p[1]]
		both := 0
		for w := range x {
			if y[w] {
				both++
			}
		}
		inter, union := mem.Uint64s(out)[i], mem.Uint64s(out)[n+i]
		if inter != uint64(both) || union != uint64(len(x)+len(y)-both) {
			t.Fatalf("windows of %d: texts %d (%.30q) and %d (%.30q): %d of %d, want %d of %d", b.CharNgrams(), p[0], texts[p[0]], p[1], texts[p[1]],
				inter, union, both, len(x)+len(y)-both)
		}
	}
}

// near returns texts with others that are much like them.
func near() [][]byte {
	texts := Texts()
	for _, t := range Texts() {
		if len(t) > 40 {
			texts = append(texts, append(append(bytes.Clone(t[:len(t)/2]), "x"...), t[len(t)/2:]...), t[:len(t)-7], t[5:])
		}
	}
	return append(texts, []byte("\xe4\xb8"), []byte("\xe4\xb8\xad"), []byte("\xe4\xb8\xad\xe4\xb8"))
}

func (s *pairSuite) texts(t *testing.T) {
	texts := near()
	widths := []int{1, 2, 3, 5, 8, 13, 24, 40, 300}
	if thin() {
		widths = []int{1, 3, 24}
	}
	for _, width := range widths {
		b := s.backend(t, width)
		column := s.column(t, texts)
		sets := make([]map[string]bool, len(texts))
		for i, text := range texts {
			sets[i] = windows(text, width)
		}
		if err := b.Load(context.Background(), column); err != nil {
			t.Fatal(err)
		}
		var pairs [][2]int
		for i := range texts {
			pairs = append(pairs, [2]int{i, i}, [2]int{i, (i + 1) % len(texts)}, [2]int{i, (i * 7) % len(texts)}, [2]int{(i * 11) % len(texts), i})
			if i >= len(Texts()) {
				pairs = append(pairs, [2]int{i - 1, i}, [2]int{i, i - 2})
			}
		}
		s.compare(t, b, texts, sets, pairs)
		if err := b.Load(context.Background(), s.none(t)); err != nil { // the column is free
			t.Fatal(err)
		}
		column.Release()
	}
}

// none is a column without rows, that nobody has to release.
func (s *pairSuite) none(t *testing.T) *mem.Strings {
	c := s.column(t, nil)
	t.Cleanup(c.Release)
	return c
}

// again loads columns of many shapes, and compares several times.
func (s *pairSuite) again(t *testing.T) {
	b := s.backend(t, 6)
	for n := 1; n < 9; n++ {
		var texts [][]byte
		var sets []map[string]bool
		for i := range n * n {
			texts = append(texts, unit2([]byte("text number and so on, "[i%9:]), i%(3*n+1)*n))
			sets = append(sets, windows(texts[i], 6))
		}
		column := s.column(t, texts)
		if err := b.Load(context.Background(), column); err != nil {
			t.Fatal(err)
		}
		for k := range 4 {
			var pairs [][2]int
			for i := range k * n {
				pairs = append(pairs, [2]int{(i * 5) % len(texts), (i*3 + k) % len(texts)})
			}
			s.compare(t, b, texts, sets, pairs)
		}
		if err := b.Load(context.Background(), s.none(t)); err != nil {
			t.Fatal(err)
		}
		column.Release()
	}
}

func (s *pairSuite) faults(t *testing.T) {
	if b, err := s.make(0); !errors.Is(err, lsh.ErrParams) || b != nil {
		t.Errorf("made with windows of 0: %v, %v", b, err)
	}
	b := s.backend(t, 24)
	texts := [][]byte{[]byte("one"), []byte("two")}
	column := s.column(t, texts)
	short := *column
	short.Rows = 1000
	ctx := context.Background()
	pairs, out := s.alloc(t, 8), s.alloc(t, 16)
	defer pairs.Release()
	defer out.Release()
	mem.Uint32s(pairs)[0], mem.Uint32s(pairs)[1] = 0, 1
	for what, err := range map[string]error{
		"no texts":         b.Load(ctx, nil),
		"too few offsets":  b.Load(ctx, &short),
		"nothing loaded":   second(b.Compare(ctx, pairs, 1, out)),
		"too few pairs":    second(b.Compare(ctx, pairs, 2, out)),
		"a negative count": second(b.Compare(ctx, pairs, -1, out)),
	} {
		if !errors.Is(err, lsh.ErrColumn) {
			t.Errorf("%s: error %v, want one that wraps %v", what, err, lsh.ErrColumn)
		}
	}
	if err := b.Load(ctx, column); err != nil {
		t.Fatal(err)
	}
	mem.Uint32s(pairs)[1] = 2
	if _, err := b.Compare(ctx, pairs, 1, out); !errors.Is(err, lsh.ErrColumn) {
		t.Errorf("a text that is not there: %v", err)
	}
	s.compare(t, b, texts, []map[string]bool{windows(texts[0], 24), windows(texts[1], 24)}, [][2]int{{0, 1}, {1, 1}}) // it still works
	if err := b.Load(ctx, s.none(t)); err != nil {
		t.Fatal(err)
	}
	column.Release()
}

// cancelled ends the context before, and between Compare and Wait.
func (s *pairSuite) cancelled(t *testing.T) {
	cause := errors.New("enough")
	b := s.backend(t, 5)
	texts := [][]byte{unit2([]byte("text "), 10000), []byte("and another")}
	sets := []map[string]bool{windows(texts[0], 5), windows(texts[1], 5)}
	column := s.column(t, texts)
	for _, early := range []bool{true, false} {
		pairs, out := s.alloc(t, 8), s.alloc(t, 16)
		mem.Uint32s(pairs)[0], mem.Uint32s(pairs)[1] = 0, 1
		ctx, cancel := context.WithCancelCause(context.Background())
		if early {
			cancel(cause)
		}
		err := b.Load(ctx, column)
		if err == nil {
			var fence mem.Fence
			fence, err = b.Compare(ctx, pairs, 1, out)
			cancel(cause)
			if err == nil {
				err = fence.Wait(ctx)
			}
		}
		cancel(nil)
		if err != nil && !errors.Is(err, cause) && !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want the cause of the context's end", err)
		}
		pairs.Release()
		out.Release()
	}
	if err := b.Load(context.Background(), column); err != nil {
		t.Fatal(err)
	}
	s.compare(t, b, texts, sets, [][2]int{{0, 1}, {0, 0}}) // it still works
	if err := b.Load(context.Background(), s.none(t)); err != nil {
		t.Fatal(err)
	}
	column.Release()
}
