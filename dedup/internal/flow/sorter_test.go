package flow

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSorter(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		kind := RowKind{
			Width: rapid.IntRange(1, 4).Draw(t, "width"), Blob: rapid.Bool().Draw(t, "blob"), Distinct: rapid.Bool().Draw(t, "distinct"),
		}
		kind.Keys = rapid.SliceOfNDistinct(rapid.IntRange(0, kind.Width-1), 1, kind.Width, rapid.ID[int]).Draw(t, "keys")
		if kind.Blob {
			kind.ByBytes = rapid.Bool().Draw(t, "by bytes")
		}
		type row struct {
			words []uint64
			blob  string
		}
		s := NewSorter(dir, kind, rapid.Int64Range(1, 4000).Draw(t, "limit"))
		compare := func(a, b row) int { return kind.compare(a.words, []byte(a.blob), b.words, []byte(b.blob)) }
		defer s.Close()
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "rows"), 0))
		var want []row
		for range rapid.IntRange(0, 600).Draw(t, "n") {
			r := row{words: make([]uint64, kind.Width)}
			for i := range r.words {
				r.words[i] = rng.Uint64N(12) << (8 * rng.IntN(8))
			}
			if kind.Blob {
				r.blob = strings.Repeat("b", rng.IntN(20))
			}
			if err := s.Add(r.words, []byte(r.blob)); err != nil {
				t.Fatal(err)
			}
			if s.rows > 1 && s.held() > s.Limit+int64(len(r.blob)+BlobBlock) {
				t.Fatalf("%d bytes are held, the limit is %d", s.held(), s.Limit)
			}
			want = append(want, r)
		}
		slices.SortFunc(want, func(a, b row) int { return cmp.Or(compare(a, b), slices.Compare(a.words, b.words)) })
		if kind.Distinct {
			want = slices.CompactFunc(want, func(a, b row) bool { return compare(a, b) == 0 })
		}
		for range 2 {
			var got []row
			err := s.Each(context.Background(), func(words []uint64, blob []byte) error {
				got = append(got, row{slices.Clone(words), string(blob)})
				return nil
			})
			if err != nil || len(got) != len(want) {
				t.Fatalf("%d rows, want %d (%v)", len(got), len(want), err)
			}
			for i := range got {
				if compare(got[i], want[i]) != 0 {
					t.Fatalf("row %d is %v, want %v", i, got[i].words, want[i].words)
				}
			}
			if !kind.Distinct { // the same rows, whatever the order of equal ones
				all := func(rows []row) []string {
					var out []string
					for _, r := range rows {
						out = append(out, fmt.Sprint(r))
					}
					slices.Sort(out)
					return out
				}
				if !slices.Equal(all(got), all(want)) {
					t.Fatal("the rows are not those that were added")
				}
			}
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v left behind (%v)", left, err)
	}
}

// A scratch file that does not give back what was written is noticed.
func TestSorterNoticesDamage(t *testing.T) {
	s := NewSorter(t.TempDir(), RowKind{Width: 1, Keys: []int{0}}, 1000)
	defer s.Close()
	for i := range uint64(200) {
		if err := s.Add([]uint64{i}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Cursor(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.levels[0].file.WriteAt([]byte{1}, 11); err != nil {
		t.Fatal(err)
	}
	c, err := s.Cursor()
	if err != nil {
		t.Fatal(err)
	}
	for c.Next() {
	}
	if c.Err == nil {
		t.Error("a changed byte was not noticed")
	}
}

// However few keys fit, passes find what one table would.
func TestPasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type rec struct {
			key uint64
			ref Ref
		}
		recs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) rec {
			return rec{rapid.Uint64Range(0, 40).Draw(t, "key"), Ref{Keep: rapid.Uint64Range(0, 2).Draw(t, "keep"), Ord: rapid.Uint64Range(0, 60).Draw(t, "ord")}}
		}), 0, 200).Draw(t, "records")
		want := make(map[uint64]Ref)
		for _, r := range recs {
			if old, ok := want[r.key]; !ok || r.ref.Before(old) {
				want[r.key] = r.ref
			}
		}
		limit := rapid.IntRange(1, 50).Draw(t, "limit")
		seen := 0
		err := Smallest(limit, PassHash, func(row func(uint64, Ref) error) error {
			for _, r := range recs {
				if err := row(r.key, r.ref); err != nil {
					return err
				}
			}
			return nil
		}, func(k uint64, _, least Ref) error {
			seen++
			if least != want[k] {
				return fmt.Errorf("the smallest of %d is %v, want %v", k, least, want[k])
			}
			return nil
		}, func(keys int) {
			if keys > limit {
				t.Errorf("%d keys are held, the limit is %d", keys, limit)
			}
		})
		if err != nil || seen != len(recs) {
			t.Fatalf("%d of %d records seen (%v)", seen, len(recs), err)
		}
	})
}
