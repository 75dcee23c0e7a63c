package flow

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

// Large is the one turn of a run, and the budget of its shuffles. It is safe for concurrent use.
type Large struct {
	turn   chan struct{} // holds a token while someone has the turn
	budget int64
}

// NewLarge returns the turn of a run whose shuffles have budget bytes.
func NewLarge(budget int64) *Large { return &Large{make(chan struct{}, 1), budget} }

// Turn is the right to hold memory beyond an actor's share.
type Turn struct {
	Of   *Large
	held func() // gives it back; nil if it is not held
}

// Take waits for the turn and reserves need bytes beyond the actor's share; without a limit there is nothing to wait for. If
// they can never be had it says which --memory-limit would do, for this and for the later work that needs in all bytes.
// what names the work for the message.
func (t *Turn) Take(ctx context.Context, m executor.Meter, need, in int64, what string) error {
	t.Done()
	if t.Of.budget == 0 {
		return nil
	}
	if need > t.Of.budget {
		all := max(need, in)
		return fmt.Errorf("dedup: %s needs %d MiB; the smallest --memory-limit that works is %dMiB", what, all>>20+1, LimitFor(all))
	}
	end := m.Waiting() // a turn may take as long as it likes
	select {
	case t.Of.turn <- struct{}{}:
		end()
	case <-ctx.Done():
		end()
		return context.Cause(ctx)
	}
	res, err := m.Reserve(ctx, "large documents", need)
	if err != nil {
		<-t.Of.turn
		return err
	}
	t.held = func() {
		res.Release()
		<-t.Of.turn
	}
	return nil
}

// Done gives the turn back, if it is held.
func (t *Turn) Done() {
	if t.held != nil {
		t.held()
		t.held = nil
	}
}

// Cost says what a document takes beside what reading it does: at the same time, and all work on it, reading
// included, at one time or another. nil means nothing.
type Cost func(t *corpus.TooLargeError) (beside, all int64)

// Reading calls f with limit, which is what reading one document may take; 0 means any amount. If that proves too little
// for a document, f is called again from the start with what is needed.
func (l *Large) Reading(ctx context.Context, m executor.Meter, limit int64, cost Cost, f func(maxBytes int64) error) error {
	turn := Turn{Of: l}
	defer turn.Done()
	for {
		err := f(limit)
		var t *corpus.TooLargeError
		if !errors.As(err, &t) || t.Need <= limit {
			return err
		}
		beside, all := int64(0), int64(0)
		if cost != nil {
			beside, all = cost(t)
		}
		limit = min(Larger(t.Need), max(t.Need, l.budget-beside))
		if err := turn.Take(ctx, m, limit+beside, all, fmt.Sprintf("%s: the document in row %d (counted from 0)", t.Name, t.Row)); err != nil {
			return err
		}
	}
}

// Larger is what is allowed for reading where need bytes were too little: the next page may be a little larger.
func Larger(need int64) int64 { return need + need/8 }
