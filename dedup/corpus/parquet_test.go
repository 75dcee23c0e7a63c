package corpus

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// fixture is what testdata/gen.py says about a file.
type fixture struct {
	Rows, Groups, Columns int
	ArrowSchema           string `json:"arrow_schema"`
	Codec                 string
	Encodings             []string
	Text                  []*string // nil: the text of all
	Score                 []any
}

type fixtures struct {
	Text  []*string
	Score []any
	IDs   []int64 `json:"ids"`
	Files map[string]fixture
}

func loadFixtures(t testing.TB) *fixtures {
	t.Helper()
	data, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var f fixtures
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	return &f
}

// want returns the rows that a reader must find in a fixture.
func (f *fixtures) want(name string) []row {
	fx := f.Files[name]
	text, score := f.Text, f.Score
	if fx.Text != nil {
		text = fx.Text
	}
	if fx.Score != nil {
		score = fx.Score
	}
	var rows []row
	for i := range fx.Rows {
		r := row{Ord: Ordinal(0, int64(i)), Keep: keepOf(score[i]), Int: f.IDs[i], Null: text[i] == nil}
		if micros, ok := score[i].(float64); ok && name == "int96.parquet" {
			r.Keep = intKey(int64(micros) * 1000)
		}
		if text[i] != nil {
			r.Text = *text[i]
		}
		rows = append(rows, r)
	}
	return rows
}

var fixtureOptions = Options{KeepField: "score", IDField: "id"}

func fixturePath(name string) string { return filepath.Join("testdata", "parquet", name) }

func TestParquetFixtures(t *testing.T) {
	f := loadFixtures(t)
	for name, fx := range f.Files {
		t.Run(name, func(t *testing.T) {
			s := mustResolve(t, Local(), fixtureOptions, fixturePath(name))
			if got := s.Files[0].Rows; got != int64(fx.Rows) {
				t.Fatalf("%d rows, want %d", got, fx.Rows)
			}
			want := f.want(name)
			for _, o := range []ReadOptions{{}, {BatchRows: 7}, {BatchBytes: 50}, {BatchBytes: 1, BatchRows: 1}} {
				if got := readAll(t, s, 1, o); !slices.Equal(got, want) {
					t.Fatalf("%+v: got\n%v\nwant\n%v", o, got, want)
				}
			}
		})
	}
}

func TestParquetSelect(t *testing.T) {
	f := loadFixtures(t)
	for _, name := range []string{"wide_pages.parquet", "dict_snappy_v1.parquet", "delta_byte_array_v2.parquet", "all_null.parquet"} {
		s := mustResolve(t, Local(), fixtureOptions, fixturePath(name))
		for _, sel := range [][]int64{{}, {0}, {39}, {15, 16}, {3, 17, 20, 21, 38}, {0, 39, 50, 1 << 31}} {
			ords := []uint64{}
			var want []row
			for _, r := range sel {
				ords = append(ords, Ordinal(0, r))
				if r < 40 {
					want = append(want, f.want(name)[r])
				}
			}
			ords = append(ords, Ordinal(1, 0)) // of another file
			if got := readEach(t, s, 1, func() ReadOptions { return ReadOptions{Select: these(ords...)} }); !slices.Equal(got, want) {
				t.Errorf("%s: rows %v: got\n%v\nwant\n%v", name, sel, got, want)
			}
		}
	}
}

func TestParquetColumns(t *testing.T) {
	f := loadFixtures(t)
	s := mustResolve(t, Local(), fixtureOptions, fixturePath("dict_zstd_v2.parquet"))
	for _, c := range []Columns{ColumnText, ColumnKeep, ColumnID, ColumnKeep | ColumnID} {
		want := f.want("dict_zstd_v2.parquet")
		for i := range want {
			if c&ColumnText == 0 {
				want[i].Text, want[i].Null = "", false
			}
			if c&ColumnKeep == 0 {
				want[i].Keep = 0
			}
			if c&ColumnID == 0 {
				want[i].Int = 0
			}
		}
		if got := readAll(t, s, 1<<20, ReadOptions{Columns: c, BatchRows: 9}); !slices.Equal(got, want) {
			t.Errorf("columns %b: got\n%v\nwant\n%v", c, got, want)
		}
	}
}

// Every numeric column of the wide fixture orders documents as its values do.
func TestParquetKeepColumns(t *testing.T) {
	first := map[string][2]int64{ // column -> rows of which the first has the larger value
		"i8": {1, 0}, "u16": {39, 38}, "u64": {0, 2}, "f16": {3, 1}, "f32": {39, 36}, "flag": {0, 1}, "date": {1, 0},
		"ts_ms": {39, 0}, "ts_us": {39, 0}, "ts_ns": {39, 0}, "time": {23, 24}, "dur": {4, 3}, "dec": {39, 0}, "dec38": {39, 19},
		"meta.n": {9, 8}, "score": {0, 12}, "id": {39, 0},
	}
	for column, rows := range first {
		s := mustResolve(t, Local(), Options{KeepField: column}, fixturePath("wide_lz4.parquet"))
		got := readAll(t, s, 1<<20, ReadOptions{})
		if a, b := got[rows[0]].Keep, got[rows[1]].Keep; a <= b {
			t.Errorf("%s: row %d has %x, row %d has %x", column, rows[0], a, rows[1], b)
		}
		if column != "id" && column != "u16" && column != "score" && column != "flag" && got[2].Keep != 0 {
			t.Errorf("%s: null has %x", column, got[2].Keep)
		}
	}
	all := mustResolve(t, Local(), Options{KeepField: "none"}, fixturePath("wide_lz4.parquet"))
	for _, r := range readAll(t, all, 1, ReadOptions{}) {
		if r.Keep != 0 {
			t.Fatal("a column of nulls has a value")
		}
	}
}

func TestParquetTextColumns(t *testing.T) {
	for column, check := range map[string]func(i int, r row) error{
		"large": func(i int, r row) error { return wantText(r, i%5 == 2, fmt.Sprintf("L%d", i)) },
		"view":  func(i int, r row) error { return wantText(r, i%5 == 2, fmt.Sprintf("view of row %d", i)) },
		"cat":   func(i int, r row) error { return wantText(r, i%5 == 2, "abc"[i%3:i%3+1]) },
		"bin":   func(i int, r row) error { return wantText(r, i%5 == 2, string([]byte{byte(i), 0, 255})) },
		"none":  func(i int, r row) error { return wantText(r, true, "") },
		"meta.text": func(i int, r row) error {
			return wantText(r, i%5 == 2 || i%4 == 1, fmt.Sprintf("meta %d", i))
		},
	} {
		s := mustResolve(t, Local(), Options{TextField: column}, fixturePath("wide_pages.parquet"))
		for i, r := range readAll(t, s, 1, ReadOptions{}) {
			if err := check(i, r); err != nil {
				t.Errorf("%s: row %d: %v", column, i, err)
			}
		}
	}
}

func wantText(r row, null bool, text string) error {
	if null {
		text = ""
	}
	if r.Null != null || r.Text != text {
		return fmt.Errorf("got %q, null %v; want %q, null %v", r.Text, r.Null, text, null)
	}
	return nil
}

func TestParquetStringIDs(t *testing.T) {
	s := mustResolve(t, Local(), Options{IDField: "text"}, fixturePath("required.parquet"))
	if s.IDKind != StringIDs {
		t.Fatalf("kind %q", s.IDKind)
	}
	for _, r := range readAll(t, s, 1, ReadOptions{BatchRows: 3}) {
		if r.Str != r.Text {
			t.Fatalf("id %q of text %q", r.Str, r.Text)
		}
	}
	_, err := readSplit(t, mustResolve(t, Local(), Options{IDField: "text"}, fixturePath("plain_none_v1.parquet")), Split{}, ReadOptions{})
	wantError(t, err, ErrRecord, "plain_none_v1.parquet: row 4: its id is null")
}

func TestParquetWrongColumns(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{TextField: "body"}, `wide_none.parquet: no column "body"; the columns are text (string), id (int64), score (double), i8 (int8)`},
		{Options{TextField: "id"}, `column "id" has type int64 and cannot be a text`},
		{Options{TextField: "dec"}, `column "dec" has type decimal(precision=9, scale=2) and cannot be a text`},
		{Options{TextField: "fsb"}, `column "fsb" has type fixed_len_byte_array and cannot be a text`},
		{Options{TextField: "meta"}, `column "meta" has type struct and cannot be a text`},
		{Options{TextField: "tags.list.element"}, `column "tags.list.element" is inside a list or map`},
		{Options{KeepField: "text"}, `column "text" has type string and cannot be a value to compare documents by`},
		{Options{IDField: "score"}, `column "score" has type double and cannot be an id`},
		{Options{IDField: "date"}, `column "date" has type date and cannot be an id`},
	} {
		_, err := Resolve(t.Context(), Local(), []string{fixturePath("wide_none.parquet")}, c.o)
		wantError(t, err, ErrColumn, c.want)
	}
	_, err := Resolve(t.Context(), Local(), []string{fixturePath("wide_none.parquet"), fixturePath("required.parquet")},
		Options{TextField: "text", IDField: "id"})
	if err != nil {
		t.Error(err)
	}
	_, err = Resolve(t.Context(), Local(), []string{fixturePath("wide_none.parquet"), fixturePath("required.parquet")},
		Options{TextField: "large"})
	wantError(t, err, ErrColumn, `required.parquet: no column "large"; the columns are text (string), id (int64), score (double)`)
}
