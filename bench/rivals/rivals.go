// Package rivals runs other programs that remove near-duplicates or partition tables, each in a Python environment of its
// own with the versions in requirements/, as the scripts in scripts/ set them up.
//
// The Makefile makes the environments, in folders of their names below one folder; what cannot be installed on a machine has
// none, and its rows say so.
package rivals

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dovetail-dedup/dovetail/bench/process"
	"github.com/dovetail-dedup/dovetail/bench/truth"
)

//go:embed scripts/*.py
var scripts embed.FS

// Rival is another program, or one of its ways to work.
type Rival struct {
	// Name is how the table calls it, without spaces.
	Name string
	// Env is the folder of its environment.
	Env string
	// Script and Args are what is run; input and output folder stand between the two.
	Script string
	Args   []string
	// Window is what it takes a document for a set of; the zero Window of those that partition tables.
	Window truth.Window
	// Kept is the form of the output if it is not Parquet files with the column id, for the script kept.py.
	Kept string
	// Slow ones are run on samples only, once.
	Slow bool
	// Rounds bounds how often it is run; 0 is no bound.
	Rounds int
	// Differs says what it does otherwise than Dovetail, or leaves out.
	Differs string
}

var (
	words = truth.Window{Words: 5}
	chars = truth.Window{Chars: 24}
)

const unverified = "nothing is verified, clusters are chains of candidates"

// Dedup lists the programs that remove near-duplicates.
func Dedup() []Rival {
	return []Rival{
		{Name: "daft", Env: "daft", Script: "run_daft.py", Window: words,
			Differs: "signatures only, buckets and clusters by numpy and scipy; words end at one kind of blank; " + unverified},
		{Name: "rensa-inline", Rounds: 2, Env: "rensa", Script: "run_rensa.py", Args: []string{"mode=inline"}, Window: words,
			Differs: "estimates instead of exact similarity, depends on the order, no clusters"},
		{Name: "rensa-batch", Rounds: 2, Env: "rensa", Script: "run_rensa.py", Args: []string{"mode=batch"}, Window: words,
			Differs: "signatures only, buckets and clusters by numpy and scipy; " + unverified},
		{Name: "gaoya-words", Rounds: 2, Env: "gaoya", Script: "run_gaoya.py", Args: []string{"words=5"}, Window: words,
			Differs: "estimates instead of exact similarity, clusters by scipy"},
		{Name: "duckdb", Rounds: 2, Env: "duckdb", Script: "run_duckdb.py", Window: words,
			Differs: "MinHash written in SQL, clusters by scipy; " + unverified},
		{Name: "datasketch", Rounds: 2, Env: "datasketch", Script: "run_datasketch.py", Window: words,
			Differs: "clusters by scipy; " + unverified},
		{Name: "gaoya", Rounds: 1, Env: "gaoya", Script: "run_gaoya.py", Args: []string{"chars=24"}, Window: chars, Slow: true,
			Differs: "estimates instead of exact similarity, clusters by scipy"},
		{Name: "datasketch-chars", Rounds: 1, Env: "datasketch", Script: "run_datasketch.py", Args: []string{"chars=24"}, Window: chars, Slow: true,
			Differs: "clusters by scipy; " + unverified},
		{Name: "text-dedup", Rounds: 1, Env: "textdedup", Script: "run_textdedup.py", Window: words, Slow: true, Kept: "datasets",
			Differs: "lower case, words end where \\W is; verifies pairs within a cluster, all of them"},
		{Name: "datatrove", Rounds: 1, Env: "datatrove", Script: "run_datatrove.py", Window: words, Slow: true, Kept: "datatrove",
			Differs: "words normalised by its tokenizer for white space; " + unverified},
	}
}

// Shuffle lists the programs that partition tables.
func Shuffle(parts int) []Rival {
	var out []Rival
	for _, tool := range []string{"duckdb", "polars", "pyarrow", "daft"} {
		differs := "hash of its own, output uncompressed, no ledger, rows in any order"
		if tool == "pyarrow" {
			differs = "the key's low bits instead of a hash, output uncompressed, no ledger"
		}
		out = append(out, Rival{Name: tool, Env: tool, Script: "shuffle.py", Differs: differs,
			Args: []string{"tool=" + tool, fmt.Sprintf("parts=%d", parts)}})
	}
	return out
}

// ErrMissing is wrapped when there is no environment for a rival.
var ErrMissing = errors.New("not installed")

// Timeout is when a rival is given up.
const Timeout = 30 * time.Minute

// Command returns the run of a rival. dir is where the environments are; scripts go to a folder below scratch. The error
// wraps ErrMissing where there is no environment.
func (r Rival) Command(dir, scratch, input, output string) (process.Command, error) {
	python, err := Python(dir, r.Env)
	if err != nil {
		return process.Command{}, err
	}
	folder, err := unpack(scratch)
	if err != nil {
		return process.Command{}, err
	}
	args := append([]string{python, filepath.Join(folder, r.Script), input, output}, r.Args...)
	return process.Command{Args: args, Timeout: Timeout, Env: []string{
		"PYTHONDONTWRITEBYTECODE=1",
		"HF_HUB_OFFLINE=1", "HF_HOME=" + filepath.Join(output, "hf"), "TMPDIR=" + output,
		"DAFT_PROGRESS_BAR=0", "DO_NOT_TRACK=1",
		// Where these are set they are for other programs, and slow numpy down.
		"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",
	}}, nil
}

// ListKept returns the command that lists what a rival kept in the file kept.txt of its output, or none if its output says so
// by itself.
func (r Rival) ListKept(dir, scratch, output string) (c process.Command, needed bool, err error) {
	if r.Kept == "" {
		return c, false, nil
	}
	lister := Rival{Env: r.Env, Script: "kept.py"}
	c, err = lister.Command(dir, scratch, output, r.Kept)
	return c, true, err
}

// Python returns the interpreter of an environment.
func Python(dir, env string) (string, error) {
	if dir == "" {
		return "", fmt.Errorf("%w: other programs are left out", ErrMissing)
	}
	root, err := filepath.Abs(filepath.Join(dir, env))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(root, "done")); err != nil {
		return "", fmt.Errorf("%w: the environment %s%s", ErrMissing, env, why(root))
	}
	return filepath.Join(root, "bin", "python"), nil
}

// why is the last line of what pip said, if it said anything.
func why(root string) string {
	log, err := os.ReadFile(root + ".log")
	if err != nil {
		return ", which make bench-rivals-env makes"
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return ": " + lines[len(lines)-1]
}

// unpack writes the scripts to a folder and returns it.
func unpack(scratch string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(scratch, "scripts"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	all, err := fs.Glob(scripts, "scripts/*.py")
	if err != nil {
		return "", err
	}
	for _, name := range all {
		text, err := scripts.ReadFile(name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o666); err != nil {
			return "", err
		}
	}
	return dir, nil
}
