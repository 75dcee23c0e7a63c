package overhead

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"

	"github.com/dovetail-dedup/dovetail/dedup"
)

// BenchmarkMainJob is the job of `make run`, as it is and with the same documents in a few files of JSON Lines; or a part of it
// with -short. It reports, in percent of the processor time of the run, the median and the extremes of what the executor took of
// it over all b.N runs. The first run, which warms up, is left out where there are more.
func BenchmarkMainJob(b *testing.B) {
	out, err := exec.CommandContext(b.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	root := strings.TrimSpace(string(out))
	inputs := []string{filepath.Join(root, "src"), filepath.Join(root, "test")}
	if testing.Short() {
		inputs = []string{filepath.Join(root, "src", "cmd", "go")}
	}
	b.Run("files", func(b *testing.B) { measure(b, "files", inputs) })
	b.Run("jsonl", func(b *testing.B) {
		lines := b.TempDir()
		if err := asLines(lines, inputs); err != nil {
			b.Fatal(err)
		}
		measure(b, "jsonl", []string{lines})
	})
}

// asLines writes the files below roots into dir as JSON Lines.
func asLines(dir string, roots []string) error {
	const perFile = 2000
	var out *os.File
	n := 0
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line, err := json.Marshal(map[string]string{"text": string(text)})
			if err != nil {
				return err
			}
			if n%perFile == 0 {
				if out != nil {
					err = out.Close()
				}
				if err == nil {
					out, err = os.Create(filepath.Join(dir, fmt.Sprintf("%03d.jsonl", n/perFile)))
				}
				if err != nil {
					return err
				}
			}
			n++
			_, err = out.Write(append(line, '\n'))
			return err
		})
		if err != nil {
			return err
		}
	}
	return out.Close()
}

// measure runs the job b.N times.
func measure(b *testing.B, format string, inputs []string) {
	var shares []Share
	for i := range b.N {
		o := dedup.Options{Spec: dedup.DefaultSpec(), Inputs: inputs, Output: filepath.Join(b.TempDir(), fmt.Sprint("clean-", i))}
		o.Spec.Format = format
		var data bytes.Buffer
		if err := pprof.StartCPUProfile(&data); err != nil {
			b.Fatal(err)
		}
		_, err := dedup.Run(b.Context(), o)
		pprof.StopCPUProfile()
		if err != nil {
			b.Fatal(err)
		}
		p, err := profile.Parse(&data)
		if err != nil {
			b.Fatal(err)
		}
		if i > 0 || b.N == 1 {
			shares = append(shares, ShareOf(p))
		}
	}
	report := func(what string, of func(s Share) int64) {
		slices.SortFunc(shares, func(x, y Share) int {
			return cmp.Compare(float64(of(x))*float64(y.Total), float64(of(y))*float64(x.Total))
		})
		percent := func(s Share) float64 { return 100 * float64(of(s)) / float64(max(s.Total, 1)) }
		b.ReportMetric(percent(shares[0]), what+"-%-min")
		b.ReportMetric(percent(shares[len(shares)/2]), what+"-%")
		b.ReportMetric(percent(shares[len(shares)-1]), what+"-%-max")
	}
	report("added", func(s Share) int64 { return s.Hand + s.Commit })
	report("hand", func(s Share) int64 { return s.Hand })
	report("commit", func(s Share) int64 { return s.Commit })
	report("write", func(s Share) int64 { return s.Write })
	b.ReportMetric(0, "ns/op") // the machine's business
	b.ReportMetric(float64(shares[0].Total)/1e9, "cpu-s/op")
}

// Samples belong to the deepest function of the project.
func TestShareOf(t *testing.T) {
	stack := func(names ...string) *profile.Sample { // from the outermost
		s := &profile.Sample{Value: []int64{1, 10}}
		for _, n := range slices.Backward(names) {
			s.Location = append(s.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: n}}}})
		}
		return s
	}
	const e, d = project + "executor.", project + "dedup."
	got := ShareOf(&profile.Profile{
		SampleType: make([]*profile.ValueType, 2),
		Sample: []*profile.Sample{
			stack("runtime.gcBgMarkWorker"),
			stack(e+"(*crew[...]).start.func1", e+"(*pool).process", d+"(*signActor).Process", "hash/crc32.Update"),
			stack(e+"(*crew[...]).start.func1", e+"(*dispatcher).next", "runtime.selectgo"),
			stack(e+"(*pool).run", project+"executor/internal/handout.(*Machine).Step"),
			stack(e+"(*pool).process", d+"(*signActor).Process", e+"(*File).Write", "hash/crc32.Update"),
			stack(e+"(*pool).process", d+"(*writeActor).Process", e+"(*Attempt).create", project+"executor/internal/vfs.osFS.OpenFile"),
			stack(e+"(*committer).loop", e+"(*File).sync", "syscall.Syscall"),
			stack(e+"(*committer).loop", project+"executor/internal/framelog.(*Log).Append", "syscall.Syscall"),
			stack(d+"Run", project+"lsh.Sign"),
			stack(e+"(*pool).process", d+"(*signActor).Process", e+"meteredReader.ReadAt", "syscall.Syscall6"),
		},
	})
	if want := (Share{Total: 100, Hand: 20, Commit: 20, Write: 20}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
