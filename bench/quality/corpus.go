package quality

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/lsh"
)

// Pair is a document and its perturbed copy.
type Pair struct {
	Original int64   // id
	Copy     int64   // id
	Jaccard  float64 // exact similarity of the two
	Kind     string  // what was done to the copy
}

// Corpus is documents with known pairs among them.
type Corpus struct {
	Texts []string // by id
	Pairs []Pair
	Ngram int // width of the windows that Jaccard is about
}

// Make takes up to docs texts from the files below root and makes a perturbed copy of each. Windows are of width
// code points. The result depends on the files, the seed and the numbers alone.
func Make(root string, docs, width int, seed uint64) (*Corpus, error) {
	paths, err := choose(root, docs, seed)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(data))
	}
	return FromTexts(texts, width, seed)
}

// FromTexts makes a perturbed copy of each of texts, which are best unlike each other. Windows are of width code points. The
// result depends on the arguments alone.
func FromTexts(texts []string, width int, seed uint64) (*Corpus, error) {
	windows, err := lsh.NewWindows(width)
	if err != nil {
		return nil, err
	}
	c := &Corpus{Ngram: width}
	rng := rand.New(rand.NewPCG(seed, 1))
	var hashes []uint64
	for _, text := range texts {
		kind := kinds[rng.IntN(len(kinds))]
		// A window survives if none of its words is touched; rates are drawn so that similarities spread out.
		copied := perturb(rng, text, kind, 0.03*rng.Float64())
		windows.Set([]byte(text))
		hashes = windows.Hashes(hashes[:0])
		windows.Set([]byte(copied))
		id := int64(len(c.Texts))
		c.Texts = append(c.Texts, text, copied)
		c.Pairs = append(c.Pairs, Pair{
			Original: id, Copy: id + 1, Kind: kind, Jaccard: windows.Overlap(hashes).Jaccard(),
		})
	}
	return c, nil
}

// choose returns the files with the smallest hashes among those of a useful size.
func choose(root string, docs int, seed uint64) ([]string, error) {
	type file struct {
		hash uint64
		path string
	}
	var files []file
	seen := make(map[uint64]bool) // contents
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Size() < 400 || info.Size() > 40<<10 {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || !utf8.Valid(data) || strings.ContainsRune(string(data), 0) || seen[xxh3.Hash(data)] {
			return err
		}
		seen[xxh3.Hash(data)] = true
		files = append(files, file{xxh3.HashStringSeed(filepath.ToSlash(rel), seed), path})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b file) int {
		if a.hash < b.hash {
			return -1
		}
		return 1
	})
	var out []string
	for _, f := range files[:min(docs, len(files))] {
		out = append(out, f.path)
	}
	if len(out) < docs {
		return nil, fmt.Errorf("quality: %s has %d texts of 400 bytes to 40 KiB, %d were asked for", root, len(out), docs)
	}
	return out, nil
}

var kinds = []string{"replace", "delete", "insert", "move", "case", "mixed"}

// perturb changes about rate of the words of a text.
func perturb(rng *rand.Rand, text, kind string, rate float64) string {
	words := strings.SplitAfter(text, " ")
	out := make([]string, 0, len(words))
	changed := false
	for i, w := range words {
		if rng.Float64() >= rate && (changed || i < len(words)-1) {
			out = append(out, w)
			continue
		}
		changed = true // at least the last word, so that no copy is identical
		k := kind
		if k == "mixed" {
			k = kinds[rng.IntN(len(kinds)-1)]
		}
		other := words[rng.IntN(len(words))]
		switch k {
		case "replace":
			out = append(out, other+"~ ")
		case "delete":
		case "insert":
			out = append(out, w, other)
		case "move":
			at := rng.IntN(len(out) + 1)
			out = slices.Insert(out, at, w)
		case "case":
			out = append(out, swapCase(w))
		}
	}
	return strings.Join(out, "")
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsUpper(r) {
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, s)
}

// document is a line of the corpus.
type document struct {
	ID   int64  `json:"id"`
	Text string `json:"text"`
}

// Write writes the corpus as JSON Lines, in an order in which originals and copies are mixed.
func (c *Corpus) Write(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	order := rand.New(rand.NewPCG(uint64(len(c.Texts)), 2)).Perm(len(c.Texts))
	for _, i := range order {
		if err := enc.Encode(document{int64(i), c.Texts[i]}); err != nil {
			return err
		}
	}
	return w.Flush()
}
