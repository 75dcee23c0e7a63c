package collective_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-dedup/dovetail/shuffle/collective"
)

// Whoever looks sees which rank the others wait for in a call, and that something moves.
func TestProgress(t *testing.T) {
	groups := make(chan *collective.Group, 1)
	ok(t, setup{size: 2}.run(t, func(ctx context.Context, g *collective.Group) error {
		if moved, begun, calling := g.Progress(); moved.Messages != 0 || begun != 0 || calling {
			return fmt.Errorf("before any call: %+v, %d, %v", moved, begun, calling)
		}
		if g.Rank() == 0 {
			groups <- g
			if err := g.Barrier(ctx); err != nil {
				return err
			}
			moved, begun, calling := g.Progress()
			if moved != g.Statistics() || moved.Messages == 0 || begun != 1 || calling {
				return fmt.Errorf("after a call: %+v, %d, %v", moved, begun, calling)
			}
			return nil
		}
		// Rank 0 is in the call and stays there, with something sent that its statistics do not have yet.
		for other := <-groups; ; time.Sleep(time.Millisecond) {
			if moved, begun, calling := other.Progress(); calling && moved.Messages > 0 {
				if begun != 1 || other.Statistics().Messages != 0 {
					return fmt.Errorf("in a call: %+v, %d, %v", moved, begun, calling)
				}
				return g.Barrier(ctx)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}))
}
