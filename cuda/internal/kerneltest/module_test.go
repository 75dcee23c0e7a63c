package kerneltest

import (
	"bufio"
	"fmt"
	"math/bits"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// header is the contract with whoever launches kernels.
const header = "../../kernels.h"

// declared returns the number of parameters of every kernel in the header, and the names in its list.
func declared(t *testing.T) (params map[string]int, listed []string) {
	t.Helper()
	text, err := os.ReadFile(header)
	if err != nil {
		t.Fatal(err)
	}
	params = map[string]int{}
	for _, f := range regexp.MustCompile(`(?s)DV_KERNEL (dv_\w+)\((.*?)\);`).FindAllStringSubmatch(string(text), -1) {
		params[f[1]] = 1 + strings.Count(f[2], ",")
		for _, p := range strings.Split(f[2], ",") {
			if !strings.Contains(p, "*") && !strings.Contains(p, "dv_i64 ") {
				t.Errorf("%s: a parameter that is neither a pointer nor has 64 bits: %s", f[1], p)
			}
		}
	}
	for _, f := range regexp.MustCompile(`X\((dv_\w+)\)`).FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, f[1])
	}
	return params, listed
}

// The header declares what it lists.
func TestHeader(t *testing.T) {
	params, listed := declared(t)
	if len(listed) < 40 || len(params) != len(listed) {
		t.Errorf("%d kernels are declared, %d listed", len(params), len(listed))
	}
	for _, k := range listed {
		if params[k] == 0 {
			t.Errorf("%s is listed and not declared", k)
		}
	}
}

// The module has the kernels that the header declares, with as many parameters, and no others.
func TestModule(t *testing.T) {
	m := theModule(t)
	params, _ := declared(t)
	for _, k := range m.Kernels() {
		if n, _ := m.Params(k); n != params[k] {
			t.Errorf("%s has %d parameters, the header says %d", k, n, params[k])
		}
	}
	if len(m.Kernels()) != len(params) {
		t.Errorf("the module has %d kernels, the header %d", len(m.Kernels()), len(params))
	}
}

// Every kernel is launched by some suite: its name is in a test.
func TestEveryKernelIsTested(t *testing.T) {
	params, _ := declared(t)
	var all strings.Builder
	for _, f := range []string{"call.go", "kernels_test.go", "sign_test.go", "columns_test.go", "dedup_test.go"} {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for k := range params {
		if !strings.Contains(all.String(), `"`+k+`"`) {
			t.Errorf("no test launches %s", k)
		}
	}
}

// The shared memory that tests ask for is what the header says, for every width. The sizes are computed from its text.
func TestSharedMemory(t *testing.T) {
	text, err := os.ReadFile(header)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"#define DV_SIGN_TILE(width) ((width) <= 256 ? 1020 - (width) : 512)",
		"#define DV_SHARED_SIGN_BYTES(width) ((DV_SIGN_TILE(width) + (width)) * 8 + 1152)",
		"#define DV_SHARED_CURATOR32(width) (DV_SHARED_SIGN_BYTES(width) + DV_SIGN_TILE(width) * 4)",
		"#define DV_SHARED_CURATOR64(width) (DV_SHARED_SIGN_BYTES(width) + DV_SIGN_TILE(width) * 8)",
		"#define DV_SHARED_FAST(width) ((DV_SIGN_TILE(width) + (width)) * 4 + (DV_BITS(width) - 1) * DV_SIGN_TILE(width) * 4 + 64)",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the header does not say %s", want)
		}
	}
	// With the arrays of fixed size, of which the golden file says the size, all is below 48 KiB.
	for width := 1; width <= 4096; width++ {
		for kernel, n := range map[string]int{
			"dv_sign_curator64": sharedTexts(width) + 8*tileOf(width) + 4144, "dv_sign_fast_fill": sharedFast(width) + 6192,
			"dv_window_sets": sharedTexts(width) + 48,
		} {
			if n > 48<<10 {
				t.Fatalf("%s of width %d (%d bits) needs %d bytes of shared memory", kernel, width, bits.OnesCount(uint(width)), n)
			}
		}
	}
}

// The copies of flow's functions give the values that flow's own test compares with too.
func TestFlowGolden(t *testing.T) {
	f, err := os.Open("../../testdata/flow.golden")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		var h, a, b uint64
		var parts, part int
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		if _, err := fmt.Sscanf(s.Text(), "%x %d %d %x %x", &h, &parts, &part, &a, &b); err != nil {
			t.Fatalf("%q: %v", s.Text(), err)
		}
		words := []uint64{h, uint64(parts)}
		blob := slices.Repeat([]byte{byte(h)}, parts%300)
		if got := partOf(h, parts); got != part {
			t.Errorf("%s: part %d", s.Text(), got)
		}
		if x, y := recordHash(words, blob, parts%2 == 0); x != a || y != b {
			t.Errorf("%s: record hash %x %x", s.Text(), x, y)
		}
		n++
	}
	if n < 20 {
		t.Errorf("%d values", n)
	}
}
