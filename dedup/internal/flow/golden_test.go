package flow

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

var writeGolden = flag.Bool("write-golden", false, "write cuda/testdata/flow.golden")

// golden has values of functions that kernels compute too, on GPUs: their tests, which cannot import this package, read the same
// file.
const golden = "../../../cuda/testdata/flow.golden"

func TestKernelGolden(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var want strings.Builder
	want.WriteString("# hash, parts, PartOf, RecordHash of (hash, parts) and, if parts is even, parts mod 300 bytes of the hash's last\n")
	for range 40 {
		h, parts := rng.Uint64()>>rng.IntN(64), 1+rng.IntN(5000)
		r := RecordHash([]uint64{h, uint64(parts)}, slices.Repeat([]byte{byte(h)}, parts%300), parts%2 == 0)
		fmt.Fprintf(&want, "%x %d %d %x %x\n", h, parts, PartOf(h, parts), r.A, r.B)
	}
	if *writeGolden {
		if err := os.WriteFile(golden, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for w := range strings.Lines(want.String()) {
		if !lines.Scan() || lines.Text()+"\n" != w {
			t.Fatalf("%q, want %q; the kernels have to change with it", lines.Text(), w)
		}
	}
}
