package dedup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// checkAnnotated compares annotated/ with what the verdicts say, byte for byte. The documents of the corpus come behind
// those of so many reference files.
func (c testCorpus) checkAnnotated(t fataler, out string, ref testCorpus, s Spec, verdicts map[uint64]Verdict) {
	t.Helper()
	docs := c.orderedFrom(len(ref))
	for ord, d := range ref.ordered() {
		docs[ord] = d
	}
	sizes := make(map[uint64]int)
	for _, v := range verdicts {
		sizes[v.Kept]++
	}
	id := func(ord uint64) string {
		if s.IDField != "" {
			return strconv.FormatInt(docs[ord].ID, 10)
		}
		return strconv.FormatUint(ord, 10)
	}
	text := func(ord uint64) string {
		if docs[ord].Text == nil {
			return ""
		}
		return *docs[ord].Text
	}
	sorted := slices.Clone(c)
	paths := make([]string, len(c))
	for i := range c {
		paths[i] = fileName(i, c[i])
	}
	slices.Sort(paths)
	for i := range c {
		at, _ := slices.BinarySearch(paths, fileName(i, c[i]))
		sorted[at] = c[i]
	}
	for i, path := range paths {
		var want bytes.Buffer
		for row, d := range sorted[i] {
			if d.bad != "" {
				continue
			}
			line, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			ord := corpus.Ordinal(len(ref)+i, int64(row))
			v, removed, kept, similarity, evidence := verdicts[ord], "false", "null", "null", "null"
			if v.Kept != ord {
				removed, kept, evidence = "true", id(v.Kept), `"candidate"`
				switch {
				case v.Union > 0:
					evidence = `"jaccard"`
					if similarity = strconv.FormatFloat(float64(v.Intersection)/float64(v.Union), 'g', -1, 64); similarity == "1" {
						similarity = "1.0"
					}
				case text(ord) == text(v.Kept):
					similarity, evidence = "1.0", `"exact"`
				}
			}
			fmt.Fprintf(&want, `%s,"dovetail_removed":%s,"dovetail_kept_id":%s,"dovetail_cluster_size":%d,"dovetail_similarity":%s,"dovetail_evidence":%s}`+"\n",
				line[:len(line)-1], removed, kept, sizes[v.Kept], similarity, evidence)
		}
		got, err := os.ReadFile(filepath.Join(out, "annotated", filepath.FromSlash(path)))
		if isCut(sorted[i]) && os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Fatal(fmt.Sprintf("%s: got\n%s\nwant\n%s", path, got, want.Bytes()))
		}
	}
}
