package executor

import (
	"context"
	"sync"
)

// scope is what ends together: a stage, or one round of a stage that goes on after it. The first failure ends it.
type scope struct {
	parent context.Context
	ctx    context.Context // ends with the first failure
	cancel context.CancelCauseFunc

	failing sync.Mutex
	first   error // the failure that ended the scope
}

func newScope(parent context.Context) *scope {
	s := &scope{parent: parent}
	s.ctx, s.cancel = context.WithCancelCause(parent)
	return s
}

// fail ends the scope with err, unless it is ending already: what goes wrong after that follows from it.
func (s *scope) fail(err error) {
	s.failing.Lock()
	if s.first == nil && s.ctx.Err() == nil && s.parent.Err() == nil {
		s.first = err
	}
	s.failing.Unlock()
	s.cancel(err)
}

func (s *scope) failed() bool { return s.ctx.Err() != nil }

// reason is the failure that ended the scope, or nil.
func (s *scope) reason() error {
	s.failing.Lock()
	defer s.failing.Unlock()
	return s.first
}
