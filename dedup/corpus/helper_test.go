package corpus

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dovetail-dedup/dovetail/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// row is a document as a test sees it.
type row struct {
	Ord  uint64
	Text string
	Null bool
	Keep uint64
	Int  int64
	Str  string
}

func mustResolve(t testing.TB, fsys FS, o Options, inputs ...string) *Set {
	t.Helper()
	s, err := Resolve(context.Background(), fsys, inputs, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readSplit reads a split with a leak-checked allocator and checks every batch.
func readSplit(t testing.TB, s *Set, sp Split, o ReadOptions) ([]row, error) {
	t.Helper()
	checked := mem.NewChecked(nil, mem.Host())
	o.Alloc = checked
	rows, err := readWith(t, s, sp, o)
	if leaks := checked.Leaks(); leaks != "" {
		t.Error(leaks)
	}
	return rows, err
}

func readWith(t testing.TB, s *Set, sp Split, o ReadOptions) (rows []row, err error) {
	t.Helper()
	r, err := s.Open(sp, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := r.Close(); cerr != nil && err == nil {
			err = cerr
		}
	}()
	for {
		b, err := r.Next(context.Background())
		if err == io.EOF {
			if _, again := r.Next(context.Background()); again != io.EOF {
				t.Errorf("Next after the end: %v", again)
			}
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		checkBatch(t, b, o)
		for i, ord := range b.Ord {
			x := row{Ord: ord}
			if b.Text.Data != nil {
				x.Text, x.Null = string(b.Text.At(i)), b.Text.IsNull(i)
			}
			if b.Keep != nil {
				x.Keep = b.Keep[i]
			}
			if b.IDs != nil && b.IDs.Kind == IntIDs {
				x.Int = b.IDs.Int[i]
			} else if b.IDs != nil {
				x.Str = string(b.IDs.String.At(i))
			}
			rows = append(rows, x)
		}
		b.Release()
	}
}

func checkBatch(t testing.TB, b *Batch, o ReadOptions) {
	t.Helper()
	if len(b.Ord) == 0 {
		t.Fatal("an empty batch")
	}
	if o.BatchRows > 0 && len(b.Ord) > o.BatchRows {
		t.Errorf("a batch of %d rows, %d allowed", len(b.Ord), o.BatchRows)
	}
	if b.Text.Data != nil {
		if err := b.Text.Check(); err != nil {
			t.Fatal(err)
		}
		if b.Text.Rows != len(b.Ord) {
			t.Fatalf("%d texts, %d ordinals", b.Text.Rows, len(b.Ord))
		}
		if n := b.Text.OffsetValues()[len(b.Ord)]; o.BatchBytes > 0 && n > o.BatchBytes && len(b.Ord) > 1 {
			t.Errorf("a batch of %d bytes and %d rows, %d bytes allowed", n, len(b.Ord), o.BatchBytes)
		}
	}
	if b.Keep != nil && len(b.Keep) != len(b.Ord) {
		t.Fatalf("%d keep values, %d ordinals", len(b.Keep), len(b.Ord))
	}
}

// readAll reads all splits of a set.
func readAll(t testing.TB, s *Set, target int64, o ReadOptions) []row {
	t.Helper()
	return readEach(t, s, target, func() ReadOptions { return o })
}

// readEach is readAll with options for each split.
func readEach(t testing.TB, s *Set, target int64, o func() ReadOptions) []row {
	t.Helper()
	splits, err := s.Splits(context.Background(), target)
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for _, sp := range splits {
		part, err := readSplit(t, s, sp, o())
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, part...)
	}
	if !slices.IsSortedFunc(rows, func(a, b row) int { return int(int64(a.Ord) - int64(b.Ord)) }) {
		t.Error("the ordinals do not ascend")
	}
	return rows
}

func writeFile(t testing.TB, name, data string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// keepOf is the keep key of a number in expected.json.
func keepOf(v any) uint64 {
	switch v := v.(type) {
	case float64:
		return floatKey(v)
	case string:
		if v == "-inf" {
			return floatKey(math.Inf(-1))
		}
		return floatKey(math.Inf(1))
	}
	return 0
}

var errTest = errors.New("test error")

func wantError(t testing.TB, err, is error, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", text)
	}
	if !errors.Is(err, is) {
		t.Errorf("%q does not wrap %q", err, is)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("error\n%s\nwant\n%s", err, text)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q has more than one line", err)
	}
}

// these yields ordinals for ReadOptions.Select.
func these(ords ...uint64) func() (uint64, bool, error) {
	return func() (uint64, bool, error) {
		if len(ords) == 0 {
			return 0, false, nil
		}
		ord := ords[0]
		ords = ords[1:]
		return ord, true, nil
	}
}
