package collective_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/collective"
	"github.com/dovetail-dedup/dovetail/shuffle/inproc"
)

// Ranks hand a number round until nothing changes any more, which they find out together.
func Example() {
	ctx := context.Background()
	var wg sync.WaitGroup
	for rank, transport := range inproc.New(4, inproc.Options{}) {
		wg.Go(func() {
			label, rounds, err := spread(ctx, transport, []byte{9, 4, 7, 8}[rank])
			if err != nil {
				fmt.Println(err)
			} else if rank == 0 {
				fmt.Println("the smallest is", label, "after", rounds, "rounds")
			}
		})
	}
	wg.Wait()
	// Output:
	// the smallest is 4 after 4 rounds
}

// spread is what one rank does: it sends its number to the next rank and keeps the smaller of two.
func spread(ctx context.Context, t shuffle.Transport, label byte) (smallest byte, rounds int, err error) {
	comm, err := shuffle.NewCommunicator(t)
	if err != nil {
		return 0, 0, err
	}
	defer comm.Close()
	g, err := collective.New(collective.Options{Comm: comm})
	if err != nil {
		return 0, 0, err
	}
	defer g.Close() // a rank that ends early, for whatever reason, ends the calls of the others

	for changed := []int64{1}; changed[0] > 0; rounds++ {
		parts := make([][]byte, g.Size())
		parts[(g.Rank()+1)%g.Size()] = []byte{label}
		got, err := g.AllToAll(ctx, parts)
		if err != nil {
			return 0, 0, err
		}
		changed[0] = 0
		if seen := got.Bytes((g.Rank() + g.Size() - 1) % g.Size()); seen[0] < label {
			label, changed[0] = seen[0], 1
		}
		got.Release()
		if err := collective.AllReduce(ctx, g, changed, collective.Sum[int64]()); err != nil {
			return 0, 0, err
		}
	}
	return label, rounds, nil
}
