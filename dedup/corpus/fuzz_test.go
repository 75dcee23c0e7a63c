package corpus

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/mem"
)

// Whatever the bytes of a file, what can be done with it ends in rows or in an error that names it; in memory that
// follows the size of the file, not what the file says of itself.

// heapAllocs returns the bytes that were ever allocated on the heap.
func heapAllocs() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// heapBound is what using a file of n bytes may allocate, over and over, on the heap: windows of decompressors, levels
// and values of batches, footers. A zstd file may ask for a window of 128 MiB. Decoded pages and lines come from an allocator with a bound of its own.
func heapBound(n int) uint64 { return 1<<30 + 4000*uint64(n) }

// exercise does everything that can be done with a file, under several options, and checks what must be true of it.
func exercise(t *testing.T, name string, data []byte, options ...Options) {
	t.Helper()
	before := heapAllocs()
	for _, o := range options {
		err := useWith(t, data, name, o)
		if err != nil {
			checkFault(t, err, name)
		}
		o.SkipFiles, o.SkipRecords = true, true
		lax := useWith(t, data, name, o)
		if lax != nil {
			checkFault(t, lax, name)
			if _, bad := BadFile(lax); !bad {
				t.Errorf("records are left out, and %v", lax)
			}
		}
		if err == nil && lax != nil {
			t.Errorf("without leaving out anything no error, else %v", lax)
		}
	}
	bound := heapBound(len(data)) * uint64(len(options))
	if strings.HasSuffix(name, ".zst") {
		bound += 64 * maxWindow // of as many readers, one after another, each of which may take one window
	}
	if used := heapAllocs() - before; used > bound {
		t.Errorf("%d bytes of a file took %d of memory", len(data), used)
	}
}

// useWith reads and rewrites a file and returns the first error.
func useWith(t *testing.T, data []byte, name string, o Options) error {
	t.Helper()
	fsys := newMemFS(nil)
	fsys.put(name, data)
	s, err := Resolve(t.Context(), fsys, []string{name}, o)
	if err != nil {
		return err
	}
	checked := mem.NewChecked(nil, capped{mem.Host(), 64 << 20})
	defer func() {
		if leaks := checked.Leaks(); leaks != "" {
			t.Error(leaks)
		}
	}()
	fine := ReadOptions{Alloc: checked, BatchRows: 10, Verify: true}
	whole, bad, err := readBoth(t, s, Split{}, fine)
	splits, serr := s.Splits(t.Context(), 1)
	if s.Files[0].Bad != "" {
		return nil // nothing to be had
	}
	var parts []row
	var partsBad []Bad
	for _, sp := range splits {
		if serr == nil {
			var rows []row
			var b []Bad
			rows, b, serr = readBoth(t, s, sp, fine)
			parts, partsBad = append(parts, rows...), append(partsBad, b...)
		}
	}
	keep := func(row int64) bool {
		return row%2 == 1 && !slices.ContainsFunc(bad, func(b Bad) bool { return b.Ord == Ordinal(0, row) })
	}
	var parsed bytes.Buffer
	_, werr := s.Rewrite(t.Context(), 0, keep, Sink{W: &parsed, Alloc: checked, Kept: func(int64, []byte, bool) error { return nil }})
	if err == nil && werr == nil && s.Format == JSONL {
		copyLines(t, s, data, keep, parsed.Bytes())
	}
	if errors.Is(err, errAbsurd) || errors.Is(serr, errAbsurd) || errors.Is(werr, errAbsurd) {
		t.Errorf("%v, %v, %v", err, serr, werr)
	}
	if (err == nil) != (serr == nil) {
		t.Errorf("whole: %v; in splits: %v", err, serr)
	}
	if err == nil && serr == nil && (!slices.Equal(whole, parts) || !slices.Equal(bad, partsBad)) {
		t.Errorf("whole\n%v %v\nin splits\n%v %v", whole, bad, parts, partsBad)
	}
	if err == nil && o.SkipFiles && o.Format != JSONL && s.Format == Parquet && werr != nil {
		t.Errorf("it was verified, and rewriting says %v", werr)
	}
	return firstError(err, serr, werr)
}

// copyLines copies a file of JSON Lines by the hashes of its bytes, and its lines by theirs.
func copyLines(t *testing.T, s *Set, data []byte, keep func(int64) bool, parsed []byte) {
	t.Helper()
	var sums []ByteSum
	if _, _, err := readBoth(t, s, Split{}, ReadOptions{Bytes: func(b ByteSum) { sums = append(sums, b) }}); err != nil {
		t.Fatal(err)
	}
	var whole, lines bytes.Buffer
	if _, err := s.Copy(t.Context(), 0, sums, &whole); err != nil || !bytes.Equal(whole.Bytes(), data) {
		t.Errorf("%d bytes of %d were copied: %v", whole.Len(), len(data), err)
	}
	_, err := s.Rewrite(t.Context(), 0, keep, Sink{W: &lines, Line: func(int64, uint64) error { return nil }})
	if err != nil || !bytes.Equal(lines.Bytes(), parsed) {
		t.Errorf("unlike lines that are parsed: %v", err)
	}
}

// readBoth reads the documents of a split and the records that are left out.
func readBoth(t *testing.T, s *Set, sp Split, o ReadOptions) (rows []row, bad []Bad, err error) {
	t.Helper()
	r, err := s.Open(sp, o)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = firstError(err, r.Close()) }()
	for {
		b, err := r.Next(t.Context())
		if err == io.EOF {
			return rows, bad, nil
		}
		if err != nil {
			return rows, bad, err
		}
		bad = append(bad, b.Bad...)
		for i, ord := range b.Ord {
			x := row{Ord: ord, Text: string(b.Text.At(i)), Null: b.Text.IsNull(i)}
			if b.Keep != nil {
				x.Keep = b.Keep[i]
			}
			if b.IDs != nil && b.IDs.Kind.Ints() {
				x.Int = b.IDs.Int[i]
			} else if b.IDs != nil {
				x.Str = string(b.IDs.String.At(i))
			}
			rows = append(rows, x)
		}
		b.Release()
	}
}

var (
	plainOptions = Options{}
	richOptions  = Options{IDField: "id", KeepField: "score"}
)

func fixtureData(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(fixturePath(name + ".parquet"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// FuzzParquetOpen bends whole files, footers above all.
func FuzzParquetOpen(f *testing.F) {
	for _, name := range []string{"plain_none_v1", "dict_snappy_v2", "delta_byte_array_v1", "duckdb_v1_lz4", "empty", "required"} {
		f.Add(fixtureData(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) { exercise(t, "x.parquet", data, plainOptions, richOptions) })
}

// FuzzParquetPages overwrites some bytes of good files, so that the footer is mostly sound and the pages are not.
func FuzzParquetPages(f *testing.F) {
	names := []string{
		"plain_none_v1", "plain_zstd_v2", "plain_gzip_v1", "plain_brotli_v2", "dict_snappy_v1", "dict_lz4_v2", "delta_byte_array_v1",
		"delta_length_byte_array_v2", "fallback_v1", "wide_none", "wide_v2", "duckdb_v2_snappy", "int96",
	}
	files := make([][]byte, len(names))
	for i, name := range names {
		files[i] = fixtureData(f, name)
		f.Add(uint8(i), uint32(4), []byte{0x15, 0xff, 0xff, 0xff, 0xff, 0x0f}, uint32(600), []byte{0})
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint32, patch []byte, at2 uint32, patch2 []byte) {
		data := bytes.Clone(files[int(which)%len(files)])
		copy(data[int(at)%len(data):], patch)
		copy(data[int(at2)%len(data):], patch2)
		exercise(t, "x.parquet", data, plainOptions, richOptions)
	})
}

// FuzzJSONL reads JSON Lines, plain and as compressed by this test.
func FuzzJSONL(f *testing.F) {
	for _, s := range []string{
		"", "\n\n", "{}", `{"text":"a"}`, "\xef\xbb\xbf" + `{"text":"a\u00e9\ud83d\ude00","id":1,"score":1.5}` + "\r\n" + `{"text":null,"id":2}`,
		`{"text":"a","id":"x"}` + "\n" + `{"text":["a"],"id":1}` + "\n" + `{"id":"y","score":1e400}`, "[\n1\n]", `{"text":"a","id":9223372036854775808,"score":-1e-500}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { exercise(t, "x.jsonl", data, plainOptions, richOptions) })
}

// FuzzGzip and FuzzZstd read compressed files of any bytes.
func FuzzGzip(f *testing.F) {
	for _, s := range []string{"", "{}\n", `{"text":"a","id":1}` + "\n" + `{"text":"b","id":2}` + "\n"} {
		f.Add([]byte(gzipped(f, s)))
		f.Add([]byte(gzipped(f, s, s, "")))
	}
	f.Fuzz(func(t *testing.T, data []byte) { exercise(t, "x.jsonl.gz", data, plainOptions, richOptions) })
}

func FuzzZstd(f *testing.F) {
	for _, s := range []string{"", "{}\n", `{"text":"a","id":1}` + "\n" + `{"text":"b","id":2}` + "\n"} {
		f.Add([]byte(zstded(f, s)))
		f.Add([]byte(zstded(f, s, s, "")))
	}
	f.Fuzz(func(t *testing.T, data []byte) { exercise(t, "x.jsonl.zst", data, plainOptions, richOptions) })
}

// FuzzFiles reads files that are a document each: their text is their bytes.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(""), []byte("a\xff\x00"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		s := mustResolve(t, newMemFS(map[string]string{"d/a": string(a), "d/b.txt": string(b)}), Options{Format: Files}, "d")
		got := readAll(t, s, 1, ReadOptions{})
		if len(got) != 2 || got[0].Text != string(a) || got[1].Text != string(b) {
			t.Errorf("%v", got)
		}
	})
}
