package corpus

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"

	"github.com/dovetail-dedup/dovetail/mem"
)

// metered knows the most bytes that were held at one time.
type metered struct {
	mem.Allocator
	held, peak atomic.Int64
}

func (m *metered) Alloc(n int) (*mem.Buffer, error) {
	b, err := m.Allocator.Alloc(n)
	if err != nil {
		return nil, err
	}
	if held := m.held.Add(int64(n)); held > m.peak.Load() {
		m.peak.Store(held)
	}
	return mem.NewHostBuffer(mem.TierHost, b.Bytes(), func(*mem.Buffer) {
		m.held.Add(-int64(n))
		b.Release()
	}), nil
}

// A row group of many pages, and one of a single page larger than everything else, are read in small batches. What is
// held depends on neither where the codec decompresses piece by piece, and on the page where it cannot.
func TestParquetBounds(t *testing.T) {
	const docs, size = 200, 40_000 // 10 MB with the long one
	rnd := rand.New(rand.NewPCG(13, 14))
	texts := make([]string, docs)
	long := prose(rnd, 2<<20)
	for i := range texts {
		n := size/2 + rnd.IntN(size)
		at := rnd.IntN(len(long) - n)
		texts[i] = long[at : at+n]
	}
	texts[docs/2] = long
	total := int64(0)
	for _, s := range texts {
		total += int64(len(s))
	}
	for _, c := range []struct {
		codec   compress.Compression
		version parquet.DataPageVersion
		perPage int
		whole   bool // a page is decompressed at once
	}{
		{compress.Codecs.Uncompressed, parquet.DataPageV1, docs, false}, {compress.Codecs.Zstd, parquet.DataPageV2, docs, false},
		{compress.Codecs.Gzip, parquet.DataPageV1, docs, false}, {compress.Codecs.Snappy, parquet.DataPageV1, docs, true},
		{compress.Codecs.Lz4Raw, parquet.DataPageV2, docs, true}, {compress.Codecs.Snappy, parquet.DataPageV1, 20, false},
	} {
		if testing.Short() && c.codec != compress.Codecs.Snappy {
			continue
		}
		data := makeTexts(t, texts, c.codec, c.perPage, c.version)
		fsys := newMemFS(nil)
		fsys.put("x.parquet", data)
		s := mustResolve(t, fsys, Options{}, "x.parquet")
		m := &metered{Allocator: mem.Host()}
		o := ReadOptions{Alloc: m, BatchBytes: 256 << 10}
		got, err := readWith(t, s, Split{}, o)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range got {
			if r.Text != texts[i] {
				t.Fatalf("%s: row %d is %d bytes, want %d", c.codec, i, len(r.Text), len(texts[i]))
			}
		}
		bound := int64(8 << 20)
		if c.whole {
			bound = 2*total + 4<<20
		}
		if len(got) != docs || m.held.Load() != 0 || m.peak.Load() > bound {
			t.Errorf("%s, %d texts to a page: %d rows, %d bytes not given back, a peak of %d bytes, bound %d",
				c.codec, c.perPage, len(got), m.held.Load(), m.peak.Load(), bound)
		}
		t.Logf("%s, %d texts to a page: %d bytes of text, a peak of %d", c.codec, c.perPage, total, m.peak.Load())
		if c.version == parquet.DataPageV1 {
			checkLimit(t, s, m.peak.Load())
		}
	}
}

// checkLimit finds a limit that does by following what the reader says, as a user would.
func checkLimit(t *testing.T, s *Set, peak int64) {
	t.Helper()
	o := ReadOptions{BatchBytes: 256 << 10, MaxBytes: 1 << 20}
	for range 10 {
		_, err := readSplit(t, s, Split{}, o)
		if err == nil {
			if o.MaxBytes > 3*peak {
				t.Errorf("a limit of %d was asked for, a peak of %d seen", o.MaxBytes, peak)
			}
			return
		}
		var tl *TooLargeError
		if !errors.As(err, &tl) || tl.Limit != o.MaxBytes || tl.Need <= o.MaxBytes || !errors.Is(err, mem.ErrNoMemory) {
			t.Fatalf("limit %d: %v", o.MaxBytes, err)
		}
		o.MaxBytes = tl.Need
	}
	t.Errorf("a limit of %d does not do", o.MaxBytes)
}

// An allocator that refuses ends the reading with its error, whoever was asking.
func TestRefusedMemory(t *testing.T) {
	for _, name := range []string{"dict_snappy_v1", "plain_none_v2", "delta_byte_array_v1"} {
		s := mustResolve(t, Local(), fixtureOptions, fixturePath(name+".parquet"))
		for limit := int64(0); ; limit += 700 {
			if limit > 1<<20 {
				t.Fatalf("%s cannot be read with %d bytes", name, limit)
			}
			b := mem.NewBudget(limit + 1)
			_, err := readSplit2(t, s, b.Within("read", mem.Host()))
			if b.Stats().Used != 0 {
				t.Fatalf("%s: %d bytes not given back", name, b.Stats().Used)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, mem.ErrNoMemory) || errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s, %d bytes: %v", name, limit, err)
			}
		}
		_, err := s.Rewrite(t.Context(), 0, keepers["odd"], Sink{W: &failAfter{1 << 30}, Alloc: mem.NewBudget(2000).Within("write", mem.Host())})
		if !errors.Is(err, mem.ErrNoMemory) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func readSplit2(t *testing.T, s *Set, a mem.Allocator) ([]row, error) {
	t.Helper()
	return readWith(t, s, Split{}, ReadOptions{Alloc: a})
}
