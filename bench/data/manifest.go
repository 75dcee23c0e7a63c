package data

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/dustin/go-humanize"
)

// File is one file of a set.
type File struct {
	Name   string `json:"name"` // below the folder of the set
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Set says what a data set is, and what it was made of.
type Set struct {
	Name string `json:"name"`
	// Recipe is what decides the set beside the packages: its version, the share of the paths, the seed.
	Recipe    string `json:"recipe"`
	Documents int64  `json:"documents"` // rows of a table
	TextBytes int64  `json:"text_bytes"`
	Files     []File `json:"files"`
	// Packages are what it was made of, and Missing those that could not be had where it was made.
	Packages []Package `json:"packages,omitempty"`
	Missing  []string  `json:"missing,omitempty"`

	dir string
}

// Dir is the folder of the set's files.
func (s *Set) Dir() string { return s.dir }

// String describes the set in a few words.
func (s *Set) String() string {
	return fmt.Sprintf("%s: %s documents, %s", s.Name, humanize.Comma(s.Documents), humanize.Bytes(uint64(s.TextBytes)))
}

// Open returns a set that was made below dir. The error wraps fs.ErrNotExist if there is none.
func Open(dir, name string) (*Set, error) {
	path := manifestPath(dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &Set{dir: setDir(dir, name)}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, f := range s.Files {
		info, err := os.Stat(filepath.Join(s.dir, f.Name))
		if err != nil {
			return nil, err
		}
		if info.Size() != f.Size {
			return nil, fmt.Errorf("%s has %d bytes, and %d in %s: remove both and make the set again",
				filepath.Join(s.dir, f.Name), info.Size(), f.Size, path)
		}
	}
	return s, nil
}

func setDir(dir, name string) string       { return filepath.Join(dir, "data", name) }
func manifestPath(dir, name string) string { return filepath.Join(dir, "data", name+".json") }

// finish sums up the files that were written and writes the manifest.
func (s *Set) finish(dir string) error {
	s.dir = setDir(dir, s.Name)
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		size, sum, err := fileSum(filepath.Join(s.dir, e.Name()))
		if err != nil {
			return err
		}
		s.Files = append(s.Files, File{e.Name(), size, sum})
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(manifestPath(dir, s.Name), append(data, '\n'), 0o666)
}

// Differences says in what the packages of two manifests of one set differ, a line each.
func Differences(a, b *Set) []string {
	var out []string
	if a.Recipe != b.Recipe {
		out = append(out, fmt.Sprintf("%s: recipe %q and %q", a.Name, a.Recipe, b.Recipe))
	}
	versions := make(map[string]string)
	for _, p := range a.Packages {
		versions[p.Name] = p.Version
	}
	for _, p := range b.Packages {
		if v, ok := versions[p.Name]; v != p.Version {
			if !ok {
				v = "none"
			}
			out = append(out, fmt.Sprintf("%s: %s %s and %s", a.Name, p.Name, v, p.Version))
		}
		delete(versions, p.Name)
	}
	for name, v := range versions {
		out = append(out, fmt.Sprintf("%s: %s %s and none", a.Name, name, v))
	}
	slices.Sort(out)
	return out
}

func fileSum(path string) (size int64, sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return 0, "", fmt.Errorf("%s: %w", path, err)
	}
	return size, hex.EncodeToString(h.Sum(nil)), nil
}
