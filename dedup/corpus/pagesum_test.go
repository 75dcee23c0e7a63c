package corpus

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bodies returns the ranges of bytes of a Parquet file that are bodies of pages of any column.
func bodies(t *testing.T, data []byte) (out [][2]int64) {
	t.Helper()
	fsys := newMemFS(map[string]string{"x.parquet": string(data)})
	src, err := openSource(t.Context(), fsys, "x.parquet")
	if err != nil {
		t.Fatal(err)
	}
	p, err := readFooter(src, Options{TextField: "text"})
	if err != nil {
		t.Fatal(err)
	}
	for g := range p.meta.NumRowGroups() {
		for c := range p.meta.Schema.NumColumns() {
			meta, err := p.meta.RowGroup(g).ColumnChunk(c)
			if err != nil {
				t.Fatal(err)
			}
			for at, end := chunkStart(meta), chunkStart(meta)+meta.TotalCompressedSize(); at < end; {
				size, sum, n, ok := pageHeader(data[at:end])
				if !ok || sum == nil {
					t.Fatalf("no header with a checksum at %d", at)
				}
				out = append(out, [2]int64{at + int64(n), at + int64(n) + int64(size)})
				at += int64(n) + int64(size)
			}
		}
	}
	return out
}

func TestChecksumsOfPages(t *testing.T) {
	names, err := filepath.Glob("testdata/sums/*.parquet")
	if err != nil || len(names) != 5 {
		t.Fatal(names, err)
	}
	want := loadFixtures(t).want("plain_none_v1.parquet")
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, mustResolve(t, Local(), fixtureOptions, name), 1, ReadOptions{}); !slices.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
		pages := bodies(t, data)
		if len(pages) < 10 {
			t.Errorf("%s has %d pages", name, len(pages))
		}
		for _, p := range pages {
			if p[0] == p[1] {
				continue
			}
			bent := slices.Clone(data)
			bent[p[0]+rnd.Int64N(p[1]-p[0])] ^= 1 << rnd.IntN(8)
			fsys := newMemFS(map[string]string{"x.parquet": string(bent)})
			s := mustResolve(t, fsys, fixtureOptions, "x.parquet")
			_, err := readSplit(t, s, Split{}, ReadOptions{})
			wantError(t, err, ErrCorrupt, "the checksum does not match")
			_, werr := s.Rewrite(t.Context(), 0, keepers["odd"], Sink{W: io.Discard})
			wantError(t, werr, ErrCorrupt, "the checksum does not match")
			_, werr = s.Rewrite(t.Context(), 0, keepers["all"], Sink{W: io.Discard, Whole: true})
			wantError(t, werr, ErrCorrupt, "the checksum does not match")
			if !strings.Contains(err.Error(), "x.parquet: row group ") || !strings.Contains(err.Error(), ": column \"") {
				t.Errorf("%q does not name the place", err)
			}
		}
	}
}
