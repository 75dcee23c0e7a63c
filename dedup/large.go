package dedup

import (
	"context"
	"fmt"

	"github.com/dovetail-dedup/dovetail/dedup/corpus"
	"github.com/dovetail-dedup/dovetail/dedup/internal/flow"
	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/lsh"
)

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
	return r.large.Reading(ctx, m, r.plan.MaxDoc, func(t *corpus.TooLargeError) (beside, all int64) {
		return r.normalizingBytes(t.Text), r.documentBytes(flow.Larger(t.Need), t.Text, false)
	}, f)
}

// readTurn takes the turn if a split is known to hold a document that needs it. copies is how many copies of
// the document are made beside what reading takes.
func (r *run) readTurn(ctx context.Context, m executor.Meter, s *signResult, copies int64) (*flow.Turn, error) {
	t := &flow.Turn{Of: r.large}
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
	return t, t.Take(ctx, m, need, r.documentBytes(s.Need, s.MaxDoc, true), what)
}
