package shuffle_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/dovetail-dedup/dovetail/mem"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

// Four ranks in one process count words. Each reads a line, sends every word to the partition that its hash
// says, and then counts the words of its own partitions, of which each word is in exactly one.
func Example() {
	ctx := context.Background()
	lines := []string{"to be or not to be", "that is the question", "to die to sleep", "to sleep perchance to dream"}
	budget := mem.NewBudget(64 << 20) // shared, because ranks of one process hand buffers over

	var mu sync.Mutex
	counts := make(map[string]int)
	var wg sync.WaitGroup
	for rank, transport := range inproc.New(len(lines), inproc.Options{}) {
		wg.Go(func() {
			err := countWords(ctx, transport, budget, lines[rank], func(word string, n int) {
				mu.Lock()
				defer mu.Unlock()
				counts[word] += n
			})
			if err != nil {
				fmt.Println(err)
			}
		})
	}
	wg.Wait()
	for _, word := range []string{"be", "sleep", "to"} {
		fmt.Println(word, counts[word])
	}
	// Output:
	// be 2
	// sleep 2
	// to 6
}

// countWords is what one rank does.
func countWords(ctx context.Context, t shuffle.Transport, budget *mem.Budget, line string, count func(string, int)) error {
	comm, err := shuffle.NewCommunicator(t)
	if err != nil {
		return err
	}
	defer comm.Close()
	const parts = 8
	s, err := shuffle.New(shuffle.Options{Comm: comm, TotalParts: parts, Budget: budget})
	if err != nil {
		return err
	}
	defer s.Close()

	// A task is a unit of work that counts as a whole or not at all. If this attempt failed half-way it would
	// be aborted, and another attempt, here or on another rank, would insert everything again.
	in := s.Begin(uint64(comm.Rank()), 0)
	for word := range strings.FieldsSeq(line) {
		data, err := s.Alloc(ctx, len(word))
		if err != nil {
			return err
		}
		copy(data.Bytes(), word)
		sum := wordHash(word)
		err = in.Insert(ctx, shuffle.Chunk{Partition: int(sum.A % parts), Rows: 1, Hash: sum, Data: data})
		if err != nil {
			return err
		}
	}
	if err := in.Commit(ctx); err != nil {
		return err
	}
	if err := s.InsertFinished(ctx); err != nil {
		return err
	}
	for { // as soon as any partition is complete
		part, err := s.WaitAny(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		chunks, err := s.Extract(ctx, part)
		if err != nil {
			return err
		}
		for _, c := range chunks {
			count(string(c.Data.Bytes()), int(c.Rows))
			c.Release()
		}
	}
	return s.Wait(ctx) // until what this rank sent has left, too
}

// wordHash is FNV-1a, twice.
func wordHash(word string) shuffle.Hash {
	a, b := uint64(14695981039346656037), uint64(1099511628211)
	for _, c := range []byte(word) {
		a = (a ^ uint64(c)) * 1099511628211
		b = (b ^ uint64(c)) * 14029467366897019727
	}
	return shuffle.Hash{A: a, B: b}
}

// A large partition is read chunk by chunk, in the order of tasks, with memory for one chunk.
func ExampleShuffler_Open() {
	ctx := context.Background()
	comm, err := shuffle.NewCommunicator(inproc.New(1, inproc.Options{})[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	defer comm.Close()
	s, err := shuffle.New(shuffle.Options{Comm: comm, TotalParts: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	for _, task := range []uint64{2, 1, 0} { // whatever order tasks run in
		in := s.Begin(task, 0)
		for n := range 2 {
			_ = in.Insert(ctx, shuffle.Chunk{Rows: 10, Meta: fmt.Appendf(nil, "task %d, chunk %d", task, n)})
		}
		_ = in.Commit(ctx)
	}
	_ = s.InsertFinished(ctx)
	if err := s.Wait(ctx); err != nil {
		fmt.Println(err)
		return
	}
	p, err := s.Open(0)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	var order []string
	for c, err := range p.Chunks(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		order = append(order, string(c.Meta))
	}
	fmt.Println(p.Rows(), "rows;", order[0], "to", order[len(order)-1], "sorted:", slices.IsSorted(order))
	// Output:
	// 60 rows; task 0, chunk 0 to task 2, chunk 1 sorted: true
}
