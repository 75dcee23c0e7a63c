package kerneltest

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	mutantsToRun = flag.String("mutants", "", "plant bugs in the kernels: all, few, or a part of a name")
	maxMinutes   = flag.Int("mutant-minutes", 2, "how long the tests of one planted bug may take")
)

const (
	nvccVariable    = "DOVETAIL_KERNELS_NVCC"    // the compiler of mutants
	cxxVariable     = "DOVETAIL_KERNELS_CXX"     // the compiler of those that sanitizers are to find; empty: none
	sourcesVariable = "DOVETAIL_KERNELS_SOURCES" // the folder cuda
)

// families are the files that the tests of a suite need, beside headers.
var families = map[string][]string{
	"scan": {"scan.cu"}, "sign": {"scan.cu", "sign.cu"}, "signwide": {"scan.cu", "sign.cu"}, "bands": {"bands.cu"}, "buckets": {"bands.cu"},
	"hash": {"partition.cu"}, "partition": {"scan.cu", "partition.cu"},
	"pack": {"scan.cu", "partition.cu", "pack.cu", "rowhash.cu"}, "concat": {"pack.cu"},
	"rowhash": {"rowhash.cu"}, "records": {"rowhash.cu"}, "content": {"rowhash.cu"},
	"group": {"scan.cu", "group.cu"}, "components": {"group.cu", "components.cu"},
	"jaccard": {"scan.cu", "sign.cu", "jaccard.cu"},
	"sparse":  {"scan.cu", "sign.cu", "bands.cu", "pack.cu", "rowhash.cu", "group.cu"},
}

// TestMutants plants one bug after another in the source of the kernels and sees that the suite that it belongs to ends as it
// should: with a fault of the kind that the bug is, or with a wrong result.
func TestMutants(t *testing.T) {
	if *mutantsToRun == "" {
		t.Skip("-mutants is not set; make kernel-mutants sets it")
	}
	nvcc, sources := os.Getenv(nvccVariable), os.Getenv(sourcesVariable)
	if nvcc == "" || sources == "" {
		t.Fatalf("%s and %s are to be set", nvccVariable, sourcesVariable)
	}
	killed := 0
	if cxx := os.Getenv(cxxVariable); *mutantsToRun == "all" && cxx != "" {
		for _, m := range hostMutants {
			t.Run(m.name, func(t *testing.T) {
				m.playOnHost(t, cxx, sources)
				killed++
			})
		}
	}
	for i, m := range mutants {
		switch *mutantsToRun {
		case "all":
		case "few":
			if i%8 != 0 {
				continue
			}
		default:
			if !strings.Contains(m.name, *mutantsToRun) {
				continue
			}
		}
		t.Run(m.name, func(t *testing.T) {
			m.play(t, nvcc, sources)
			killed++
		})
	}
	t.Logf("%d planted bugs were found", killed)
}

// plant copies the sources to a folder, with the bug. The module has the given files, or all if there are none.
func (m *mutant) plant(t *testing.T, sources, dir string, files []string) {
	var list strings.Builder
	for _, f := range files {
		fmt.Fprintf(&list, "#include %q\n", f)
	}
	found := false
	entries, err := os.ReadDir(sources)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{".cu", ".cuh", ".h"}, filepath.Ext(e.Name())) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(sources, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() == m.file {
			if n := bytes.Count(text, []byte(m.old)); n != 1 {
				t.Fatalf("%q is %d times in %s; the list of planted bugs is out of date", m.old, n, m.file)
			}
			text = bytes.Replace(text, []byte(m.old), []byte(m.new), 1)
			found = true
		}
		if e.Name() == "kernels.cu" && files != nil {
			text = []byte(list.String())
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !found {
		t.Fatalf("no file %s", m.file)
	}
}

// play compiles a mutant and runs its suite on the interpreter.
func (m *mutant) play(t *testing.T, nvcc, sources string) {
	dir := t.TempDir()
	m.plant(t, sources, dir, families[m.suite])
	out := filepath.Join(dir, "kernels.ptx")
	if text, err := exec.Command(nvcc, "-std=c++17", "-ptx", "-arch", "compute_75", "-w", "-o", out, filepath.Join(dir, "kernels.cu")).CombinedOutput(); err != nil {
		t.Fatalf("it does not compile: %v\n%s", err, text)
	}
	m.mustFail(t, "TestPTX", ptxVariable+"="+out)
}

// playOnHost compiles a mutant as C++ and runs its suite.
func (m *mutant) playOnHost(t *testing.T, cxx, sources string) {
	dir := t.TempDir()
	m.plant(t, sources, dir, nil)
	model := filepath.Join(dir, "internal", "hostmodel")
	if err := os.CopyFS(model, os.DirFS(filepath.Join(sources, "internal", "hostmodel"))); err != nil {
		t.Fatal(err)
	}
	sanitizer := hostFlags[m.on]
	engine, out := filepath.Join(dir, "engine.o"), filepath.Join(dir, "host")
	for _, args := range [][]string{
		{"-std=c++17", "-O1", "-DMODEL_" + strings.ToUpper(m.on), "-c", "-o", engine, filepath.Join(model, "engine.cc")},
		{"-std=c++17", "-O1", "-g", "-w", sanitizer, "-o", out, engine, filepath.Join(model, "kernels.cc"), filepath.Join(model, "runner.cc")},
	} {
		if text, err := exec.Command(cxx, args...).CombinedOutput(); err != nil {
			t.Fatalf("it does not compile: %v\n%s", err, text)
		}
	}
	m.mustFail(t, "TestHost", hostVariable+"="+out)
}

// mustFail runs the mutant's suite.
func (m *mutant) mustFail(t *testing.T, test, variable string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(*maxMinutes)*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^"+test+"$/^"+m.suite+"$", "-seeds", "12", "-instructions", "300000000")
	cmd.Env = append(os.Environ(), variable)
	text, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		t.Fatalf("the test did not end in %d minutes", *maxMinutes)
	case err == nil:
		t.Fatal("no test found it")
	case !slices.ContainsFunc(strings.Split(m.kind, "|"), func(k string) bool { return regexp.MustCompile(kinds[k]).Match(text) }):
		t.Fatalf("it was not found as %s:\n%s", m.kind, text)
	}
	t.Logf("found: %s", firstLine(text))
}

// firstLine returns the first line that says what a test found.
func firstLine(text []byte) string {
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, ".go:") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// kinds are what is said of each kind of bug.
var kinds = map[string]string{
	"race":    `data race`,
	"bounds":  `which is in no array|which has \d+`,
	"unset":   `never written`,
	"aligned": `is not a multiple of`,
	"barrier": `waits where others do not|while others wait`,
	"mask":    `the mask|waits where others do not`,
	"result":  `, want |byte \d+ of \d+ \(\d+\) differs`,
	"ends":    `does not end`,
	"tsan":    `ThreadSanitizer: data race`,
	"asan":    `AddressSanitizer: |runtime error: .*misaligned`,
	"model":   `host model: `,
}

// mutant is a planted bug.
type mutant struct {
	name, suite, kind string
	file, old, new    string
	on                string // the sanitizer, for those that are found on the host
}

var hostFlags = map[string]string{"asan": "-fsanitize=address,undefined", "tsan": "-fsanitize=thread", "plain": "-g"}

// hostMutants show that the host model finds what it is there for; most bugs are planted for the interpreter.
var hostMutants = []mutant{
	{"tsan: no barrier before warps' sums are added", "scan", "tsan", "common.cuh", "        scratch[warp] = sum;\n    __syncthreads();", "        scratch[warp] = sum;", "tsan"},
	{"tsan: slots are lowered without atomics", "sign", "tsan", "sign.cu", "            if (value < dv_load(slot))\n                atomicMin(slot, value);", "            if (value < *slot)\n                *slot = value;", "tsan"},
	{"tsan: no barrier of the warp between counts", "partition", "tsan", "partition.cu", "+= __popc(same);\n            }\n            __syncwarp();", "+= __popc(same);\n            }", "tsan"},
	{"asan: one prefix sum too far", "scan", "asan", "scan.cu", "        out[n] = sums[tiles];", "        out[n + 1] = sums[tiles];", "asan"},
	{"asan: hashes beyond shared memory", "sign", "asan", "sign.cu", "to = min_of(from + each, windows);", "to = from + 4096;", "asan"},
	{"asan: words that are not aligned", "sign", "asan", "text.cuh", "(i64)at - (i64)(((u64)data + at) & 3)", "(i64)at", "asan"},
	{"plain: barrier in a branch", "bands", "model", "bands.cu", "h ^ h >> 33;\n        }\n        __syncthreads();", "h ^ h >> 33;\n            if (i == 3)\n                __syncthreads();\n        }\n        __syncthreads();", "plain"},
	{"plain: shuffle in a branch", "scan", "model", "common.cuh", "        T other = __shfl_up_sync(DV_ALL, sum, d);\n        if (lane >= d)\n            sum += other;", "        if (lane >= d)\n            sum += __shfl_up_sync(DV_ALL, sum, d);", "plain"},
}

var mutants = []mutant{
	// Barriers of the block.
	{"no barrier before warps' sums are added", "scan", "race|unset", "common.cuh", "        scratch[warp] = sum;\n    __syncthreads();", "        scratch[warp] = sum;", ""},
	{"no barrier after warps' sums are added", "scan", "race", "common.cuh", "        all += x;\n    }\n    __syncthreads();", "        all += x;\n    }", ""},
	{"no barrier after decoding", "sign", "race|unset", "text.cuh", "        kept[points] = (u32)(end - base);\n    __syncthreads();", "        kept[points] = (u32)(end - base);", ""},
	{"no barrier between reading and writing runs", "sign", "race", "sign.cu", "                values[v] = h;\n            }\n            __syncthreads();", "                values[v] = h;\n            }", ""},
	{"no barrier between levels of runs", "sign", "race", "sign.cu", "                    runs[i] = values[v];\n            }\n        }\n        __syncthreads();", "                    runs[i] = values[v];\n            }\n        }", ""},
	{"no barrier before minima of warps are joined", "sign", "race", "sign.cu", "            best[warp * 32 * K + 32 * k + lane] = least[k];\n        __syncthreads();", "            best[warp * 32 * K + 32 * k + lane] = least[k];", ""},
	{"no barrier after minima of warps are joined", "sign", "race", "sign.cu", "                atomicMin(slot, value);\n        }\n        __syncthreads();", "                atomicMin(slot, value);\n        }", ""},
	{"no barrier before hashes are used", "sign", "race|unset", "sign.cu", "starts[i + t.width], a[0]);\n            __syncthreads();", "starts[i + t.width], a[0]);", ""},
	{"no barrier before keys are turned", "bands", "race|unset", "bands.cu", "h ^ h >> 33;\n        }\n        __syncthreads();", "h ^ h >> 33;\n        }", ""},
	{"no barrier before the next tile of keys", "bands", "race", "bands.cu", "turn[i / 32 * 33 + i % 32];\n        __syncthreads();", "turn[i / 32 * 33 + i % 32];", ""},
	{"no barrier before the next tile of a set", "jaccard", "race", "jaccard.cu", "            __syncthreads();\n            if (t.last)", "            if (t.last)", ""},
	{"barrier in a branch", "sign", "barrier", "sign.cu", "                if (key < dv_load(slot))\n                    atomicMin(slot, key);\n            }\n            __syncthreads();", "                if (key < dv_load(slot))\n                    atomicMin(slot, key);\n                if (h & 1)\n                    __syncthreads();\n            }\n            __syncthreads();", ""},
	{"threads leave before a barrier", "scan", "barrier", "scan.cu", "    DV_SHARED(u64, scratch, DV_BLOCK / 32);\n    if (blockIdx.x != 0)\n        return;", "    DV_SHARED(u64, scratch, DV_BLOCK / 32);\n    if (blockIdx.x != 0 || threadIdx.x >= 224)\n        return;", ""},

	// Warps.
	{"shuffle in a branch", "scan", "mask", "common.cuh", "        T other = __shfl_up_sync(DV_ALL, sum, d);\n        if (lane >= d)\n            sum += other;", "        if (lane >= d)\n            sum += __shfl_up_sync(DV_ALL, sum, d);", ""},
	{"lanes that are gone in a mask", "partition", "mask", "partition.cu", "            if (row < rows) {\n                const u32 mine = part[row], same = __match_any_sync(here, mine);\n                if ((same", "            if (row < rows) {\n                const u32 mine = part[row], same = __match_any_sync(DV_ALL, mine);\n                if ((same", ""},
	{"no barrier of the warp between counts", "partition", "race", "partition.cu", "+= __popc(same);\n            }\n            __syncwarp();", "+= __popc(same);\n            }", ""},
	{"no barrier of the warp before a counter is raised", "partition", "race", "partition.cu", "                __syncwarp(here); // all have read\n", "", ""},
	{"no barrier of the warp after a counter is raised", "partition", "race", "partition.cu", "*next = at + __popc(same);\n            }\n            __syncwarp();", "*next = at + __popc(same);\n            }", ""},
	{"all lanes raise a counter", "partition", "race", "partition.cu", "                if (before == 0)\n                    *next", "                if (before < 32)\n                    *next", ""},
	{"sum of a warp in a branch", "concat", "mask", "pack.cu", "    sum = sum_of_warp(sum);\n    if (threadIdx.x % 32 == 0 && sum > 0)\n        atomicAdd(ones, sum);\n}\n\nDV_KERNEL dv_concat_offsets", "    if (sum == 0)\n        return;\n    sum = sum_of_warp(sum);\n    if (threadIdx.x % 32 == 0 && sum > 0)\n        atomicAdd(ones, sum);\n}\n\nDV_KERNEL dv_concat_offsets", ""},

	// Blocks that do the same at one time.
	{"all blocks scan the sums", "scan", "race", "scan.cu", "    if (blockIdx.x != 0)\n        return;", "", ""},
	{"slots are lowered without atomics", "sign", "race", "sign.cu", "            if (value < dv_load(slot))\n                atomicMin(slot, value);", "            if (value < *slot)\n                *slot = value;", ""},
	{"slots are looked at without atomics", "sign", "race", "sign.cu", "            if (value < dv_load(slot))\n                atomicMin(slot, value);", "            if (value < *slot)\n                atomicMin(slot, value);", ""},
	{"slots in shared memory without atomics", "sign", "result", "sign.cu", "                u32 *slot = to + (q >> 32), key = (u32)q >> 2;\n                if (key < dv_load(slot))\n                    atomicMin(slot, key);", "                u32 *slot = to + (q >> 32), key = (u32)q >> 2;\n                if (key < dv_load(slot))\n                    dv_store(slot, key);", ""},
	{"slots are initialised by two blocks", "sign", "race", "sign.cu", "i < (row + 1) * slots; i += DV_BLOCK", "i <= (row + 1) * slots && i < rows * slots; i += DV_BLOCK", ""},
	{"slots that others have filled count as full", "sign", "result", "sign.cu", "dv_load(row + j) >= 1u << 31", "dv_load(row + j) == ~0u", ""},
	{"a leader is stored without a swap", "group", "result", "group.cu", "                const u32 was = atomicCAS(place, there, me);\n                if (was == there) {", "                const u32 was = there;\n                dv_store(place, me);\n                if (was == there) {", ""},
	{"leaders are looked at without atomics", "group", "race", "group.cu", "there = dv_load(place);", "there = *place;", ""},
	{"a full table is noted without atomics", "group", "race", "group.cu", "            dv_store(full, (u64)1);", "            *full = 1;", ""},
	{"buckets are counted without atomics", "group", "race", "group.cu", "        atomicAdd(buckets, sum);", "        *buckets += sum;", ""},
	{"roots are linked without a swap", "components", "result", "components.cu", "            const u32 was = atomicCAS(parent + b, b, a);", "            const u32 was = dv_load(parent + b);\n            if (was == b)\n                dv_store(parent + b, a);", ""},
	{"paths are followed without atomics", "components", "race", "components.cu", "        const u32 up = dv_load(parent + p);", "        const u32 up = parent[p];", ""},
	{"hashes join a set without a swap", "jaccard", "result", "jaccard.cu", "                        there = atomicCAS(set + slot, 0ull, mine);", "                        dv_store(set + slot, mine);", ""},
	{"a hash decides in a set", "jaccard", "result", "jaccard.cu", "                    if (there >> 32 == mine >> 32 &&\n                        same_window(data, window_of(there, p.begin, p.end), window_of(mine, p.begin, p.end), (u32)width))", "                    if (there >> 32 == mine >> 32)", ""},
	{"a hash decides between texts", "jaccard", "result", "jaccard.cu", " && same_window(data, w, window_of(there, large_begin, large_end), (u32)width)) {", ") {", ""},
	{"a window of one text is looked for in the other", "jaccard", "result|bounds", "jaccard.cu", "window_of(there, large_begin, large_end), (u32)width)) {", "window_of(there, small_begin, small_end), (u32)width)) {", ""},
	{"distinct windows are counted without atomics", "jaccard", "race", "jaccard.cu", "            atomicAdd(distinct + p.row, fresh);", "            distinct[p.row] += fresh;", ""},
	{"all threads store a sum", "rowhash", "race", "rowhash.cu", "        if (threadIdx.x == 0)\n            sums[2 * p] = all_a", "        if (threadIdx.x < 2)\n            sums[2 * p] = all_a", ""},
	{"warps copy beyond their spans", "pack", "race", "pack.cu", "high = min_of(to[i + 1], end);", "high = to[i + 1];", ""},

	// Bounds, alignment, and what was never written.
	{"one tile value too many", "scan", "unset|bounds", "scan.cu", "            if (i < n)\n                sum += in[i];", "            if (i <= n)\n                sum += in[i];", ""},
	{"one prefix sum too far", "scan", "bounds", "scan.cu", "        out[n] = sums[tiles];", "        out[n + 1] = sums[tiles];", ""},
	{"words beyond the end of a text", "sign", "bounds", "text.cuh", "    if (at >= begin && at + 4 <= end)", "    if (at >= begin && at < end)", ""},
	{"words that are not aligned", "sign", "aligned", "text.cuh", "(i64)at - (i64)(((u64)data + at) & 3)", "(i64)at", ""},
	{"where the next tile begins is not set", "sign", "unset", "text.cuh", "    if (threadIdx.x == 0)\n        scratch->next = 0; // barriers lie between this and whoever knows better\n", "", ""},
	{"no zeros behind a tile's bytes", "sign", "unset", "text.cuh", "        words[chunk * DV_BLOCK + threadIdx.x] = 0;", "        ;", ""},
	{"the last window has no end", "sign", "unset|result", "text.cuh", "        kept[points] = (u32)(end - base);", "        ;", ""},
	{"hashes behind the last", "sign", "unset|result", "sign.cu", "to = min_of(from + each, windows);", "to = from + each;", ""},
	{"shared slots are not initialised", "sign", "unset", "sign.cu", "                least[j] = ~0u;", "                ;", ""},
	{"bits behind the last row", "pack", "bounds|unset|result", "pack.cu", "k < 8 && byte * 8 + k < rows", "k < 8", ""},
	{"words copied between addresses that differ", "concat", "aligned", "pack.cu", "((u64)to ^ (u64)from) & 3) == 0", "((u64)to ^ (u64)from) & 1) == 0", ""},
	{"a set of one slot too many", "jaccard", "result|bounds|unset", "jaccard.cu", "k < set_start[small + 1]; k += DV_BLOCK", "k <= set_start[small + 1]; k += DV_BLOCK", ""},
	{"more keys than the table has room for", "group", "ends", "group.cu", "        for (i64 probe = 0; probe < capacity; probe++) {\n            u32 *leaders", "        for (;;) {\n            u32 *leaders", ""},

	// Indexes of 32 bits.
	{"a text's position cut to 32 bits", "sparse", "result|bounds", "text.cuh", "    p.from = p.begin +", "    p.from = (u32)p.begin +", ""},
	{"a value's position cut to 32 bits", "sparse", "result|bounds", "pack.cu", "values + row * width : 0, width);", "values + (u32)(row * width) : 0, width);", ""},
	{"a bit's position cut to 32 bits", "sparse", "result", "common.cuh", "bits[i >> 3]", "bits[(int)i >> 3]", ""},
	{"a bucket's position cut to 32 bits", "sparse", "result", "group.cu", "            u32 *leaders = table + DV_LEADERS * slot;", "            u32 *leaders = table + (u32)(DV_LEADERS * slot);", ""},
	{"a slot's position cut to 32 bits", "sparse", "result|bounds", "bands.cu", "(const u32 *)signatures + (row * slots + first_slot) * words_per_slot", "(const u32 *)signatures + (int)((row * slots + first_slot) * words_per_slot)", ""},

	// Definitions.
	{"surrogates are code points", "sign", "result", "text.cuh", " && (p & 0xf800) != 0xd800", "", ""},
	{"code points above U+10FFFF", "sign", "result", "text.cuh", " && p <= 0x10ffff", "", ""},
	{"overlong encodings", "sign", "result", "text.cuh", "p >= 0x800 && ", "", ""},
	{"a byte too far back is not looked at", "sign", "result", "text.cuh", " || decode(three, &ignored) == 4", "", ""},
	{"the windows at the end of a piece", "sign", "result", "text.cuh", "first + k < (i64)p.to ?", "first + k + 1 < (i64)p.to ?", ""},
	{"a text that is shorter than a window", "sign", "result", "text.cuh", "    else if (at == p.begin && points > 0)", "    else if (at == p.begin && points > 1)", ""},
	{"another modulus", "sign", "result", "sign.cu", "const u64 prime = (1ull << 61) - 1;", "const u64 prime = (1ull << 61) - 3;", ""},
	{"runs in another order", "sign", "result", "sign.cu", "for (u32 k = bits; k > 0; k--)\n            h = fast_fold(h, saved[(k - 1)", "for (u32 k = 0; k < bits; k++)\n            h = fast_fold(h, saved[k", ""},
	{"lanes of a group are not joined", "sign", "result", "sign.cu", "for (u32 d = group; d < 32; d *= 2)\n                least[0]", "for (u32 d = group; d < 16; d *= 2)\n                least[0]", ""},
	{"bands counted from 0", "bands", "result", "bands.cu", "(u64)(band + 1) *", "(u64)(band) *", ""},
	{"the length of an MD5 in the wrong block", "buckets", "result", "bands.cu", "const bool last = first + 16 > words + 2;", "const bool last = first + 16 > words + 1;", ""},
	{"zeros of both signs", "hash", "result", "partition.cu", "    v = (v & ~sign) == 0 ? 0 : v;", "", ""},
	{"rows that are null", "pack", "result", "pack.cu", "        lengths[i] = is_valid(validity, row) ? bytes : 0;", "        lengths[i] = bytes;", ""},
	{"pieces without rows", "concat", "result|bounds", "pack.cu", "            while (row_start[k + 1] <= (u64)i)\n                k++;", "            if (row_start[k + 1] <= (u64)i)\n                k++;", ""},
	{"offsets that do not begin at 0", "concat", "result", "pack.cu", " - offset_at(from[k], offset_bytes, 0);", ";", ""},
	{"the block of XXH3", "content", "result", "xxh3.cuh", "if (++in_block == 16 && s < stripes)", "if (++in_block == 15 && s < stripes)", ""},
	{"a hash of five to eight bytes", "content", "result", "xxh3.cuh", "XXH64_1 + (n << 2);", "XXH64_1 + (n << 1);", ""},
	{"who lost a place goes nowhere", "group", "result", "group.cu", "                    me = there;\n                    break;", "                    me = 0;\n                    break;", ""},
	{"the order without the keep key", "group", "result", "group.cu", "    if (keep && keep[a] != keep[b])\n        return keep[a] < keep[b];", "", ""},
	{"the larger root wins", "components", "result", "components.cu", "pi_before(keep, ord, b, a) : b < a", "pi_before(keep, ord, a, b) : a < b", ""},
	{"windows that were there count", "jaccard", "result", "jaccard.cu", "                        fresh += there == 0;", "                        fresh += 1;", ""},
}
