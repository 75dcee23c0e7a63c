package dedup

import (
	"context"
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
)

// readTurn takes the turn if a split is known to hold a document that needs it. copies is how many copies of
// the document are made beside what reading takes.
func (r *run) readTurn(ctx context.Context, m executor.Meter, s *signResult, copies int64) (*flow.Turn, error) {
	t := &flow.Turn{Of: r.large}
	need := s.Need + copies*s.MaxDoc
	if r.plan.MaxDoc == 0 || need <= r.plan.MaxDoc {
		return t, nil
	}
	if more := need + s.MaxDoc + flow.ChunkBytes; more > r.plan.Budget {
		need = more // the chunk it goes into has to fit beside it
	}
	return t, t.Take(ctx, m, need, fmt.Sprintf("a document of %d MiB in %s", s.MaxDoc>>20, r.set.Files[r.splits[s.Split].First].Name))
}
