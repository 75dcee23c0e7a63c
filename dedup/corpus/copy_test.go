package corpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// sumsOf reads a file in splits of about target bytes and returns what it was told of its bytes, in order.
func sumsOf(t testing.TB, s *Set, file int, target int64) (sums []ByteSum) {
	t.Helper()
	readEach(t, s, target, func() ReadOptions {
		return ReadOptions{BatchRows: 2, Bytes: func(b ByteSum) {
			if b.File == file {
				sums = append(sums, b)
			}
		}}
	})
	return sums
}

// copied are files of JSON Lines, of several members and frames, with lines that are no documents.
func copied(t testing.TB) (names []string, fsys *memFS) {
	t.Helper()
	plain := "\xef\xbb\xbf{\"text\":\"one\"}\r\n\n" + strings.Repeat("{\"text\":\"a line that is longer than others\",\"n\":1}\n", 30) + " \n{\"text\":null}"
	files := map[string]string{
		"a/gzip.jsonl.gz": gzipped(t, plain[:40], "", plain[40:]), "a/none.jsonl": "", "a/plain.jsonl": plain,
		"a/zstd.jsonl.zst": zstded(t, plain[:40], "", plain[40:]),
	}
	return []string{"a/gzip.jsonl.gz", "a/none.jsonl", "a/plain.jsonl", "a/zstd.jsonl.zst"}, newMemFS(files)
}

// A file is copied as it is, whatever the splits were in which it was read.
func TestCopy(t *testing.T) {
	names, fsys := copied(t)
	s := mustResolve(t, fsys, Options{}, "a")
	for _, target := range []int64{1 << 20, 300, 1} {
		for i := range s.Files {
			sums := sumsOf(t, s, i, target)
			var b bytes.Buffer
			n, err := s.Copy(t.Context(), i, sums, &b)
			if want := fsys.files[fsys.clean(names[i])].data; err != nil || !bytes.Equal(b.Bytes(), want) || n != int64(len(want)) {
				t.Errorf("%s: %d bytes of %d, %v", names[i], n, len(want), err)
			}
			if i == 2 && (len(sums) > 1) != (target < 1<<20) {
				t.Errorf("%d parts", len(sums))
			}
			for k := range sums {
				if _, err := s.Copy(t.Context(), i, slices.Delete(slices.Clone(sums), k, k+1), io.Discard); err == nil && s.Files[i].Size > 0 {
					t.Errorf("%s is copied without a hash of part %d", names[i], k)
				}
			}
		}
	}
	// Who does not read to the end is told nothing.
	one := true
	err := readFirst(t, s, ReadOptions{Select: func() (uint64, bool, error) {
		defer func() { one = false }()
		return Ordinal(0, 2), one, nil
	}, Bytes: func(b ByteSum) { t.Errorf("told of %+v", b) }})
	if err != nil {
		t.Error(err)
	}
}

func readFirst(t testing.TB, s *Set, o ReadOptions) error {
	rows, err := readSplit(t, s, Split{}, o)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%d rows", len(rows))
	}
	return err
}

// A byte that is another, anywhere, is noticed, and so is a file that ends too early.
func TestCopyChanged(t *testing.T) {
	names, fsys := copied(t)
	s := mustResolve(t, fsys, Options{}, "a")
	for i, name := range names {
		sums := sumsOf(t, s, i, 300)
		was := fsys.files[fsys.clean(name)].data
		for at := range was {
			b := slices.Clone(was)
			b[at] ^= 1 << (at % 8)
			fsys.put(name, b)
			_, err := s.Copy(t.Context(), i, sums, io.Discard)
			if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), name) {
				t.Fatalf("%s, byte %d: %v", name, at, err)
			}
		}
		if len(was) > 0 {
			fsys.put(name, was[:len(was)-1])
			if _, err := s.Copy(t.Context(), i, sums, io.Discard); !errors.Is(err, ErrChanged) {
				t.Errorf("%s, shorter: %v", name, err)
			}
		}
		fsys.put(name, was)
		if _, err := s.Copy(t.Context(), i, sums, &failingWriter{}); len(was) > 0 && !errors.Is(err, errFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Copy(ctx, 2, nil, io.Discard); err == nil {
		t.Error("copied without hashes")
	}
}

var errFull = errors.New("no space")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

// Lines that are known by their hashes are written like those that are parsed: the same bytes once decompressed, with and
// without columns that are added, and the hashes are those of the reader.
func TestRewriteLines(t *testing.T) {
	_, fsys := copied(t)
	s := mustResolve(t, fsys, Options{}, "a")
	columns, _ := addedOf()
	rng := rand.New(rand.NewPCG(3, 3))
	for i := range s.Files {
		hashes := make(map[int64]uint64)
		for _, w := range hashesOf(t, s, i) {
			_, row := SplitOrdinal(w.ord)
			hashes[row] = w.sum
		}
		for range 20 {
			mask := rng.Uint64()
			keep := func(row int64) bool { return mask>>(row%64)&1 == 1 }
			for _, add := range [][]Added{nil, columns} {
				var want, got bytes.Buffer
				wanted, err := s.Rewrite(t.Context(), i, keep, Sink{W: &want, Add: add, Kept: func(int64, []byte, bool) error { return nil }})
				if err != nil {
					t.Fatal(err)
				}
				lines := int64(0)
				done, err := s.Rewrite(t.Context(), i, keep, Sink{W: &got, Add: add, Line: func(row int64, sum uint64) error {
					if sum != hashes[row] {
						t.Errorf("%s, row %d: %x, the reader had %x", s.Files[i].Name, row, sum, hashes[row])
					}
					lines++
					return nil
				}})
				if err != nil || done != wanted || lines != done.Kept {
					t.Fatalf("%+v, %+v wanted, %d lines, %v", done, wanted, lines, err)
				}
				if !bytes.Equal(got.Bytes(), want.Bytes()) {
					t.Errorf("%s: other bytes", s.Files[i].Name)
				}
			}
		}
		wrong := errors.New("not what it was")
		if _, err := s.Rewrite(t.Context(), i, keepers["all"], Sink{W: io.Discard, Line: func(int64, uint64) error { return wrong }}); len(hashes) > 0 && !errors.Is(err, wrong) {
			t.Error(err)
		}
	}
}

type ordSum struct{ ord, sum uint64 }

func hashesOf(t testing.TB, s *Set, file int) (out []ordSum) {
	t.Helper()
	r, err := s.Open(Split{First: file, Last: file}, ReadOptions{Hash: func(int) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		b, err := r.Next(t.Context())
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, ord := range b.Ord {
			out = append(out, ordSum{ord, b.Hash[i]})
		}
		b.Release()
	}
}
