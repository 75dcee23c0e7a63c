package curator

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// survivors returns the values of n in the files of a folder, by file.
func survivors(t testing.TB, dir string) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	for path, data := range files(t, dir) {
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		out[rel] = []string{}
		if filepath.Ext(path) == ".parquet" {
			out[rel] = readTable(t, path, "n")["n"]
			continue
		}
		for line := range strings.Lines(data) {
			var d struct{ N json.Number }
			if err := json.Unmarshal([]byte(line), &d); err != nil {
				t.Fatal(err)
			}
			out[rel] = append(out[rel], d.N.String())
		}
	}
	return out
}

// What was identified is removed: everything else stays, in its file and place.
func TestRemove(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	for _, format := range []string{"jsonl", "parquet"} {
		p := smallParams(corpusFolder(t, rng, 250, 5, format, false))
		dir := t.TempDir()
		fuzzy, exact := p.workflows(t, dir, Exec{Workers: 2})
		for stage, want := range map[string]int64{FuzzyIDsDir: fuzzy.NumDuplicates, ExactIDsDir: exact.NumDuplicates} {
			gone := make(map[string]bool)
			for path := range files(t, filepath.Join(dir, "out", stage)) {
				for _, id := range readTable(t, path)[IDColumn] {
					gone[id] = true
				}
			}
			if int64(len(gone)) != want || want == 0 {
				t.Errorf("%s: %d ids, want %d", stage, len(gone), want)
			}
			before := survivors(t, p.Input)
			var names []string
			for name := range before {
				names = append(names, name)
			}
			slices.Sort(names)
			o := RemoveOptions{
				Exec: Exec{Workers: 2, Ranks: 2, SplitBytes: 3000}, InputOptions: InputOptions{Inputs: []string{p.Input}},
				Output: filepath.Join(dir, stage), IDsToRemove: []string{filepath.Join(dir, "out", stage)},
			}
			res, err := Remove(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if res.NumRemoved != want || res.Unmatched != 0 || res.Kept+res.NumRemoved != res.Documents {
				t.Errorf("%s: %+v, want %d removed", stage, res, want)
			}
			after := survivors(t, o.Output)
			for i, name := range names {
				var keep []string
				for row, n := range before[name] {
					if !gone[fmt.Sprint(i<<32|row)] {
						keep = append(keep, n)
					}
				}
				if !slices.Equal(after[name], keep) {
					t.Errorf("%s: %s: %v, want %v", stage, name, after[name], keep)
				}
			}
			if len(after) != len(before) {
				t.Errorf("%s: %d files, want %d", stage, len(after), len(before))
			}
			if again, err := Remove(t.Context(), o); err != nil || !again.AlreadyDone || again.Kept != res.Kept {
				t.Errorf("%s: again: %+v (%v)", stage, again, err)
			}
		}
	}
}

// Curator's cases: two of five, none, no match, all, and ids of one's own, integers or strings.
func TestRemoveByOwnIDs(t *testing.T) {
	in := filepath.Join(t.TempDir(), "in")
	for f := range 2 {
		writeTable(t, filepath.Join(in, fmt.Sprintf("%d.parquet", f)), 3, func(tb *table, i int) {
			n := int64(10*f + i)
			tb.int(0, n)
			tb.string(1, []byte("text"))
			tb.string(2, fmt.Appendf(nil, "id-%d", n))
		}, field{"n", kindInt64}, field{"text", kindString}, field{"name", kindString})
	}
	for _, c := range []struct {
		field, ids string
		unmatched  int64
		want       string
	}{
		{"n", "1 12", 0, "[0 2] [10 11]"}, {"n", "", 0, "[0 1 2] [10 11 12]"}, {"n", "3 99 -7", 3, "[0 1 2] [10 11 12]"},
		{"n", "0 1 2 10 11 12", 0, "[] []"}, {"name", "id-1 id-12 id-3", 1, "[0 2] [10 11]"}, {"n", "1 1 1", 0, "[0 2] [10 11 12]"},
	} {
		dir := t.TempDir()
		list := strings.Fields(c.ids)
		k := kindInt64
		if c.field == "name" {
			k = kindString
		}
		writeTable(t, filepath.Join(dir, "ids", "part.0.parquet"), len(list), func(tb *table, i int) {
			if k == kindString {
				tb.string(0, []byte(list[i]))
				return
			}
			var n int64
			if _, err := fmt.Sscan(list[i], &n); err != nil {
				t.Fatal(err)
			}
			tb.int(0, n)
		}, field{"id", k})
		o := RemoveOptions{
			Exec: Exec{Ranks: 2, Workers: 2}, InputOptions: InputOptions{Inputs: []string{in}, IDField: c.field},
			Output: filepath.Join(dir, "out"), IDsToRemove: []string{filepath.Join(dir, "ids")}, DuplicateIDField: "id",
		}
		res, err := Remove(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		got := survivors(t, o.Output)
		if s := fmt.Sprint(got["0.parquet"], got["1.parquet"]); strings.Trim(fmt.Sprint(s), " ") != c.want || res.Unmatched != c.unmatched {
			t.Errorf("%+v: %s, %+v", c, s, res)
		}
	}
}

// Ids that were made from another input are refused, and nothing is left.
func TestRemoveStrangers(t *testing.T) {
	dir := t.TempDir()
	s := "text"
	writeJSONL(t, filepath.Join(dir, "in", "a.jsonl"), []*string{&s, &s})
	for id, says := range map[int64]string{1 << 32: "no such document", 5: "row 5 (counted from 0) is to be removed", -1: "no such document"} {
		ids := filepath.Join(dir, fmt.Sprint(id))
		writeTable(t, filepath.Join(ids, "part.0.parquet"), 1, func(tb *table, _ int) { tb.int(0, id) }, field{IDColumn, kindInt64})
		o := RemoveOptions{InputOptions: InputOptions{Inputs: []string{filepath.Join(dir, "in")}}, Output: filepath.Join(dir, "out"), IDsToRemove: []string{ids}}
		o.Work = filepath.Join(dir, fmt.Sprint("work", id))
		_, err := Remove(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("id %d: %v", id, err)
		}
		if _, err := os.Stat(o.Output); err == nil {
			t.Errorf("id %d left an output", id)
		}
	}
}
