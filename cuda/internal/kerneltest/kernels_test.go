package kerneltest

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/dovetail-dedup/dovetail/cuda/internal/ptx"
)

var (
	seeds    = flag.Int("seeds", 3, "how many times each kernel is tried, with other data and another order of threads")
	most     = flag.Int64("instructions", 0, "the most instructions of a launch; 0: no bound that matters")
	seedFrom = flag.Uint64("seed", 1, "the first seed")
)

// Where the tests find what make builds. Without them they skip: they are run by make test-kernels.
const (
	ptxVariable  = "DOVETAIL_KERNELS_PTX"  // a file
	hostVariable = "DOVETAIL_KERNELS_HOST" // a program
)

// suites are the tests of all kernels.
var suites = []struct {
	name string
	run  func(b *bench)
}{
	{"scan", testScan}, {"sign", testSign}, {"signwide", testSignWide}, {"bands", testBands}, {"buckets", testBuckets},
	{"hash", testHash}, {"partition", testPartition}, {"pack", testPack}, {"concat", testConcat},
	{"rowhash", testRowHash}, {"records", testRecords}, {"content", testContent},
	{"group", testGroup}, {"components", testComponents}, {"jaccard", testJaccard}, {"sparse", testSparse},
}

// runSuites opens one device for all, because some take long to start, and another after a failure.
func runSuites(t *testing.T, open func() (Device, error)) {
	var d Device
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			for seed := *seedFrom; seed < *seedFrom+uint64(*seeds); seed++ {
				ok := t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
					if d == nil {
						var err error
						if d, err = open(); err != nil {
							t.Fatal(err)
						}
					}
					s.run(&bench{t, d, rand.New(rand.NewPCG(seed, 5))})
					if err := d.Reset(); err != nil {
						t.Fatal(err)
					}
				})
				if !ok {
					if d != nil {
						_ = d.Close() // the failure is known
						d = nil
					}
					return
				}
			}
		})
	}
	if d != nil {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// theModule returns the PTX that nvcc made, or skips the test.
func theModule(t *testing.T) *ptx.Module {
	t.Helper()
	file := os.Getenv(ptxVariable)
	if file == "" {
		t.Skipf("%s is not set; make test-kernels sets it", ptxVariable)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ptx.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The PTX that nvcc made, run by the interpreter.
func TestPTX(t *testing.T) {
	m := theModule(t)
	d := NewInterpreter(m)
	d.MaxInstructions = *most
	runSuites(t, func() (Device, error) { return d, d.Reset() })
	t.Logf("%d million instructions", d.Instructions/1e6)
}

// The same source as C++, with whatever sanitizers it was built with.
func TestHost(t *testing.T) {
	program := os.Getenv(hostVariable)
	if program == "" {
		t.Skipf("%s is not set; make test-kernels sets it", hostVariable)
	}
	runSuites(t, func() (Device, error) { return NewHost(program) })
}

func equal[T comparable](b *bench, what string, got, want []T) {
	b.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			b.Fatalf("%s: value %d of %d is %v, want %v", what, i, len(want), got[i], want[i])
		}
	}
	b.Fatalf("%s: %d values, want %d", what, len(got), len(want))
}

func testScan(b *bench) {
	for _, n := range []int{0, 1, b.rng.IntN(300), 2048, 2049, 2048*2 + b.rng.IntN(5000)} {
		in := make([]uint64, n)
		want := make([]uint64, n+1)
		for i := range in {
			in[i] = b.rng.Uint64() >> b.rng.IntN(64)
			want[i+1] = want[i] + in[i]
		}
		equal(b, "prefix sums", get[uint64](b, b.scan(put(b, "in", in), n, false), n+1), want)
		at := alloc[uint64](b, "in and out", n+1)
		if err := b.Write(at, bytesOf(in)); err != nil {
			b.Fatal(err)
		}
		equal(b, "prefix sums in place", get[uint64](b, b.scan(at, n, true), n+1), want)
	}
	// More tiles than dv_scan_sums has threads, without the values.
	tiles := 600
	sums := make([]uint64, tiles+1)
	want := make([]uint64, tiles+1)
	for i := range tiles {
		sums[i] = b.rng.Uint64()
		want[i+1] = want[i] + sums[i]
	}
	at := put(b, "sums", sums)
	b.launch("dv_scan_sums", 0, at, uint64(tiles))
	equal(b, "sums", get[uint64](b, at, tiles+1), want)
}

// text makes a text of about n bytes: letters, other scripts, and bytes that are no UTF-8, in changing shares.
func text(rng *rand.Rand, n int) string {
	var s []byte
	kind := rng.IntN(4)
	for len(s) < n {
		switch k := rng.IntN(12); {
		case kind == 0 || kind < 3 && k < 6:
			for range 1 + rng.IntN(9) {
				s = append(s, byte('a'+rng.IntN(4)))
			}
		case k < 8:
			s = append(s, string([]rune{0x41, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xfffd, 0xffff, 0x10000, 0x10ffff}[rng.IntN(11)])...)
		case k < 10:
			s = append(s, string(rune(0x4e00+rng.IntN(50)))...)
		case k < 11:
			// Encodings that are cut, overlong, surrogates or above U+10FFFF.
			s = append(s, []string{"\xc2", "\xe4\xb8", "\xf0\x90\x80", "\xc0\x80", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
				"\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\x80\x80\x80\x80\x80", "\xff"}[rng.IntN(11)]...)
		default:
			s = binary.LittleEndian.AppendUint32(s, rng.Uint32())
		}
	}
	return string(s[:n])
}

// corpus makes texts, a few of them null or empty, and their validity, which may be nil.
func corpus(rng *rand.Rand, rows, most int) (rs []string, valid []bool) {
	for range rows {
		n := 0
		switch rng.IntN(8) {
		case 0:
		case 1, 2:
			n = 1 + rng.IntN(40)
		default:
			n = rng.IntN(most)
		}
		rs = append(rs, text(rng, n))
	}
	if rng.IntN(3) > 0 {
		for range rs {
			valid = append(valid, rng.IntN(5) > 0)
		}
	}
	return rs, valid
}
