package mem_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/dovetail-dedup/dovetail/mem"
)

func TestHostAllocator(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 4096, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1 << 20, 5<<20 + 7, 40 << 20} {
		b, err := mem.Host().Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		data := b.Bytes()
		if len(data) != n || b.Len() != n || b.Tier() != mem.TierHost {
			t.Errorf("%d bytes asked, %d given", n, len(data))
		}
		if n > 0 && uintptr(unsafe.Pointer(&data[0]))%64 != 0 {
			t.Errorf("%d bytes: not aligned to 64", n)
		}
		for i := range data {
			data[i] = byte(i)
		}
		b.Release()
	}
	if _, err := mem.Host().Alloc(-1); err == nil {
		t.Error("a negative size was accepted")
	}
}

// Buffers in use at the same time never overlap, also when memory is reused from several goroutines.
func TestHostAllocatorReuse(t *testing.T) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			var held []*mem.Buffer
			for range 300 {
				b, err := mem.Host().Alloc(200<<10 + rng.IntN(400<<10))
				if err != nil {
					t.Error(err)
					return
				}
				mark := byte(rng.Uint32())
				b.Bytes()[0], b.Bytes()[b.Len()-1] = mark, mark
				held = append(held, b)
				if len(held) > 5 {
					i := rng.IntN(len(held))
					if d := held[i].Bytes(); d[0] != d[len(d)-1] {
						t.Error("a buffer in use was changed")
					}
					held[i].Release()
					held = append(held[:i], held[i+1:]...)
				}
			}
			for _, b := range held {
				b.Release()
			}
		})
	}
	wg.Wait()
}

func TestSlices(t *testing.T) {
	c := mem.NewChecked(t, mem.Host())
	b, err := c.Alloc(100)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.Slice(10, 20)
	if err != nil {
		t.Fatal(err)
	}
	b.Bytes()[10] = 7
	b.Release()
	if n, bytes := c.Live(); n != 1 || bytes != 100 {
		t.Errorf("a slice should keep its parent alive: %d buffers of %d bytes live", n, bytes)
	}
	if s.Bytes()[0] != 7 || s.Len() != 10 {
		t.Error("the slice does not show its parent's bytes")
	}
	for _, r := range [][2]int{{-1, 2}, {3, 2}, {0, 11}} {
		if _, err := s.Slice(r[0], r[1]); err == nil {
			t.Errorf("slice %v of 10 bytes was accepted", r)
		}
	}
	s.Release()
}

type recordingTB struct {
	cleanup func()
	errors  []string
}

func (r *recordingTB) Helper()          {}
func (r *recordingTB) Cleanup(f func()) { r.cleanup = f }
func (r *recordingTB) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestCheckedNamesTheLeak(t *testing.T) {
	var tb recordingTB
	c := mem.NewChecked(&tb, mem.Host())
	b, err := c.Alloc(10)
	if err != nil {
		t.Fatal(err)
	}
	tb.cleanup()
	if len(tb.errors) != 1 || !strings.Contains(tb.errors[0], "TestCheckedNamesTheLeak") {
		t.Errorf("the leak was not named: %q", tb.errors)
	}
	b.Release()
}

func TestBudgetLimitsAndOrder(t *testing.T) {
	b := mem.NewBudget(100)
	ctx := t.Context()
	r1, err := b.Reserve(ctx, "a", 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := b.TryReserve("a", 41); ok {
		t.Error("41 of the 40 bytes left were given")
	}
	var no *mem.NoMemoryError
	if _, err := b.Reserve(ctx, "big", 101); !errors.As(err, &no) || no.Need != 101 || no.Limit != 100 || !errors.Is(err, mem.ErrNoMemory) {
		t.Errorf("a request beyond the limit: %v", err)
	}
	// A large request waits, and a small one that would fit does not overtake it.
	got := make(chan string, 2)
	start := func(name string, n int64) {
		before := b.Stats().Waiting
		go func() {
			r, err := b.Reserve(ctx, "wait", n)
			if err != nil {
				t.Error(err)
			}
			r.Release() // before it is told, since the test counts what is held after that
			got <- name
		}()
		for b.Stats().Waiting == before {
			time.Sleep(time.Millisecond)
		}
	}
	start("large", 90)
	start("small", 10)
	select {
	case name := <-got:
		t.Errorf("%s was served too early", name)
	case <-time.After(20 * time.Millisecond):
	}
	r1.Release()
	r1.Release()
	<-got
	<-got
	s := b.Stats()
	if s.Used != 0 || s.Peak > 100 || s.Purposes["a"].Peak != 60 || s.Purposes["wait"].Used != 0 {
		t.Errorf("after all is released: %+v", s)
	}
}

func TestReserveEndsWithItsContext(t *testing.T) {
	b := mem.NewBudget(10)
	r, _ := b.TryReserve("a", 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := b.Reserve(ctx, "b", 5)
		done <- err
	}()
	for b.Stats().Waiting == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r.Release()
	if s := b.Stats(); s.Used != 0 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

func TestPressureAsksHoldersInOrder(t *testing.T) {
	b := mem.NewBudget(100)
	low, _ := b.TryReserve("low", 50)
	high, _ := b.TryReserve("high", 50)
	var asked []string
	drop := func(name string, r *mem.Reservation) func(int64) {
		return func(need int64) {
			asked = append(asked, fmt.Sprint(name, need))
			r.Shrink(min(30, r.Size()))
		}
	}
	b.OnPressure(0, drop("low", low))
	remove := b.OnPressure(5, drop("high", high))
	r, err := b.Reserve(t.Context(), "new", 40)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(asked, " "); got != "high40 low10" {
		t.Errorf("asked %s", got)
	}
	remove()
	asked = nil
	r2, err := b.Reserve(t.Context(), "new", 30)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(asked, " "); got != "low10" {
		t.Errorf("asked %s after high was removed", got)
	}
	r.Release()
	r2.Release()
	low.Release()
	high.Release()
}

// A holder that has nothing when it is asked, and gets something just after, finds the request already waiting. So
// the moment at which memory becomes free to give never falls between asking and waiting.
func TestReserveWaitsBeforeItAsks(t *testing.T) {
	b := mem.NewBudget(100)
	held, _ := b.TryReserve("held", 100)
	asked := make(chan bool)
	b.OnPressure(0, func(int64) { asked <- b.Short() })
	done := make(chan error)
	go func() {
		r, err := b.Reserve(t.Context(), "new", 60)
		r.Release()
		done <- err
	}()
	if !<-asked {
		t.Error("the holder was asked for a request that does not wait yet")
	}
	// From here on nobody asks again: what is released now must reach the request.
	if !b.Short() {
		t.Error("the request is not to be seen")
	}
	held.Shrink(60)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if b.Short() || b.Stats().Pressured != 1 {
		t.Errorf("after all are served: %+v", b.Stats())
	}
	held.Release()
}

// Holders are asked for what the requests ahead lack as well.
func TestPressureCountsRequestsAhead(t *testing.T) {
	b := mem.NewBudget(100)
	held, _ := b.TryReserve("held", 70)
	asked := make(chan int64, 2)
	b.OnPressure(0, func(need int64) { asked <- need })
	done := make(chan error, 2)
	reserve := func(n int64) {
		r, err := b.Reserve(t.Context(), "new", n)
		r.Release()
		done <- err
	}
	go reserve(80)
	if n := <-asked; n != 50 {
		t.Errorf("asked for %d bytes, 50 are missing", n)
	}
	go reserve(20) // there are 30 bytes left, but they are for the first
	if n := <-asked; n != 70 {
		t.Errorf("asked for %d bytes, 70 are missing for both", n)
	}
	held.Release()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestChargeExceedsTheLimit(t *testing.T) {
	b := mem.NewBudget(100)
	b.Charge("index", 120)
	if _, ok := b.TryReserve("x", 0); ok || !b.Short() || b.Free() != 0 {
		t.Error("something was given beyond the limit")
	}
	done := make(chan error)
	go func() {
		r, err := b.Reserve(t.Context(), "x", 30)
		r.Release()
		done <- err
	}()
	if err := <-done; err != nil { // it waits for nobody
		t.Error(err)
	}
	if all := b.Charge("index", -60); all != 60 {
		t.Errorf("%d bytes are charged", all)
	}
	if r, ok := b.TryReserve("x", 40); !ok {
		t.Error("40 of 40 bytes were not given")
	} else {
		r.Release()
	}
	b.Charge("index", -60)
	if s := b.Stats(); s.Used != 0 || s.Purposes["index"].Peak != 120 {
		t.Errorf("%+v", s)
	}
}

func TestReservationPaysForBuffers(t *testing.T) {
	c := mem.NewChecked(t, mem.Host())
	b := mem.NewBudget(100)
	r, _ := b.TryReserve("x", 50)
	buf, err := r.Alloc(c, 20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Alloc(c, 31); !errors.Is(err, mem.ErrNoMemory) {
		t.Errorf("31 of the 30 bytes left were given: %v", err)
	}
	r.Release()
	if got := b.Stats().Used; got != 20 {
		t.Errorf("%d bytes counted while a buffer of 20 lives", got)
	}
	if !r.TryGrow(80) || r.TryGrow(1) {
		t.Error("TryGrow does not follow the limit")
	}
	buf.Release()
	r.Release()
	a := b.Within("y", c)
	buf, err = a.Alloc(100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Alloc(1); !errors.Is(err, mem.ErrNoMemory) {
		t.Errorf("beyond the limit: %v", err)
	}
	buf.Release()
	if got := b.Stats().Used; got != 0 {
		t.Errorf("%d bytes counted at the end", got)
	}
}

// Under many goroutines the limit holds at every moment and everybody is served in the end.
func TestBudgetUnderLoad(t *testing.T) {
	b := mem.NewBudget(1000)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(w)))
			for range 500 {
				r, err := b.Reserve(t.Context(), "load", 1+rng.Int64N(1000))
				if err != nil {
					t.Error(err)
					return
				}
				r.Shrink(rng.Int64N(500))
				r.Release()
			}
		})
	}
	wg.Wait()
	if s := b.Stats(); s.Used != 0 || s.Peak > 1000 || s.Purposes["load"].Used != 0 {
		t.Errorf("%+v", s)
	}
}

func TestStringsCheck(t *testing.T) {
	a := mem.NewChecked(t, mem.Host())
	column := func(data string, off ...int64) *mem.Strings {
		o, err1 := a.Alloc(8 * len(off))
		d, err2 := a.Alloc(len(data))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		copy(mem.Int64s(o), off)
		copy(d.Bytes(), data)
		return &mem.Strings{Rows: len(off) - 1, Offsets: o, Data: d}
	}
	good := column("abcde", 0, 2, 2, 5)
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	if string(good.At(0)) != "ab" || string(good.At(1)) != "" || string(good.At(2)) != "cde" || good.IsNull(1) {
		t.Error("the rows are not what was written")
	}
	good.Release()
	good.Release()
	for _, bad := range []*mem.Strings{column("abc", 0, 4), column("abc", 2, 1), column("abc", -1, 2)} {
		if bad.Check() == nil {
			t.Errorf("offsets %v were accepted", bad.OffsetValues())
		}
		bad.Release()
	}
}
