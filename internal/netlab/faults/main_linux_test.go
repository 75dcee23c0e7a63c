// Package faults starts the program as ranks of a job on machines of their own ([netlab]) and has things go wrong: processes that are
// killed or stopped, cables, disks, strangers at open ports, ranks that are not of the job. Each case has to end, within a limit, either
// with the digest that one process finds, or on every rank in one line that names the rank or link and says that the job can be run
// again, which then finds that digest.
//
//	make test-faults                                # the table and a few random faults
//	DOVETAIL_FAULTS=100 DOVETAIL_SEED=1 make test-faults FAULTS_FLAGS='-run TestRandomFaults'
//
// No case passes because nothing happened: what is to happen waits until so many bytes have crossed the link of the rank
// that it happens to.
package faults

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/internal/netlab"
)

// Environment variables that say what to test.
const (
	programEnv    = "DOVETAIL_BIN"        // the program
	transportsEnv = "DOVETAIL_TRANSPORTS" // with which transports, separated by spaces; tcp if it is not set
	runsEnv       = "DOVETAIL_FAULTS"     // how many random faults
	seedEnv       = "DOVETAIL_SEED"
)

// What all tests share:
var (
	program    string
	transports []string
	usual      work
)

// work is what is deduplicated, and what one process finds.
type work struct{ input, digest string }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	why, err := cannot()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if why != "" {
		fmt.Println("NOT TESTED: ranks in networks with faults: " + why)
		return 0
	}
	dir, err := os.MkdirTemp("", "dovetail-faults-")
	if err == nil {
		defer os.RemoveAll(dir)
		usual, err = newWork(dir, 1500, documents())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// cannot says why nothing can be tested here.
func cannot() (why string, err error) {
	if program = os.Getenv(programEnv); program == "" {
		return "it is done by make test-faults, which sets $" + programEnv, nil
	}
	if program, err = filepath.Abs(program); err != nil {
		return "", err
	}
	lab, err := netlab.New(netlab.Options{Leaves: 1, Long: true})
	if errors.Is(err, netlab.ErrCannot) {
		return err.Error(), nil
	}
	if err == nil {
		err = lab.Close()
	}
	if err != nil {
		return "", err
	}
	help, err := exec.Command(program, "dedup", "--help").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, help)
	}
	chooses := strings.Contains(string(help), "--transport ")
	for _, name := range strings.Fields(os.Getenv(transportsEnv)) {
		if name != "tcp" && !chooses {
			fmt.Printf("NOT TESTED: transport %s, which this program does not have\n", name)
			continue
		}
		transports = append(transports, name)
	}
	if transports == nil {
		transports = []string{"tcp"}
	}
	if !chooses {
		transports = []string{""} // there is but one
	}
	return "", nil
}

// documents returns what makes texts of the usual work: some words, and a third of them almost as one before.
func documents() func() string {
	rng := rand.New(rand.NewPCG(20261127, 1))
	var before [][]string
	return func() string {
		var words []string
		if len(before) > 0 && rng.IntN(3) == 0 {
			words = slices.Clone(before[rng.IntN(len(before))])
			words[rng.IntN(len(words))] = "other"
		} else {
			for range 60 {
				words = append(words, fmt.Sprintf("w%05x", rng.IntN(1<<20)))
			}
			before = append(before, words)
		}
		return strings.Join(words, " ")
	}
}

// newWork writes 8 files of so many documents and has one process do the work.
func newWork(dir string, docs int, text func() string, args ...string) (w work, err error) {
	w.input = filepath.Join(dir, "in")
	if err := os.Mkdir(w.input, 0o777); err != nil {
		return w, err
	}
	for file := range 8 {
		f, err := os.Create(filepath.Join(w.input, fmt.Sprintf("%d.jsonl", file)))
		if err != nil {
			return w, err
		}
		b := bufio.NewWriter(f)
		for range docs {
			fmt.Fprintf(b, "{\"text\":%q}\n", text())
		}
		if err := errors.Join(b.Flush(), f.Close()); err != nil {
			return w, err
		}
	}
	out := filepath.Join(dir, "one")
	list := append([]string{"dedup", "--progress", "none", "--input", w.input, "--output", out}, args...)
	said, err := exec.Command(program, list...).CombinedOutput()
	if err != nil {
		return w, fmt.Errorf("one process: %w: %s", err, said)
	}
	w.digest, err = readDigest(out)
	return w, err
}

func readDigest(out string) (string, error) {
	data, err := os.ReadFile(filepath.Join(out, "run.json"))
	if err != nil {
		return "", err
	}
	var r struct {
		Digest string `json:"digest"`
	}
	if err := json.Unmarshal(data, &r); err != nil || r.Digest == "" {
		return "", fmt.Errorf("%s: no digest (%v)", out, err)
	}
	return r.Digest, nil
}
