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

// Take waits for the turn and reserves need bytes beyond the actor's share. If they can never be had it says which
// --memory-limit would do. what names the work for the message.
func (t *Turn) Take(ctx context.Context, m executor.Meter, need int64, what string) error {
	t.Done()
	if need > t.Of.budget {
		return fmt.Errorf("dedup: %s needs %d MiB; the smallest --memory-limit that works is %dMiB", what, need>>20+1, LimitFor(need))
	}
	select {
	case t.Of.turn <- struct{}{}:
	case <-ctx.Done():
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

// Reading calls f with limit, which is what reading one document may take; 0 means any amount. If that proves too little
// for a document, f is called again from the start with what is needed.
func (l *Large) Reading(ctx context.Context, m executor.Meter, limit int64, f func(maxBytes int64) error) error {
	turn := Turn{Of: l}
	defer turn.Done()
	for {
		err := f(limit)
		var t *corpus.TooLargeError
		if !errors.As(err, &t) || t.Need <= limit {
			return err
		}
		limit = t.Need + t.Need/8 // the next page may be a little larger
		if err := turn.Take(ctx, m, min(limit, max(t.Need, l.budget)), fmt.Sprintf("%s: reading the document in row %d", t.Name, t.Row)); err != nil {
			return err
		}
	}
}
