package curator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// writeJSONL writes documents as JSON Lines; nil is a null.
func writeJSONL(t testing.TB, path string, texts []*string) {
	t.Helper()
	var b bytes.Buffer
	for i, s := range texts {
		line, err := json.Marshal(map[string]any{"text": s, "n": i})
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	writeFile(t, path, b.Bytes())
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// writeTable writes a Parquet file with the package's own writer; row fills row i.
func writeTable(t testing.TB, path string, rows int, row func(tb *table, i int), fields ...field) {
	t.Helper()
	var b bytes.Buffer
	tb, err := newTable(&b, fields...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		row(tb, i)
		if err := tb.next(50_000, 1<<22); err != nil {
			t.Fatal(err)
		}
	}
	if err := tb.close(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, b.Bytes())
}

// writeParquet writes documents as Parquet, in the columns n and text.
func writeParquet(t testing.TB, path string, texts []*string) {
	t.Helper()
	writeTable(t, path, len(texts), func(tb *table, i int) {
		tb.int(0, int64(i))
		if texts[i] == nil {
			tb.null(1)
		} else {
			tb.string(1, []byte(*texts[i]))
		}
	}, field{"n", kindInt64}, field{"text", kindString})
}

// readTable returns columns of a Parquet file, all if none are named, every value as a string: numbers, strings, [1 2 3]
// and <nil>.
func readTable(t testing.TB, path string, columns ...string) map[string][]string {
	t.Helper()
	f, err := openTable(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	out := make(map[string][]string)
	for col := range f.schema().NumColumns() {
		c := f.schema().Column(col)
		name := c.ColumnPath()[0]
		if len(columns) > 0 && !slices.Contains(columns, name) {
			continue
		}
		out[name] = []string{}
		signed := true
		if l, ok := c.LogicalType().(schema.IntLogicalType); ok {
			signed = l.IsSigned()
		}
		for g := range f.groups() {
			cur, err := f.open(g, col)
			if err != nil {
				t.Fatal(err)
			}
			for range f.groupRows(g) {
				var v any
				switch {
				case c.MaxRepetitionLevel() > 0:
					list := []string{}
					null, err := cur.each(func(x uint64) error {
						if signed {
							list = append(list, fmt.Sprint(int64(x)))
						} else {
							list = append(list, fmt.Sprint(x))
						}
						return nil
					})
					if err != nil {
						t.Fatal(err)
					}
					if !null {
						v = list
					}
				case c.PhysicalType() == parquet.Types.ByteArray:
					b, err := cur.bytes()
					if err != nil {
						t.Fatal(err)
					}
					v = string(b)
				default:
					n, err := cur.int()
					if err != nil {
						t.Fatal(err)
					}
					v = n
				}
				out[name] = append(out[name], fmt.Sprint(v))
			}
		}
	}
	return out
}

// files returns the contents of all files below folders, without manifests, by their path.
func files(t testing.TB, dirs ...string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.IsDir() || d.Name() == manifestName {
				return err
			}
			data, err := os.ReadFile(path)
			out[path] = string(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// makeTexts invents documents in several scripts: new ones, copies, edited copies, short ones, empty ones and nulls.
func makeTexts(rng *rand.Rand, n int, huge bool) []*string {
	scripts := []string{
		"the quick brown fox jumps over the lazy dog while a deck of cards is cut and shuffled",
		"данные повторяются и каждый документ сравнивается с другими", "数据 去重 的 文档 每一句 都要 比较 一个字 也不能少", "😀 🂡 🂢 🃟 👩‍👩‍👧 🇪🇺 ✓",
		"μία σύντομη πρόταση για δοκιμή", "ข้อความ ภาษาไทย ที่ ไม่มี ช่องว่าง", "é è ü ñ ß ø",
	}
	var words [][]string
	for _, s := range scripts {
		words = append(words, strings.Fields(s))
	}
	var all []string
	out := make([]*string, n)
	for i := range out {
		w := words[rng.IntN(len(words))]
		var s string
		switch k := rng.IntN(20); {
		case k == 0:
			all = append(all, "")
			s = ""
		case k == 1:
			continue
		case k < 6 && len(all) > 0:
			s = all[rng.IntN(len(all))]
		case k < 12 && len(all) > 0:
			f := strings.Split(all[rng.IntN(len(all))], " ")
			f[rng.IntN(len(f))] = w[rng.IntN(len(w))]
			s = strings.Join(f, " ")
		default:
			size := 1 + rng.IntN(80)
			if rng.IntN(8) == 0 {
				size = 1 // shorter than a window
			}
			if huge && i == n/2 {
				size = 200_000 // about a megabyte
			}
			var b strings.Builder
			for range size {
				b.WriteString(w[rng.IntN(len(w))])
				b.WriteByte(' ')
			}
			s = b.String()
		}
		all = append(all, s)
		out[i] = &s
	}
	return out
}

// corpusFolder writes documents as some files in nested folders and returns the folder.
func corpusFolder(t testing.TB, rng *rand.Rand, docs, files int, format string, huge bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "in")
	texts := makeTexts(rng, docs, huge)
	for i := range files {
		n := len(texts)
		if i < files-1 {
			n = rng.IntN(2*len(texts)/(files-i) + 1)
		}
		path := filepath.Join(dir, fmt.Sprintf("d%d", i%3), fmt.Sprintf("f%02d.%s", i, format))
		if format == "parquet" {
			writeParquet(t, path, texts[:n])
		} else {
			writeJSONL(t, path, texts[:n])
		}
		texts = texts[n:]
	}
	return dir
}
