package curator

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
)

// fileSize is a file to be put into a group.
type fileSize struct {
	index int
	path  string // as Curator names it: absolute, links not followed
	size  int64
}

// group is the files of one of Curator's FileGroupTasks, in its order.
type group struct {
	ID    string `json:"id"`    // of the task
	Files []int  `json:"files"` // indexes in the sorted input
}

// partition groups files as FilePartitioningStage does. With a block size, files are taken by ascending size (files of one size
// in the order of their paths) and a group is closed before the file that would make it larger; a file that is larger
// stays whole, alone. Without one (0) each file is a group.
func partition(files []fileSize, blocksize int64) []group {
	files = slices.Clone(files)
	if blocksize > 0 {
		slices.SortStableFunc(files, func(a, b fileSize) int { return cmp.Compare(a.size, b.size) })
	}
	var groups []group
	var paths [][]string
	held := int64(0)
	for _, f := range files {
		if len(groups) == 0 || blocksize == 0 || held+f.size > blocksize {
			groups, paths, held = append(groups, group{}), append(paths, nil), 0
		}
		g := len(groups) - 1
		groups[g].Files = append(groups[g].Files, f.index)
		paths[g] = append(paths[g], f.path)
		held += f.size
	}
	for g := range groups {
		groups[g].ID = "0_" + fileGroupID(paths[g])
	}
	return groups
}

// fileGroupID is the deterministic id of a FileGroupTask: the first 12 digits of a SHA-256 of its sorted paths.
func fileGroupID(paths []string) string {
	paths = slices.Sorted(slices.Values(paths))
	sum := sha256.Sum256([]byte(strings.Join(paths, "|") + "|"))
	return hex.EncodeToString(sum[:6])
}

// checkGroupIDs refuses two groups with one id, which would be one file.
func checkGroupIDs(groups []group) error {
	seen := make(map[string]bool)
	for _, g := range groups {
		if seen[g.ID] {
			return fmt.Errorf("curator: two groups of files have the task id %s by accident; choose another --input-blocksize", g.ID)
		}
		seen[g.ID] = true
	}
	return nil
}

// pathsOf returns the files of a set as Curator names them.
func pathsOf(set *corpus.Set) ([]fileSize, error) {
	out := make([]fileSize, len(set.Files))
	for i, f := range set.Files {
		path, err := filepath.Abs(f.Name)
		if err != nil {
			return nil, err
		}
		out[i] = fileSize{i, path, f.Size}
	}
	return out, nil
}

// batchKey is the key of a list of files in an id generator: UUIDv5 in the URL namespace of the paths joined by
// semicolons, in their order (RFC 9562).
func batchKey(paths ...string) string {
	namespace := [16]byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}
	h := sha1.New()
	h.Write(namespace[:])
	h.Write([]byte(strings.Join(paths, ";")))
	u := h.Sum(nil)[:16]
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// idGenerator is the state file of Curator's id generator. Ids of one file follow one another, those of a group of several
// do not, so the batches are single files. That is what Curator's removal workflow asks for unless it is told to read
// several files at a time.
type idGenerator struct {
	NextID   int64               `json:"next_id"`
	Registry map[string][2]int64 `json:"batch_registry"` // smallest and largest id
}

// newIDGenerator registers files; last is the largest id in a file, or less than its first id where it has no document.
func newIDGenerator(files []fileSize, last []int64) *idGenerator {
	g := &idGenerator{Registry: make(map[string][2]int64)}
	for _, f := range files {
		first := int64(corpus.Ordinal(f.index, 0))
		g.Registry[batchKey(f.path)] = [2]int64{first, max(last[f.index], first-1)}
		g.NextID = max(g.NextID, last[f.index]+1)
	}
	return g
}

func (g *idGenerator) encode() ([]byte, error) { return json.Marshal(g) }
