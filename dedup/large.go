package dedup

import (
	"context"
	"errors"
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
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
// --memory-limit would do, for this and for the later work that needs in all bytes. what names the work for the message.
func (t *largeTurn) take(ctx context.Context, m executor.Meter, need, in int64, what string) error {
	t.done()
	if t.r.plan.Budget == 0 {
		return nil // no limit
	}
	if need > t.r.plan.Budget {
		all := max(need, in)
		return fmt.Errorf("dedup: %s needs %d MiB; the smallest --memory-limit that works is %dMiB", what, all>>20+1, flow.LimitFor(all))
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

// Bounds on how much longer a text becomes by normalizing it. Lower case may add half. Composition makes three times as
// many bytes of a few code points, and NFKC more of a few Arabic ones, of which no text consists.
const (
	lowerGrowth   = 2
	composeGrowth = 3
)

// normalizingBytes is the memory beside a text of n bytes in which it is normalized: two buffers that grow, and a copy.
func (r *run) normalizingBytes(n int64) int64 {
	if !r.normalizes {
		return 0
	}
	return 4 * n
}

// documentBytes is what all stages together may need at one time for a document whose text has n bytes and takes read
// bytes to be read: one figure, so that a limit that is refused is refused once. normalized says that n is the
// length after normalizing, which is not known before the text was read.
func (r *run) documentBytes(read, n int64, normalized bool) int64 {
	if !normalized {
		switch {
		case r.norm&(lsh.NormalizeNFC|lsh.NormalizeNFKC) != 0:
			n *= composeGrowth
		case r.norm&lsh.NormalizeLower != 0:
			n *= lowerGrowth
		}
	}
	need := read + r.normalizingBytes(n) + textCopies*n + n + flow.ChunkBytes
	if r.spec.Verify == VerifyExact {
		need = max(need, compareBytes(n))
	}
	return need
}

// textCopies are those that the text pass makes of a text beside what reading takes: its leaders and the text in one
// piece, and the records of its partition, which grow. A chunk comes in addition.
const textCopies = 3

// reading calls f with what reading one document may take. If that proves too little for a document of the
// split, f is called again from the start with what is needed.
func (r *run) reading(ctx context.Context, m executor.Meter, f func(maxBytes int64) error) error {
	turn := largeTurn{r: r}
	defer turn.done()
	limit := r.plan.MaxDoc
	for {
		err := f(limit)
		var t *corpus.TooLargeError
		if !errors.As(err, &t) || t.Need <= limit {
			return err
		}
		limit = t.Need + t.Need/8 // the next page may be a little larger
		limit = min(limit, max(t.Need, r.plan.Budget-r.normalizingBytes(t.Text)))
		err = turn.take(ctx, m, limit+r.normalizingBytes(t.Text), r.documentBytes(t.Need+t.Need/8, t.Text, false),
			fmt.Sprintf("%s: the document in row %d", t.Name, t.Row))
		if err != nil {
			return err
		}
	}
}

// readTurn takes the turn if a split is known to hold a document that needs it. copies is how many copies of
// the document are made beside what reading takes.
func (r *run) readTurn(ctx context.Context, m executor.Meter, s *signResult, copies int64) (*largeTurn, error) {
	t := &largeTurn{r: r}
	need := s.Need + copies*s.MaxDoc
	if copies > 1 {
		need += r.normalizingBytes(s.MaxDoc)
	}
	if r.plan.MaxDoc == 0 || need <= r.plan.MaxDoc {
		return t, nil
	}
	if more := need + s.MaxDoc + flow.ChunkBytes; more > r.plan.Budget {
		need = more // the chunk it goes into has to fit beside it
	}
	what := fmt.Sprintf("a document of %d MiB in %s", s.MaxDoc>>20, r.set.Files[r.splits[s.Split].First].Name)
	return t, t.take(ctx, m, need, r.documentBytes(s.Need, s.MaxDoc, true), what)
}
