package corpus

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
)

// capped refuses what is absurd for the small files of these tests.
type capped struct {
	mem.Allocator
	most int
}

func (c capped) Alloc(n int) (*mem.Buffer, error) {
	if n > c.most {
		return nil, fmt.Errorf("%d bytes asked for: %w", n, errAbsurd)
	}
	return c.Allocator.Alloc(n)
}

var errAbsurd = errors.New("absurd allocation")

// useAll does everything that can be done with a file and returns the first error.
func useAll(t testing.TB, data []byte, name string) error {
	t.Helper()
	fsys := newMemFS(nil)
	fsys.put(name, data)
	s, err := Resolve(t.Context(), fsys, []string{name}, Options{})
	if err != nil {
		return err
	}
	checked := mem.NewChecked(nil, capped{mem.Host(), 16 << 20})
	splits, err := s.Splits(t.Context(), 1)
	for _, sp := range splits {
		if err == nil {
			_, err = readWith(t, s, sp, ReadOptions{Alloc: checked, BatchRows: 10})
		}
	}
	_, werr := s.Rewrite(t.Context(), 0, keepers["odd"], Sink{W: io.Discard, Alloc: checked, Kept: func(int64, []byte, bool) error { return nil }})
	if leaks := checked.Leaks(); leaks != "" {
		t.Error(leaks)
	}
	if errors.Is(err, errAbsurd) || errors.Is(werr, errAbsurd) {
		t.Errorf("%v, %v", err, werr)
	}
	return firstError(err, werr)
}

// checkFault makes sure that an error is of the kind a user can act on.
func checkFault(t testing.TB, err error, name string) {
	t.Helper()
	var fe *FileError
	if !errors.As(err, &fe) || fe.Name != name || strings.Contains(err.Error(), "\n") || len(err.Error()) > 3000 {
		t.Errorf("%q", err)
	}
}

func TestParquetDamaged(t *testing.T) {
	rounds := 15
	if testing.Short() {
		rounds = 5
	}
	for _, name := range []string{
		"plain_none_v1", "dict_snappy_v1", "dict_lz4_v2", "plain_gzip_v2", "plain_brotli_v1", "delta_byte_array_v1", "delta_length_byte_array_v2", "fallback_v1",
		"duckdb_v2_zstd", "wide_pages",
	} {
		data, err := os.ReadFile(fixturePath(name + ".parquet"))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(11, 12))
			noticed := 0
			try := func(data []byte) {
				if err := useAll(t, data, "x.parquet"); err != nil {
					noticed++
					checkFault(t, err, "x.parquet")
				}
			}
			for range rounds {
				try(data[:rnd.IntN(len(data))])
			}
			if noticed != rounds {
				t.Errorf("%d of %d cut files noticed", noticed, rounds)
			}
			for range rounds {
				bent := append([]byte(nil), data...)
				for range 1 + rnd.IntN(3) {
					bent[rnd.IntN(len(bent))] = byte(rnd.IntN(256))
				}
				try(bent)
				// The footer is where lengths are.
				bent = append(bent[:0], data...)
				bent[len(bent)-1-rnd.IntN(min(len(bent), 2000))] ^= 1 << rnd.IntN(8)
				try(bent)
				// A hole, as a disk leaves it.
				bent = append(bent[:0], data...)
				at := 4 + rnd.IntN(len(bent)-4)
				clear(bent[at:min(len(bent), at+100)])
				try(bent)
			}
			t.Logf("%d of %d damaged files noticed", noticed, 4*rounds)
		})
	}
	for _, data := range []string{"", "PAR1", "PAR1PAR1", "PAR1\x00\x00\x00\x00PAR1", "PAR1\xff\xff\xff\xffPAR1", "PAR1\x08\x00\x00\x00PARE", doc} {
		err := useAll(t, []byte(data), "x.parquet")
		checkFault(t, err, "x.parquet")
		wantError(t, err, ErrCorrupt, "x.parquet: ")
	}
}
