package executor

import (
	"fmt"
	"sync"

	"github.com/dovetail-dedup/dovetail/shuffle"
)

// openInsert is an attempt to insert that is under way. Whoever is first takes it back: its actor, or, if that is stuck, the round, as
// no rank can finish while it is open.
type openInsert struct {
	in   *shuffle.Inserter
	back func()
}

// begin notes what an actor inserts. The result takes it back.
func (s *round) begin(env *Env, in *shuffle.Inserter) (back func()) {
	o := &openInsert{in: in, back: sync.OnceFunc(func() {
		if err := in.Abort(); err != nil && !s.sc.failed() {
			s.sc.fail(fmt.Errorf("executor: stage %q, rank %d: taking inserts back: %w", s.name, env.Rank, err))
		}
	})}
	s.inserting.Lock()
	defer s.inserting.Unlock()
	if s.under == nil {
		s.under = make(map[int]*openInsert)
	}
	s.under[env.Actor] = o
	return o.back
}

// accepted says that an attempt is not to be taken back any more.
func (s *round) accepted(env *Env, in *shuffle.Inserter) {
	s.inserting.Lock()
	defer s.inserting.Unlock()
	if o := s.under[env.Actor]; o != nil && o.in == in {
		delete(s.under, env.Actor)
	}
}

// takeBack takes back what an actor inserts that is given up.
func (s *round) takeBack(actor int) {
	s.inserting.Lock()
	o := s.under[actor]
	delete(s.under, actor)
	s.inserting.Unlock()
	if o != nil {
		o.back()
	}
}
