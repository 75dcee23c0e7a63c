//go:build cuda

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/cuda"
	"github.com/dovetail-dedup/dovetail/dedup"
)

// simCorpus writes documents of many lengths in several files, of which some are near duplicates, some equal, empty or null. Every
// file is large enough for a task of its own, most of it in a field that no one reads.
func simCorpus(t *testing.T, seed uint64) string {
	t.Helper()
	return simCorpusOf(t, seed, 14)
}

// simCorpusOf does so with a number of documents in each of 8 files.
func simCorpusOf(t *testing.T, seed uint64, docs int) string {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 4))
	dir := t.TempDir()
	var last string
	pad := strings.Repeat("x", (2<<20)/docs)
	for file := range 8 {
		var b strings.Builder
		for range docs {
			var text string
			switch k := r.IntN(10); {
			case k == 0:
				b.WriteString("{\"text\":null}\n")
				continue
			case k == 1:
				text = last
			case k < 5 && len(last) > 200:
				at := r.IntN(len(last) - 10)
				text = last[:at] + "changed" + last[at:]
			default:
				for range 1 + r.IntN(1<<(2+r.IntN(8))) {
					text += fmt.Sprintf("word%d ", r.IntN(3000))
				}
				text += strings.Repeat("漢字 ", r.IntN(8))
			}
			last = strings.ToValidUTF8(text, "")
			line, err := json.Marshal(map[string]string{"text": last, "pad": pad})
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(line, '\n'))
		}
		writeFile(t, filepath.Join(dir, fmt.Sprintf("f%d.jsonl", file)), b.String())
	}
	return dir
}

// simRun deduplicates and returns the digest of the result, and what was said.
func simRun(t *testing.T, in, out, sim string, args ...string) (digest, said string, code int) {
	t.Helper()
	t.Setenv(simulationVariable, sim)
	code, stdout, stderr := dovetail(append([]string{"dedup", "--progress", "plain", "--input", in, "--output", out, "--report=false"}, args...)...)
	said = stdout + stderr
	data, err := os.ReadFile(filepath.Join(out, "run.json"))
	if err != nil {
		return "", said, code
	}
	var res struct {
		Digest string `json:"digest"`
		Exec   struct{ Device string }
	}
	if err := json.Unmarshal(data, &res); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.Join(args, " "), "--device sim") != strings.HasPrefix(res.Exec.Device, "sim: ") {
		t.Errorf("run.json says that %q computed", res.Exec.Device)
	}
	return res.Digest, said, code
}

// leftovers fails a test if the simulation was not given back.
func leftovers(t *testing.T) {
	t.Helper()
	for _, what := range []string{"retained", "used", "pinned", "streams", "events", "modules", "queued"} {
		if n := cuda.SimulatorStat(what, -1); n > 0 { // -1 before the first simulation
			t.Errorf("at the end the simulation has %s = %d", what, n)
		}
	}
}

// The whole job gives the processor's digest on 1, 2 and 8 simulated GPUs, whatever happens to them: memory that runs out,
// launches that fail, GPUs that are lost, slow copies, a link to the host that bends bytes.
func TestSimulatedRuns(t *testing.T) {
	t.Setenv("DOVETAIL_CUDASIM_QUIET", "1")
	in := simCorpus(t, 1)
	want, said, code := simRun(t, in, filepath.Join(t.TempDir(), "out"), "", "--device", "cpu")
	if code != 0 || want == "" {
		t.Fatal(said)
	}
	for _, tc := range []struct {
		name, sim string
		gpus      int
		args      []string
		says      string
	}{
		{name: "one", gpus: 1, sim: "seed=1", says: "1 GPUs signed"},
		{name: "two", gpus: 2, sim: "seed=2", says: "2 GPUs signed"},
		{name: "eight", gpus: 8, sim: "seed=3", says: "8 GPUs signed"},
		{name: "shared by workers", gpus: 2, sim: "seed=4", args: []string{"--workers", "5"}},
		{name: "late", gpus: 1, sim: "seed=5,late=0"},
		{name: "small pool", gpus: 2, sim: "seed=6", args: []string{"--rmm-pool-size", "40KiB"}, says: "memory was short"},
		{name: "pool too small for documents", gpus: 1, sim: "seed=7", args: []string{"--rmm-pool-size", "10KiB"}, says: "signed by the processor"},
		{name: "small GPU without a pool", gpus: 1, sim: "seed=8,memory=60000", args: []string{"--rmm-pool-size", "none"}, says: "memory was short"},
		{name: "allocations fail", gpus: 2, sim: "seed=9,oom=5,oom-pinned=7", args: []string{"--rmm-pool-size", "none"}},
		{name: "launches fail", gpus: 2, sim: "seed=10,launch=60", says: ""},
		{name: "one of two lost", gpus: 2, sim: "seed=11,lost-at-launch=1@33", says: "is lost"},
		{name: "one of eight lost", gpus: 8, sim: "seed=12,lost-at-launch=5@31", says: "is lost"},
		{name: "a kernel breaks one of two", gpus: 2, sim: "seed=13,crash=0@40", says: "is lost"},
		{name: "slow copies", gpus: 2, sim: "seed=14,slow=2000"},
		{name: "a bent link to the host", gpus: 2, sim: "seed=15,bend=h-1", says: "GPU 1 is left out: cuda: the link to GPU 1 and back bends bytes"},
		{name: "no peer access", gpus: 2, sim: "seed=16,peer=0"},
		{name: "memory limit", gpus: 2, sim: "seed=17", args: []string{"--memory-limit", "160MiB"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"--device", "sim", "--sim-gpus", fmt.Sprint(tc.gpus)}, tc.args...)
			digest, said, code := simRun(t, in, filepath.Join(t.TempDir(), "out"), tc.sim, args...)
			if code != 0 || digest != want {
				t.Errorf("exit code %d, digest %s, want %s: %s", code, digest, want, said)
			}
			if !strings.Contains(said, tc.says) {
				t.Errorf("it does not say %q: %s", tc.says, said)
			}
			leftovers(t)
		})
	}
}

// Candidates are compared on 1, 2 and 8 simulated GPUs, many at a time, with the processor's decisions and counts; and what is
// short of memory, fails or is lost while they are compared changes nothing. Texts that there is no room for in memory are held by
// the GPUs that signed them, and moved down to disk where these have none either.
func TestSimulatedPasses(t *testing.T) {
	t.Setenv("DOVETAIL_CUDASIM_QUIET", "1")
	in := simCorpusOf(t, 7, 36)
	out := filepath.Join(t.TempDir(), "out")
	want, said, code := simRun(t, in, out, "", "--device", "cpu")
	if code != 0 || want == "" {
		t.Fatal(said)
	}
	cpu, err := dedup.ReadResult(out)
	if err != nil || cpu.Devices != nil {
		t.Fatal(cpu, err)
	}
	toDisk := []string{"--spill-memory-limit", "36KiB", "--text-memory", "20KiB"}
	for _, tc := range []struct {
		name, sim string
		gpus      int
		args      []string
		spills    bool
		some      bool // that a GPU compared, though not all
		says      string
	}{
		{name: "one", gpus: 1, sim: "seed=1"},
		{name: "two", gpus: 2, sim: "seed=2,late=0"},
		{name: "eight", gpus: 8, sim: "seed=3", some: true},
		{name: "ranks", gpus: 2, sim: "seed=4", args: []string{"--ranks", "3"}},
		{name: "held", gpus: 1, sim: "seed=5", args: []string{"--text-memory", "32KiB", "--spill-memory-limit", "off"}},
		{name: "one, to disk", gpus: 1, sim: "seed=6", args: toDisk, spills: true, says: "of it to disk"},
		{name: "two, to disk, slow", gpus: 2, sim: "seed=7,late=0,slow=500", args: toDisk, spills: true},
		{name: "to disk from a small pool", gpus: 1, sim: "seed=8", args: append([]string{"--rmm-pool-size", "400KiB"}, toDisk...), spills: true, some: true},
		{name: "to disk and allocations fail", gpus: 2, sim: "seed=9,oom=5,oom-pinned=6", args: append([]string{"--rmm-pool-size", "none"}, toDisk...), some: true},
		{name: "to disk and launches fail", gpus: 2, sim: "seed=10,launch=90", args: toDisk, some: true},
		{name: "to disk, ranks", gpus: 1, sim: "seed=12", args: append([]string{"--ranks", "2", "--workers", "4"}, toDisk...), spills: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			digest, said, code := simRun(t, in, out, tc.sim, append([]string{"--device", "sim", "--sim-gpus", fmt.Sprint(tc.gpus)}, tc.args...)...)
			if code != 0 || digest != want {
				t.Fatalf("exit code %d, digest %s, want %s: %s", code, digest, want, said)
			}
			if !strings.Contains(said, tc.says) {
				t.Errorf("it does not say %q: %s", tc.says, said)
			}
			leftovers(t)
			res, err := dedup.ReadResult(out)
			if err != nil {
				t.Fatal(err)
			}
			used, vain := decided(res, "tests_on_devices"), decided(res, "tests_in_vain")
			if res.Steps.Tests != cpu.Steps.Tests || used == 0 || used+vain > res.Devices.Pairs || !tc.some && (used < res.Steps.Tests/2 || used+vain != res.Devices.Pairs) {
				t.Errorf("%d pairs were compared, the processor alone compared %d; %d of them on devices, %d in vain; %+v", res.Steps.Tests, cpu.Steps.Tests, used, vain, res.Devices)
			}
			tier := func(name string) (u dedup.TierUse) {
				for _, u := range res.Devices.Tiers {
					if u.Tier == name {
						return u
					}
				}
				return u
			}
			if tc.name == "held" && (tier("device").ReadBytes == 0 || tier("disk").Peak > 0) {
				t.Errorf("%+v", res.Devices)
			}
			if tc.spills {
				// The limit holds for each tier in memory, but for a batch that is larger by itself on its way to the disk.
				for _, name := range []string{"device", "pinned", "host", "disk"} {
					if u := tier(name); u.Peak == 0 || name == "disk" && u.Reads == 0 || (name == "pinned" || name == "host") && u.Peak > 36<<10 || name != "device" && u.SpilledBytes == 0 {
						t.Errorf("%s: %+v", name, u)
					}
				}
			}
		})
	}
}

// A GPU that is lost while it compares, or while it holds texts that others need, costs its share of the work: what it held is read
// from the files.
func TestSimulatedLossLater(t *testing.T) {
	t.Setenv("DOVETAIL_CUDASIM_QUIET", "1")
	in := simCorpusOf(t, 8, 20)
	want, said, code := simRun(t, in, filepath.Join(t.TempDir(), "out"), "", "--device", "cpu")
	if code != 0 || want == "" {
		t.Fatal(said)
	}
	args := []string{"--device", "sim", "--sim-gpus", "2", "--workers", "2", "--text-memory", "8KiB", "--spill-memory-limit", "off"}
	run := func(sim string) (said string) {
		t.Helper()
		digest, said, code := simRun(t, in, filepath.Join(t.TempDir(), "out"), sim, args...)
		if code != 0 || digest != want {
			t.Fatalf("%s: exit code %d, digest %s, want %s: %s", sim, code, digest, want, said)
		}
		leftovers(t)
		return said
	}
	run("seed=1")
	launches, calls := cuda.SimulatorStat("launches", 1), cuda.SimulatorStat("calls", 1)
	lost, again := 0, 0
	for i := int64(1); i <= 3; i++ {
		for _, sim := range []string{fmt.Sprintf("seed=1,lost-at-launch=1@%d", launches-3*i), fmt.Sprintf("seed=1,lost=1@%d", calls-calls*i/8)} {
			said := run(sim)
			if strings.Contains(said, "is lost") {
				lost++
			}
			if strings.Contains(said, "texts that a device held are read again") {
				again++
			}
		}
	}
	if lost == 0 || again == 0 {
		t.Errorf("of 6 runs %d say that a GPU was lost, %d that texts were read again", lost, again)
	}
}

// decided is a counter of the deciding stage.
func decided(res *dedup.Result, counter string) int64 {
	for _, s := range res.Stages.Stages {
		if s.Name == "decide" {
			return s.Counters[counter]
		}
	}
	return -1
}

// A GPU may be lost at any call: when the GPUs are opened and tried, while they sign, and when they are given back.
func TestSimulatedLossAnywhere(t *testing.T) {
	t.Setenv("DOVETAIL_CUDASIM_QUIET", "1")
	in := simCorpus(t, 2)
	want, said, code := simRun(t, in, filepath.Join(t.TempDir(), "out"), "", "--device", "cpu")
	if code != 0 || want == "" {
		t.Fatal(said)
	}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 5 {
		sim := fmt.Sprintf("seed=%d,lost=%d@%d", r.IntN(1000), i%2, 1+i*40+r.IntN(40))
		digest, said, code := simRun(t, in, filepath.Join(t.TempDir(), "out"), sim, "--device", "sim", "--sim-gpus", "2")
		if code != 0 || digest != want {
			t.Errorf("%s: exit code %d, digest %s, want %s: %s", sim, code, digest, want, said)
		}
		leftovers(t)
	}
}

// Where no GPU is left the run stops with one line, and the same command goes on from there on the processor.
func TestSimulatedRunStopsAndGoesOn(t *testing.T) {
	t.Setenv("DOVETAIL_CUDASIM_QUIET", "1")
	in, out := simCorpus(t, 3), filepath.Join(t.TempDir(), "out")
	want, said, code := simRun(t, in, filepath.Join(t.TempDir(), "out"), "", "--device", "cpu")
	if code != 0 {
		t.Fatal(said)
	}
	_, said, code = simRun(t, in, out, "seed=1,lost-at-launch=0@70", "--device", "sim", "--workers", "1")
	lines := strings.Split(strings.TrimSpace(said), "\n")
	last := lines[len(lines)-1]
	if code != 1 || !strings.Contains(last, "no device is left") || !strings.Contains(last, "CUDA_ERROR_UNKNOWN") || !strings.Contains(last, "or with --device cpu") {
		t.Errorf("exit code %d: %s", code, said)
	}
	leftovers(t)
	digest, said, code := simRun(t, in, out, "", "--device", "cpu")
	if code != 0 || digest != want || strings.Contains(said, " 0 tasks reused") {
		t.Errorf("exit code %d, digest %s, want %s: %s", code, digest, want, said)
	}
}

// Every sketch, both rules of keeping, without verification: the digest does not depend on the device. Nor do NeMo Curator's files.
func TestSimulatedOptions(t *testing.T) {
	in := simCorpus(t, 4)
	for _, args := range [][]string{
		{"--sketch", "curator32", "--keep", "longest"}, {"--sketch", "curator64", "--char-ngrams", "5"},
		{"--verify", "none", "--normalize", "nfkc,lower,whitespace", "--num-bands", "7", "--minhashes-per-band", "4"},
	} {
		var digests []string
		for _, device := range [][]string{{"--device", "cpu"}, {"--device", "sim", "--sim-gpus", "2"}} {
			digest, said, code := simRun(t, in, filepath.Join(t.TempDir(), "out"), "", append(device, args...)...)
			if code != 0 {
				t.Fatal(said)
			}
			digests = append(digests, digest)
		}
		if digests[0] != digests[1] {
			t.Errorf("%q: the digests are %q", args, digests)
		}
	}
	leftovers(t)
	var files []string
	for _, device := range [][]string{{"--device", "cpu"}, {"--device", "sim", "--sim-gpus", "2"}} {
		dir := t.TempDir()
		t.Setenv(simulationVariable, "seed=2")
		code, _, stderr := dovetail(append([]string{"minhash", "--progress", "none", "--input", in, "--output", dir, "--num-hashes", "40"}, device...)...)
		if code != 0 {
			t.Fatal(stderr)
		}
		var all strings.Builder
		paths, err := filepath.Glob(filepath.Join(dir, "MinHashStage", "*.parquet"))
		if err != nil || len(paths) == 0 {
			t.Fatal(paths, err)
		}
		for _, p := range paths {
			data, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(data)
		}
		files = append(files, all.String())
	}
	if files[0] != files[1] {
		t.Error("the signatures for NeMo Curator depend on the device")
	}
	leftovers(t)
}

// What cannot be is refused, with a line that says why and whose fault it is.
func TestDeviceMistakes(t *testing.T) {
	in := simCorpus(t, 5)
	for _, tc := range []struct {
		sim, args, says string
		code            int
	}{
		{"", "--device gpu", `--device "gpu": must be auto, cpu, cuda or sim`, 2},
		{"", "--device cpu --sim-gpus 2", "--sim-gpus has a meaning only with --device sim", 2},
		{"", "--device sim --sim-gpus 65", "--sim-gpus 65", 2},
		{"", "--device sim --rmm-pool-size much", `--rmm-pool-size "much"`, 2},
		{"gpus=0", "--device sim", "--device sim: there is no GPU", 1},
		{"nonsense=1", "--device sim", "unknown option or wrong value: nonsense=1", 1},
		{"bend=1-0", "--device sim --sim-gpus 2", "the link from GPU 1 to GPU 0 bends bytes", 1},
		{"bend=0-h", "--device sim", "no GPU works: GPU 0 is left out: the link to GPU 0 and back bends bytes", 1},
		{"memory=1000", "--device sim --rmm-pool-size 2KiB", "no GPU works: GPU 0 is left out", 1},
	} {
		_, said, code := simRun(t, in, filepath.Join(t.TempDir(), "out"), tc.sim, strings.Fields(tc.args)...)
		lines := strings.Split(strings.TrimSpace(said), "\n")
		if code != tc.code || !strings.Contains(lines[len(lines)-1], tc.says) {
			t.Errorf("%s %s: exit code %d, want %d: %s", tc.sim, tc.args, code, tc.code, said)
		}
		leftovers(t)
	}
	t.Setenv(cuda.LibraryVariable, filepath.Join(t.TempDir(), "libcuda.so.1"))
	if code, _, stderr := dovetail("dedup", "--input", in, "--output", t.TempDir(), "--device", "cuda"); code != 1 || !strings.Contains(stderr, "loading the driver") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// A library that is a driver in all but name is driven as NVIDIA's is: with the kernels that the program holds, or, in a build
// without them, not at all.
func TestDeviceAuto(t *testing.T) {
	sim, err := cuda.SimulatorPath()
	if err != nil {
		t.Fatal(err)
	}
	in := simCorpus(t, 6)
	want, said, code := simRun(t, in, filepath.Join(t.TempDir(), "out"), "", "--device", "cpu")
	if code != 0 {
		t.Fatal(said)
	}
	says := "signatures are computed by cuda: 1 x simulated GPU"
	if _, err := cuda.Fatbin(); err != nil {
		says = "no GPU is used: cuda: built without kernels"
	}
	if _, err := cuda.OpenSimulator("gpus=1"); err != nil { // what other tests asked for ends
		t.Fatal(err)
	}
	t.Setenv(cuda.LibraryVariable, sim)
	digest, said, code := simRun(t, in, filepath.Join(t.TempDir(), "out"), "", "--device", "auto")
	if code != 0 || digest != want || !strings.Contains(said, says) {
		t.Errorf("exit code %d, digest %s, want %s and %q: %s", code, digest, want, says, said)
	}
	leftovers(t)
	if _, out, _ := dovetail("info"); !strings.Contains(out, "CUDA: a driver for CUDA up to 13.0, 1 GPUs for --device cuda") || !strings.Contains(out, "simulated GPUs: --device sim, by "+sim) {
		t.Errorf("%s", out)
	}
}
