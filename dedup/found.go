package dedup

import (
	"cmp"
	"encoding/json"
	"errors"
	"math/bits"
	"path"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/dedup/report"
)

// What the write stage finds out for the report and for run.json. Each task gathers for its own files, in memory
// that does not grow with its documents, and leaves it in a work file; the parts add up in any order to the same.

// found is what one write task, or all of them, gathered.
type found struct {
	// Similar counts removals by similarity; see similarityBin. Nothing was compared for identical texts.
	Similar []int64 `json:"similar"`
	// Sizes counts clusters by the number of bits of their size less one: 2, 3 to 4, 5 to 8 and so on.
	Sizes []sizeCount `json:"sizes"`
	// ExactBytes is the text of removals with evidence "exact".
	ExactBytes int64 `json:"exact_bytes"`
	// Files are counts by input file, of the files from First on.
	First int          `json:"first"`
	Files []fileCounts `json:"files"`
	// Clusters are the largest; Near and Exact a random sample of the removals of either kind.
	Clusters []foundCluster `json:"clusters"`
	Near     []removal      `json:"near"`
	Exact    []removal      `json:"exact"`
}

type sizeCount struct {
	Clusters  int64 `json:"c,omitempty"`
	Documents int64 `json:"d,omitempty"`
}

// fileCounts are the documents of one file. Bytes are of text as it is compared.
type fileCounts struct {
	Documents    int64 `json:"d"`
	Removed      int64 `json:"r,omitempty"`
	Exact        int64 `json:"e,omitempty"` // of the removed
	Bytes        int64 `json:"b,omitempty"`
	RemovedBytes int64 `json:"rb,omitempty"`
}

func (c *fileCounts) add(o fileCounts) {
	c.Documents += o.Documents
	c.Removed += o.Removed
	c.Exact += o.Exact
	c.Bytes += o.Bytes
	c.RemovedBytes += o.RemovedBytes
}

// removal is a removed document and the evidence.
type removal struct {
	Doc      uint64   `json:"doc"`
	Kept     uint64   `json:"kept"`
	Inter    uint64   `json:"inter,omitempty"`
	Union    uint64   `json:"union,omitempty"`
	Evidence evidence `json:"evidence"`
}

// foundCluster is a cluster with some of its removals, those that were compared before those that were not.
type foundCluster struct {
	Size    uint64    `json:"size"`
	Kept    uint64    `json:"kept"`
	Removed []removal `json:"removed"`
}

const (
	similarityBins = 200
	// maxNear and maxExact are the sizes of the samples. Identical texts show little; a few are enough.
	maxNear  = 40
	maxExact = report.MaxSamples - maxNear
	// maxSourceRows is how many sources run.json lists.
	maxSourceRows = 1000
)

// similarityBin is the bin of a similarity among similarityBins, without rounding.
func similarityBin(inter, union uint64) int {
	if union == 0 {
		return 0
	}
	high, low := bits.Mul64(inter, similarityBins)
	if high >= union {
		return similarityBins - 1
	}
	bin, _ := bits.Div64(high, low, union)
	return int(min(bin, similarityBins-1))
}

// sampleHash orders documents at random, in the same way in every run.
func sampleHash(ord uint64) uint64 {
	var b [8]byte
	for i := range b {
		b[i] = byte(ord >> (8 * i))
	}
	return xxh3.HashSeed(b[:], 0x5eed)
}

func byHash(a, b removal) int {
	return cmp.Or(cmp.Compare(sampleHash(a.Doc), sampleHash(b.Doc)), cmp.Compare(a.Doc, b.Doc))
}

// byWorth puts removals that were compared first: their texts differ.
func byWorth(a, b removal) int {
	exact := func(r removal) int {
		if r.Evidence == evidenceExact {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(exact(a), exact(b)), byHash(a, b))
}

// keepLeast inserts r into the sorted list of the least n.
func keepLeast(list []removal, r removal, n int, order func(a, b removal) int) []removal {
	if len(list) == n && order(list[n-1], r) <= 0 {
		return list
	}
	at, _ := slices.BinarySearchFunc(list, r, order)
	list = slices.Insert(list, at, r)
	return list[:min(len(list), n)]
}

func newFound(first, files int) *found {
	return &found{Similar: make([]int64, similarityBins), First: first, Files: make([]fileCounts, files)}
}

// document adds what became of one document.
func (f *found) document(d *outcome, file int) {
	if !d.clustered {
		f.count(int64(d.bytes), file, nil)
		return
	}
	m := &d.member
	f.count(int64(d.bytes), file, m)
	if !d.removed() {
		return
	}
	r := removal{Doc: d.ord, Kept: m.kept, Inter: m.inter, Union: m.union, Evidence: m.evidence}
	if m.evidence == evidenceExact {
		f.Exact = keepLeast(f.Exact, r, maxExact, byHash)
	} else {
		f.Near = keepLeast(f.Near, r, maxNear, byHash)
	}
	f.cluster(m.size, m.kept, r)
}

// count adds to the counts a document of a file with that many bytes of text; m is nil if it is in no cluster.
func (f *found) count(bytes int64, file int, m *member) {
	c := fileCounts{Documents: 1, Bytes: bytes}
	switch {
	case m == nil:
	case m.evidence == 0: // the kept one, of which there is one in each cluster
		f.size(bits.Len64(m.size-1), sizeCount{1, int64(m.size)})
	default:
		c.Removed, c.RemovedBytes = 1, bytes
		if m.evidence == evidenceExact {
			c.Exact = 1
			f.ExactBytes += bytes
		}
		if m.evidence == evidenceJaccard {
			f.Similar[similarityBin(m.inter, m.union)]++
		}
	}
	f.Files[file-f.First].add(c)
}

func (f *found) size(bin int, n sizeCount) {
	for len(f.Sizes) <= bin {
		f.Sizes = append(f.Sizes, sizeCount{})
	}
	f.Sizes[bin].Clusters += n.Clusters
	f.Sizes[bin].Documents += n.Documents
}

// cluster adds removals to the list of the largest clusters, in which larger ones come first and of two equal
// ones that with the smaller ordinal. A cluster that is among the largest of all is so in every part that has a
// removal of it, so merging the parts gives the same list as one part would.
func (f *found) cluster(size, kept uint64, removed ...removal) {
	order := func(c foundCluster, _ uint64) int {
		return cmp.Or(cmp.Compare(size, c.Size), cmp.Compare(c.Kept, kept))
	}
	at, known := slices.BinarySearchFunc(f.Clusters, kept, order)
	if !known {
		if at == report.MaxClusters {
			return
		}
		f.Clusters = slices.Insert(f.Clusters, at, foundCluster{Size: size, Kept: kept})
		f.Clusters = f.Clusters[:min(len(f.Clusters), report.MaxClusters)]
	}
	c := &f.Clusters[at]
	for _, r := range removed {
		c.Removed = keepLeast(c.Removed, r, report.MaxClusterPairs, byWorth)
	}
}

// merge adds what another part gathered. Its files lie within those of f.
func (f *found) merge(o *found) error {
	if len(o.Similar) != similarityBins || o.First < f.First || o.First-f.First+len(o.Files) > len(f.Files) {
		return errors.New("dedup: what a task found does not fit the run")
	}
	for i, n := range o.Similar {
		f.Similar[i] += n
	}
	for bin, n := range o.Sizes {
		f.size(bin, n)
	}
	f.ExactBytes += o.ExactBytes
	for i, c := range o.Files {
		f.Files[o.First-f.First+i].add(c)
	}
	for _, c := range o.Clusters {
		f.cluster(c.Size, c.Kept, c.Removed...)
	}
	for _, r := range o.Near {
		f.Near = keepLeast(f.Near, r, maxNear, byHash)
	}
	for _, r := range o.Exact {
		f.Exact = keepLeast(f.Exact, r, maxExact, byHash)
	}
	return nil
}

// addFound adds what a write task left in a work file.
func (r *run) addFound(name string) (err error) {
	file, err := r.work.OpenCommitted(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var part found
	if err := json.NewDecoder(file).Decode(&part); err != nil {
		return err
	}
	return r.found.merge(&part)
}

// sources returns exact counts by source and what kind of thing a source is: the folder of the input file under its
// root, or, where all files lie in one folder, the file itself. They are in the order of their names. It is
// complete once the write stage is, before anything is put in place. It takes memory as the list of files does.
func (r *run) sources() (kind string, rows []report.Source) {
	kind = "file"
	first := r.set.References // from which nothing is removed
	files, counts := r.set.Files[first:], r.found.Files[first:]
	for i := range files {
		if path.Dir(files[i].Path) != path.Dir(files[0].Path) {
			kind = "folder"
			break
		}
	}
	at := make(map[string]int)
	for i, c := range counts {
		name := files[i].Path
		if kind == "folder" {
			name = path.Dir(name)
		}
		k, known := at[name]
		if !known {
			k = len(rows)
			at[name] = k
			rows = append(rows, report.Source{Name: name})
		}
		rows[k].Add(c.source(""))
	}
	slices.SortFunc(rows, func(a, b report.Source) int { return strings.Compare(a.Name, b.Name) })
	return kind, rows
}

func (c fileCounts) source(name string) report.Source {
	return report.Source{
		Name: name, Documents: c.Documents, Removed: c.Removed, Identical: c.Exact, Bytes: c.Bytes, RemovedBytes: c.RemovedBytes,
	}
}

// findings is what run.json says of what was found. rows are reordered.
func (r *run) findings(kind string, rows []report.Source) report.Findings {
	f := report.Findings{Sources: report.Sources{Kind: kind, Total: len(rows)}}
	if r.spec.Verify == VerifyExact {
		f.Similarities = report.Similarities{Removed: r.found.Similar, Rejected: r.rejected[:]}
	}
	for bin, n := range r.found.Sizes { // bin 0 would be clusters of one
		if bin > 0 {
			f.ClusterSizes = append(f.ClusterSizes, report.SizeBin{
				From: 1<<(bin-1) + 1, To: 1 << bin, Clusters: n.Clusters, Documents: n.Documents,
			})
		}
	}
	slices.SortFunc(rows, byRemovals)
	for i, s := range rows {
		if i < maxSourceRows {
			f.Sources.Rows = append(f.Sources.Rows, s)
		} else {
			f.Sources.Rest.Add(s)
		}
	}
	return f
}

// byRemovals orders sources by their removals, most first.
func byRemovals(a, b report.Source) int {
	return cmp.Or(cmp.Compare(b.Removed, a.Removed), strings.Compare(a.Name, b.Name))
}
