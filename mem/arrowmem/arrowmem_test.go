package arrowmem_test

import (
	"errors"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/mem/arrowmem"
)

// Arrays built by Arrow live in the project's buffers and give them back.
func TestBuilders(t *testing.T) {
	a := arrowmem.New(mem.NewChecked(t, mem.Host()))
	b := array.NewStringBuilder(a)
	want := ""
	for i := range 10_000 {
		s := string(rune('a' + i%26))
		b.Append(s)
		want += s
	}
	arr := b.NewStringArray()
	b.Release()
	if a.Live() == 0 {
		t.Error("the array lives elsewhere")
	}
	if string(arr.ValueBytes()) != want {
		t.Error("the array is not what was appended")
	}
	arr.Release()
	if n := a.Live(); n != 0 || a.Err() != nil {
		t.Errorf("%d buffers are left, error %v", n, a.Err())
	}
}

func TestReallocateKeepsAndClears(t *testing.T) {
	a := arrowmem.New(mem.NewChecked(t, mem.Host()))
	b := a.Allocate(10)
	for i := range b {
		b[i] = byte(i + 1)
	}
	b = a.Reallocate(4, b)
	b = a.Reallocate(300<<10, b)
	for i, v := range b {
		if want := byte(i + 1); i < 4 && v != want || i >= 4 && v != 0 {
			t.Fatalf("byte %d is %d", i, v)
		}
	}
	a.Free(b)
	a.Free(a.Allocate(0))
}

// A refusal is kept for the maker of the batch, and the batch in hand is not lost.
func TestRefusal(t *testing.T) {
	budget := mem.NewBudget(1000)
	a := arrowmem.New(budget.Within("arrow", mem.NewChecked(t, mem.Host())))
	small, large := a.Allocate(900), a.Allocate(200)
	if len(small) != 900 || len(large) != 200 {
		t.Fatal("memory is missing")
	}
	if err := a.Err(); !errors.Is(err, mem.ErrNoMemory) {
		t.Errorf("the refusal was not kept: %v", err)
	}
	if a.Err() != nil {
		t.Error("the refusal was told twice")
	}
	a.Free(large)
	a.Free(small)
	if used := budget.Stats().Used; used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
}
