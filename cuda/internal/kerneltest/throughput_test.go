package kerneltest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda/internal/ptx"
	"github.com/dovetail-dedup/dovetail/lsh"
)

const (
	sassVariable       = "DOVETAIL_KERNELS_SASS"       // what nvdisasm says of the cubin for sm_90, with lines of the PTX
	usageVariable      = "DOVETAIL_KERNELS_USAGE"      // the table of registers
	throughputVariable = "DOVETAIL_KERNELS_THROUGHPUT" // the file to write
)

// What is assumed of a GPU: an H100 SXM. A multiprocessor issues 4 warp instructions a cycle; half of that at most go to the integer
// units and half to the multipliers, one to memory; shared memory has 32 banks, the first cache gives 4 sectors.
const (
	processors  = 132
	hertz       = 1.7e9
	issueRate   = 4.0
	aluRate     = 2.0
	fmaRate     = 2.0
	lsuRate     = 1.0
	sectorRate  = 4.0
	dramBytes   = 3.35e12
	pcieBytes   = 55e9
	registers   = 65536
	sharedBytes = 227 << 10
)

// work is what one launch is measured on.
type work struct {
	kernel string
	unit   string
	amount float64 // units that the launch did
	bytes  float64 // that it must read and write, at least
	shared int     // dynamic shared memory
}

// sassLine counts the machine instructions of a line of PTX.
type sassLine struct{ all, alu, fma, lsu, copies int }

var (
	linePattern  = regexp.MustCompile(`^\s*//## File "\.nv_debug_ptx_txt", line (\d+)`)
	codePattern  = regexp.MustCompile(`^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)`)
	multiply     = regexp.MustCompile(`^IMAD`)
	memoryAccess = regexp.MustCompile(`^(LD|ST|ATOM|RED|SHFL|LDS|STS)`)
	otherUnits   = regexp.MustCompile(`^(U|BRA|EXIT|BSSY|BSYNC|BAR|WARPSYNC|NOP|S2R|S2UR|LDC|RET|CALL|BREAK|MATCH|VOTE|R2UR|CS2R|DEPBAR|YIELD|ERRBAR|MEMBAR|CCTL)`)
)

func readSASS(file string) (map[int]*sassLine, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := map[int]*sassLine{}
	at := 0
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if m := linePattern.FindStringSubmatch(s.Text()); m != nil {
			at, _ = strconv.Atoi(m[1])
			continue
		}
		m := codePattern.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		l := lines[at]
		if l == nil {
			l = &sassLine{}
			lines[at] = l
		}
		l.all++
		switch op := m[1]; {
		case memoryAccess.MatchString(op):
			l.lsu++
		case multiply.MatchString(op):
			l.fma++
		case !otherUnits.MatchString(op):
			l.alu++
		}
	}
	return lines, s.Err()
}

// TestThroughput calculates what a GPU could do: the interpreter says how often warps execute each line of PTX and how many
// sectors and banks they touch, and the disassembly of the cubin how many machine instructions a line became. Where ptxas unrolled a
// loop, the instructions of a line are copies of which one runs at a time: as many as the line, or another of its basic block,
// has accesses to memory. What hides latency is not looked at, beyond occupancy; so figures are bounds.
func TestThroughput(t *testing.T) {
	out := os.Getenv(throughputVariable)
	if out == "" {
		t.Skipf("%s is not set; make kernel-throughput sets it", throughputVariable)
	}
	sass, err := readSASS(os.Getenv(sassVariable))
	if err != nil {
		t.Fatal(err)
	}
	usage, err := os.ReadFile(os.Getenv(usageVariable))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(os.Getenv(ptxVariable))
	if err != nil {
		t.Fatal(err)
	}
	m, err := ptx.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	setCopies(sass, strings.Split(string(text), "\n"))
	d := NewInterpreter(m)
	d.Profile = &ptx.Profile{Lines: map[int]*ptx.Counts{}}
	b := &bench{t, d, rand.New(rand.NewPCG(1, 1))}

	var table strings.Builder
	table.WriteString("| kernel | work | instructions per unit | bound by | occupancy | GPU's bound | of PCIe |\n|---|---|---|---|---|---|---|\n")
	for _, w := range measure(b) {
		regs, fixed := used(string(usage), w.kernel)
		blocks := min(8, registers/((regs+7)/8*8*Block), sharedBytes/(fixed+w.shared+1024))
		var all, alu, fma, lsu, banks, sectors float64
		for line, c := range d.Profile.Lines {
			l := sass[line]
			if c.Kernel != w.kernel {
				continue
			}
			banks, sectors = banks+float64(c.Banks), sectors+float64(c.Sectors)
			if l == nil {
				continue // it became nothing
			}
			n := float64(c.Issues) / float64(max(1, l.copies))
			all, alu, fma, lsu = all+n*float64(l.all), alu+n*float64(l.alu), fma+n*float64(l.fma), lsu+n*float64(l.lsu)
		}
		if all == 0 {
			t.Fatalf("%s executed nothing that the disassembly has", w.kernel)
		}
		cycles, by := 0.0, ""
		bounds := []struct {
			cycles float64
			by     string
		}{
			{all / issueRate, "issue"}, {alu / aluRate, "integer units"}, {fma / fmaRate, "multipliers"},
			{lsu / lsuRate, "memory instructions"}, {banks, "banks of shared memory"}, {sectors / sectorRate, "first cache"},
			{w.bytes / dramBytes * hertz * processors, "device memory"},
		}
		for _, bound := range bounds {
			if bound.cycles > cycles {
				cycles, by = bound.cycles, bound.by
			}
		}
		rate := w.amount / cycles * hertz * processors
		pcie := "-"
		if w.unit == "byte" {
			pcie = fmt.Sprintf("%.1f x", rate/pcieBytes)
		}
		fmt.Fprintf(&table, "| `%s` | %s | %.2f | %s | %d %% | %s %ss/s | %s |\n", w.kernel, w.unit, all*32/w.amount, by, blocks*Block*100/2048, short(rate), w.unit, pcie)
	}
	if err := os.WriteFile(out, []byte(table.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func short(x float64) string {
	switch {
	case x >= 1e12:
		return fmt.Sprintf("%.1f T", x/1e12)
	case x >= 1e9:
		return fmt.Sprintf("%.1f G", x/1e9)
	}
	return fmt.Sprintf("%.0f M", x/1e6)
}

// setCopies says how often ptxas copied lines.
func setCopies(sass map[int]*sassLine, text []string) {
	var block []int
	copies := 1
	flush := func() {
		for _, n := range block {
			l := sass[n]
			if l.copies = copies; l.lsu > 0 {
				l.copies = l.lsu
			}
		}
		block, copies = nil, 1
	}
	for i, s := range text {
		s = strings.TrimSpace(s)
		if l := sass[i+1]; l != nil {
			block = append(block, i+1)
			if l.lsu > 0 && !strings.Contains(s, "ld.param") {
				copies = l.lsu
			}
		}
		if strings.HasPrefix(s, "$") || strings.HasPrefix(s, "bra") || strings.HasPrefix(s, "@") {
			flush()
		}
	}
	flush()
}

// used reads registers and shared memory of a kernel on sm_90.
func used(usage, kernel string) (regs, shared int) {
	lines := strings.Split(usage, "\n")
	column := slices.Index(strings.Fields(lines[0]), "sm_90") - 1 // "registers on" are two words
	for _, l := range lines {
		if f := strings.Fields(l); len(f) > column && f[0] == kernel {
			regs, _ = strconv.Atoi(f[column])
			shared, _ = strconv.Atoi(f[1])
		}
	}
	return regs, shared
}

// measure runs the kernels on what they are for: texts of 2.5 KB, 20 bands of 13, windows of 24; batches of some thousand rows.
func measure(b *bench) (done []work) {
	words := strings.Fields("the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which one you were all her she there would their we him been has when who will no more if out so up said what its about than into them can only other time new some could these two may first then do any like my now over such our man me even most made after also did many off before must well back through years where much your way down should because long each just state those people too mister good world make very year still see own work men day get here old life both between being under three never know same last another while us might great go come since against right came take used himself few house american use place during high without again home around small however found thought went say part once general upon school every")
	prose := func(n int) string {
		var s strings.Builder
		for s.Len() < n {
			s.WriteString(words[b.rng.IntN(len(words))] + " ")
		}
		return s.String()[:n]
	}
	const docs, size = 24, 2500
	var rows []string
	total := 0.0
	for range docs {
		rows = append(rows, prose(size))
		total += size
	}
	t := b.column(rows, nil)
	run := func(kernel, unit string, amount, bytes float64, shared int) {
		done = append(done, work{kernel, unit, amount, bytes, shared})
	}
	for _, sketch := range lsh.Sketches() {
		p := lsh.DefaultParams()
		p.Sketch = sketch
		b.sign(p, t, 16384)
		read := total + float64(p.SignatureBytes(docs))
		switch sketch {
		case lsh.Fast:
			run("dv_sign_fast_map", "byte", total, read, sharedFast(24))
			run("dv_sign_fast_fill", "byte", total, read, sharedFast(24))
		case lsh.Curator32:
			run("dv_sign_curator32", "byte", total, read, sharedTexts(24)+4096)
		default:
			run("dv_sign_curator64", "byte", total, read, sharedTexts(24)+8192)
		}
	}
	hashes := alloc[uint64](b, "hashes", 2*docs)
	b.launch("dv_content_hash", 0, t.offsets, t.width, t.data, 0, docs, hashes)
	run("dv_content_hash", "byte", total, total, 0)
	b.launch("dv_row_hash_strings", 0, t.offsets, t.width, t.data, 0, docs, 1, hashes)
	run("dv_row_hash_strings", "byte", total, total, 0)

	n := 4096
	signatures := make([]uint32, n*260)
	for i := range signatures {
		signatures[i] = b.rng.Uint32()
	}
	keys := alloc[uint64](b, "keys", n*20)
	b.launch("dv_band_keys", 0, put(b, "signatures", signatures), 4, uint64(n), 20, 13, keys)
	run("dv_band_keys", "row", float64(n), float64(n)*(260*4+20*8), 0)

	part := alloc[uint32](b, "part", n)
	b.launch("dv_part_of_key", 0, keys, uint64(n), 256, 0, part)
	order, _ := b.order(part, n, 256)
	run("dv_part_of_key", "row", float64(n), float64(n)*12, 0)
	run("dv_part_count", "row", float64(n), float64(n)*4, 0)
	run("dv_part_order", "row", float64(n), float64(n)*8, 0)
	out := alloc[uint64](b, "packed", n)
	b.launch("dv_pack_fixed", 0, keys, 8, 0, order, 0, uint64(n), out)
	run("dv_pack_fixed", "row", float64(n), float64(n)*20, 0)
	lengths := alloc[uint64](b, "lengths", docs+1)
	some := put(b, "order", []uint32{5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 10, 11})
	b.launch("dv_pack_lengths", 0, t.offsets, t.width, 0, some, 0, 12, lengths)
	to := b.scan(lengths, 12, true)
	b.launch("dv_pack_strings", 0, t.offsets, t.width, t.data, some, 0, 12, to, alloc[byte](b, "bytes", 12*size))
	run("dv_pack_strings", "byte", 12*size, 2*12*size, 0)

	rs := make([]uint64, n)
	ord := make([]uint64, n)
	for i := range rs {
		rs[i], ord[i] = b.rng.Uint64()>>1, uint64(b.rng.IntN(1<<40))
		if b.rng.IntN(5) == 0 && i > 0 {
			rs[i] = rs[b.rng.IntN(i)]
		}
	}
	k, o := put(b, "keys", rs), put(b, "ord", ord)
	table, full := zeros[uint32](b, "table", 4*2*n), zeros[uint64](b, "full", 1)
	b.launch("dv_group_leaders", 0, k, 0, o, 0, uint64(n), table, uint64(2*n), full)
	run("dv_group_leaders", "record", float64(n), float64(n)*(8+32+32), 0)
	counts := alloc[uint64](b, "counts", n+1)
	b.launch("dv_group_count", 0, k, 0, o, uint64(n), table, uint64(2*n), counts, zeros[uint64](b, "buckets", 1))
	run("dv_group_count", "record", float64(n), float64(n)*(8+32+32+8), 0)

	b.launch("dv_window_slots", 0, t.offsets, t.width, 0, docs, lengths)
	start := b.scan(lengths, docs, true)
	all := get[uint64](b, start+8*docs, 1)[0]
	first := b.pieces(t, 16384)
	sets, distinct := zeros[uint64](b, "sets", int(all)), zeros[uint64](b, "distinct", docs)
	b.launch("dv_window_sets", sharedTexts(24), t.offsets, t.width, t.data, docs, first, 16384, 24, 1, start, sets, distinct)
	run("dv_window_sets", "byte", total, total*33, sharedTexts(24))
	var a, c []uint32
	for i := range docs {
		a, c = append(a, uint32(i)), append(c, uint32(b.rng.IntN(docs)))
	}
	b.launch("dv_jaccard", 0, t.offsets, t.width, t.data, 24, put(b, "a", a), put(b, "b", c), docs, start, sets, distinct, alloc[uint64](b, "i", docs), alloc[uint64](b, "u", docs))
	run("dv_jaccard", "pair", docs, docs*(size*2*8+size*32+2*size), 0)
	return done
}
