package corpus

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
)

// A number of a keep field, as an exact fraction, and its key.
type keyed struct {
	value *big.Rat
	key   uint64
	exact bool // it shares its key with no other exact one
}

func someInts(rnd *rand.Rand) []int64 {
	out := []int64{0, 1, -1, math.MaxInt64, math.MaxInt64 - 1, math.MinInt64, math.MinInt64 + 1, math.MinInt64 + 2}
	for s := range 63 {
		for d := int64(-2); d <= 2; d++ {
			out = append(out, 1<<s+d, -1<<s+d)
		}
		out = append(out, rnd.Int64()>>s, -rnd.Int64()>>s)
	}
	return out
}

func checkOrder(t *testing.T, all []keyed) {
	t.Helper()
	slices.SortFunc(all, func(a, b keyed) int { return a.value.Cmp(b.value) })
	lastExact := keyed{value: new(big.Rat)}
	for i, b := range all {
		if b.key == 0 {
			t.Fatalf("%v has the key of null", b.value)
		}
		if i == 0 {
			continue
		}
		if a := all[i-1]; a.key > b.key || a.value.Cmp(b.value) == 0 && a.key != b.key {
			t.Fatalf("%v has key %x, %v has %x", a.value, a.key, b.value, b.key)
		}
		if b.exact {
			if a := lastExact; a.key == b.key && a.value.Cmp(b.value) != 0 {
				t.Fatalf("%v and %v have key %x", a.value, b.value, b.key)
			}
			lastExact = b
		}
	}
}

func TestKeysOfIntegers(t *testing.T) {
	var all, unsigned []keyed
	for _, v := range someInts(rand.New(rand.NewPCG(1, 2))) {
		all = append(all, keyed{new(big.Rat).SetInt64(v), intKey(v), v > math.MinInt64+1})
		u := new(big.Rat).SetInt(new(big.Int).SetUint64(uint64(v)))
		unsigned = append(unsigned, keyed{u, uintKey(uint64(v)), uint64(v) < math.MaxUint64-1})
	}
	checkOrder(t, all)
	checkOrder(t, unsigned)
}

// Among numbers, integers and floats have one order, which is exact where the documentation says so.
func TestKeysOfNumbers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var all []keyed
	for _, v := range someInts(rnd) {
		exact := v >= -1<<62
		all = append(all, keyed{new(big.Rat).SetInt64(v), numberKeyInt(v), exact})
		u := new(big.Rat).SetInt(new(big.Int).SetUint64(uint64(v)))
		all = append(all, keyed{u, numberKeyUint(uint64(v)), uint64(v) <= 1<<63})
	}
	floats := []float64{0, math.Copysign(0, -1), math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1, 0.3, 1e18, 1e19, 1e-300}
	for e := -1080; e < 1024; e += 3 {
		f := math.Ldexp(1, e)
		floats = append(floats, f, math.Nextafter(f, 0), math.Nextafter(f, math.Inf(1)), f*(1+rnd.Float64()))
	}
	for _, f := range floats {
		for _, f := range []float64{f, -f} {
			if size := math.Abs(f); !math.IsInf(size, 0) {
				exact := size > math.Ldexp(1, -450) && size <= 1<<53
				all = append(all, keyed{new(big.Rat).SetFloat64(f), numberKey(f), exact})
			}
		}
	}
	checkOrder(t, all)
	lowest, highest := numberKey(math.Inf(-1)), numberKey(math.Inf(1))
	for _, k := range all {
		if k.key < lowest || k.key > highest {
			t.Errorf("%v has key %x, outside of infinity", k.value, k.key)
		}
	}
	if lowest == 0 || numberKey(math.NaN()) != 0 || floatKey(math.NaN()) != 0 || floatKey(math.Inf(-1)) == 0 {
		t.Error("infinity or NaN has the wrong end")
	}
}

func TestKeysOfMixedFiles(t *testing.T) {
	kind := func(c keepClass, unit int64, scale int32) KeepKind { return KeepKind{c, unit, scale} }
	millis, nano, date := kind(keepMoment, 1e6, 0), kind(keepMoment, 1, 0), kind(keepMoment, day, 0)
	cents, tenths := kind(keepDecimal, 0, 2), kind(keepDecimal, 0, 1)
	for _, c := range []struct {
		a, b, both KeepKind
		ok         bool
	}{
		{kind(keepInt, 0, 0), kind(keepInt, 0, 0), kind(keepInt, 0, 0), true},
		{KeepKind{}, millis, millis, true}, {millis, KeepKind{}, millis, true},
		{millis, nano, nano, true}, {millis, date, nano, true}, {cents, cents, cents, true},
		{cents, tenths, kind(keepNumber, 0, 0), true}, {kind(keepInt, 0, 0), kind(keepFloat, 0, 0), kind(keepNumber, 0, 0), true},
		{kind(keepInt, 0, 0), kind(keepUint, 0, 0), kind(keepNumber, 0, 0), true},
		{kind(keepInt, 0, 0), millis, kind(keepInt, 0, 0), false}, {kind(keepClock, 1, 0), nano, kind(keepClock, 1, 0), false},
	} {
		if got, ok := c.a.with(c.b); got != c.both || ok != c.ok {
			t.Errorf("%v with %v is %v, %v", c.a, c.b, got, ok)
		}
	}
	// One moment has one key in every unit, and one amount in every scale.
	at := int64(1_704_067_200_000)
	if a, b := (keyer{millis, nano}).int(at), (keyer{nano, nano}).int(at*1e6); a != b {
		t.Errorf("%x, %x", a, b)
	}
	if a, b := (keyer{date, nano}).int(19723), (keyer{nano, nano}).int(at*1e6); a != b {
		t.Errorf("%x, %x", a, b)
	}
	number := kind(keepNumber, 0, 0)
	if a, b, c := (keyer{cents, number}).int(110), (keyer{tenths, number}).int(11), (keyer{kind(keepFloat, 0, 0), number}).float(1.1); a != b || b != c {
		t.Errorf("%x, %x, %x", a, b, c)
	}
	// What nanoseconds cannot hold is the nearest they can.
	if a, b := (keyer{date, nano}).int(math.MaxInt32), (keyer{date, nano}).int(math.MinInt32); a != intKey(math.MaxInt64) || b != intKey(math.MinInt64) {
		t.Errorf("%x, %x", a, b)
	}
	if a := (keyer{cents, cents}).decimal(2)([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}); a != intKey(-2) {
		t.Errorf("%x", a)
	}
	if a := int96Nanos(parquet.Int96{0: 7, 8: 0x8c, 9: 0x3d, 10: 0x25}); a != 7 {
		t.Errorf("%d", a)
	}
}

// Nanoseconds and integers beyond 2^53 that differ by one are told apart, in Parquet and in JSON.
func TestKeysBeyondFloats(t *testing.T) {
	fsys := newMemFS(map[string]string{"a.jsonl": `{"text":"a","n":1700000000000000001}` + "\n" + `{"text":"b","n":1700000000000000002}` + "\n" +
		`{"text":"c","n":9223372036854775807}` + "\n" + `{"text":"d","n":9223372036854775806}` + "\n" + `{"text":"e","n":0.5}`})
	s := mustResolve(t, fsys, Options{KeepField: "n"}, "a.jsonl")
	got := readAll(t, s, 1, ReadOptions{})
	if !(got[4].Keep < got[0].Keep && got[0].Keep < got[1].Keep && got[1].Keep < got[3].Keep && got[3].Keep < got[2].Keep) {
		t.Errorf("%v", got)
	}
	w := mustResolve(t, Local(), Options{KeepField: "u64"}, fixturePath("wide_lz4.parquet"))
	for i, r := range readAll(t, w, 1, ReadOptions{}) {
		if v := math.MaxUint64 - uint64(i); r.Keep != uintKey(v) && i%5 != 2 || r.Keep != 0 && i%5 == 2 {
			t.Errorf("row %d: %x", i, r.Keep)
		}
	}
}
