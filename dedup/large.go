package dedup

import (
	"context"
	"errors"
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/executor"
)

// Documents, or pages of them, too large for an actor's share of memory are handled one at a time: whoever has
// one takes the turn, and then reserves what it needs from the budget, where the shuffles make room by spilling.
// Since only one actor ever waits for memory with a reservation in hand, none waits for another in a circle.

// largeTurn is the right to hold memory beyond an actor's share.
type largeTurn struct {
	r    *run
	held func() // gives it back; nil if it is not held
}

// take waits for the turn and reserves need bytes beyond the actor's share. If they can never be had it says which
// --memory-limit would do. what names the work for the message.
func (t *largeTurn) take(ctx context.Context, m executor.Meter, need int64, what string) error {
	t.done()
	if need > t.r.plan.budget {
		return fmt.Errorf("dedup: %s needs %d MiB; the smallest --memory-limit that works is %dMiB", what, need>>20+1, limitFor(need))
	}
	select {
	case t.r.large <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	res, err := m.Reserve(ctx, "large documents", need)
	if err != nil {
		<-t.r.large
		return err
	}
	t.held = func() {
		res.Release()
		<-t.r.large
	}
	return nil
}

// done gives the turn back, if it is held.
func (t *largeTurn) done() {
	if t.held != nil {
		t.held()
		t.held = nil
	}
}

// reading calls f with what reading one document may take. If that proves too little for a document of the
// split, f is called again from the start with what is needed.
func (r *run) reading(ctx context.Context, m executor.Meter, f func(maxBytes int64) error) error {
	turn := largeTurn{r: r}
	defer turn.done()
	limit := r.plan.maxDoc
	for {
		err := f(limit)
		var t *corpus.TooLargeError
		if !errors.As(err, &t) || t.Need <= limit {
			return err
		}
		limit = t.Need + t.Need/8 // the next page may be a little larger
		if err := turn.take(ctx, m, min(limit, max(t.Need, r.plan.budget)), fmt.Sprintf("%s: reading the document in row %d", t.Name, t.Row)); err != nil {
			return err
		}
	}
}

// readTurn takes the turn if a split is known to hold a document that needs it. copies is how many copies of
// the document are made beside what reading takes.
func (r *run) readTurn(ctx context.Context, m executor.Meter, s *signResult, copies int64) (*largeTurn, error) {
	t := &largeTurn{r: r}
	need := s.Need + copies*s.MaxDoc
	if r.plan.maxDoc == 0 || need <= r.plan.maxDoc {
		return t, nil
	}
	if more := need + s.MaxDoc + chunkBytes; more > r.plan.budget {
		need = more // the chunk it goes into has to fit beside it
	}
	return t, t.take(ctx, m, need, fmt.Sprintf("a document of %d MiB in %s", s.MaxDoc>>20, r.set.Files[r.splits[s.Split].First].Name))
}
