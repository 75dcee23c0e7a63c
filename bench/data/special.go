package data

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/dovetail-dedup/dovetail/bench/quality"
	"github.com/dovetail-dedup/dovetail/lsh"
)

// perturbedTexts is how many texts of prose get an edited copy.
const perturbedTexts = 4000

// perturbed writes texts of prose, and an edited copy of each whose source says what was done and how similar it is. The
// texts are unlike each other only as far as those of prose are.
func (m *maker) perturbed(s *Set) error {
	if err := Make(m.ctx, m.dir, []string{"prose"}, m.z, m.note); err != nil {
		return err
	}
	prose, err := Open(m.dir, "prose")
	if err != nil {
		return err
	}
	c, err := Perturb(prose, perturbedTexts)
	if err != nil {
		return err
	}
	docs := make([]Doc, len(c.Texts))
	for _, p := range c.Pairs {
		docs[p.Original] = Doc{fmt.Sprintf("original/%d", p.Original), c.Texts[p.Original]}
		docs[p.Copy] = Doc{fmt.Sprintf("%s/%.6f of %d", p.Kind, p.Jaccard, p.Original), c.Texts[p.Copy]}
	}
	s.Packages, s.Missing = prose.Packages, prose.Missing
	return s.write(m.dir, shuffled(docs))
}

// Perturb makes an edited copy of up to n texts of a set, of 1 to 40 kB each, with the windows of the default sketch.
func Perturb(set *Set, n int) (*quality.Corpus, error) {
	var texts []string
	err := set.Each(func(d Doc) bool {
		if len(d.Text) >= 1000 && len(d.Text) <= 40_000 {
			texts = append(texts, d.Text)
		}
		return len(texts) < n
	})
	if err != nil {
		return nil, err
	}
	return quality.FromTexts(texts, lsh.DefaultParams().CharNgrams, 1)
}

// stress returns documents of the kinds that programs stumble over, a fixed number of each beside the copies.
func stress(copies int) (docs []Doc) {
	rng := rand.New(rand.NewPCG(7, 7))
	words := vocabulary(rng, 20_000)
	sentence := func(n int) string {
		w := make([]string, n)
		for i := range w {
			w[i] = words[rng.IntN(len(words))]
		}
		return strings.Join(w, " ")
	}
	add := func(kind string, i int, text string) { docs = append(docs, Doc{fmt.Sprintf("%s/%d", kind, i), text}) }
	lengths := rand.NewZipf(rng, 1.4, 1, 20_000)
	for i := range 20_000 {
		add("zipf", i, sentence(1+int(lengths.Uint64())))
	}
	// One cluster: nine of ten are the same text, the tenth ends in another way.
	leader := sentence(200)
	for i := range copies {
		text := leader
		if i%10 == 0 {
			text += fmt.Sprintf(" %d", i)
		}
		add("cluster", i, text)
	}
	// One bucket with a tenth of all rows, none of them the same: a long beginning that all share.
	beginning := sentence(600)
	for i := range (copies + 27_000) / 9 {
		add("bucket", i, beginning+fmt.Sprintf(" number %d", i))
	}
	for i := range 500 {
		add("empty", i, "")
		add("short", i, "abcdefghijklmnopqrstuvwxyz"[:i%26])
		add("blanks", i, strings.Repeat(" \n\t", i))
	}
	for i := 1; i < 200; i++ {
		add("one window", i, strings.Repeat("a", i*1000))
	}
	for i := range 4000 {
		add("scripts", i, scripts(rng, 5+rng.IntN(3000)))
	}
	return docs
}

func vocabulary(rng *rand.Rand, n int) []string {
	words := make([]string, n)
	for i := range words {
		b := make([]byte, 2+rng.IntN(9))
		for k := range b {
			b[k] = byte('a' + rng.IntN(26))
		}
		words[i] = string(b)
	}
	return words
}

// clusters are what people see as one character, of one code point or of many.
var clusters = strings.Fields("😀 😁 🤣 👨‍👩‍👧‍👦 🇩🇪 🏳️‍🌈 é é 漢 字 か な 交 じ り 文 한 국 어 न म स् ते 、 。 👍🏽")

// scripts returns n characters of Chinese, Japanese, Korean, Devanagari and emoji.
func scripts(rng *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(clusters[rng.IntN(len(clusters))])
	}
	return b.String()
}

var tableSchema = arrow.NewSchema([]arrow.Field{
	{Name: "key", Type: arrow.PrimitiveTypes.Int64},
	{Name: "a", Type: arrow.PrimitiveTypes.Int64},
	{Name: "b", Type: arrow.PrimitiveTypes.Float64},
	{Name: "s", Type: arrow.BinaryTypes.String},
}, nil)

// MakeTable makes a set table or skewed of some rows below dir, whatever is there.
func MakeTable(dir, name string, rows int) (*Set, error) {
	s := &Set{Name: name, Recipe: fmt.Sprintf("%s, %d rows", recipe, rows)}
	return s, s.writeTable(dir, rows)
}

// tableFiles is the number of files of a table.
const tableFiles = 8

// writeTable writes rows of random numbers and strings of 10 to 59 letters. In the set skewed a tenth of the rows have one key. TextBytes
// is what they take as Arrow arrays.
func (s *Set) writeTable(dir string, rows int) error {
	out, err := emptyDir(dir, s.Name)
	if err != nil {
		return err
	}
	s.Documents = int64(rows)
	for i := range tableFiles {
		rng := rand.New(rand.NewPCG(uint64(i), 1000))
		letters := make([]byte, 1<<20)
		for k := range letters {
			letters[k] = byte('a' + rng.IntN(26))
		}
		path := filepath.Join(out, fmt.Sprintf("part-%05d.parquet", i))
		per := rows/tableFiles + min(1, max(0, rows%tableFiles-i))
		err := writeParquet(path, tableSchema, per, tableGroups, func(b *array.RecordBuilder, from, to int) {
			for range to - from {
				n, at := 10+rng.IntN(50), rng.IntN(len(letters)-60)
				key, group := rng.Int64(), int64(rng.IntN(1000))
				if s.Name == "skewed" && group < 100 {
					key = 0
				}
				b.Field(0).(*array.Int64Builder).Append(key)
				b.Field(1).(*array.Int64Builder).Append(group)
				b.Field(2).(*array.Float64Builder).Append(rng.Float64())
				b.Field(3).(*array.StringBuilder).Append(string(letters[at : at+n]))
				s.TextBytes += int64(8 + 8 + 8 + 4 + n)
			}
		})
		if err != nil {
			return err
		}
	}
	return s.finish(dir)
}
