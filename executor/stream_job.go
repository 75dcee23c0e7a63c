package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/zeebo/xxh3"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
)

// Streams of a job: the root takes the tasks from its source, hands them out to the actors of all ranks, and sends the results to
// all. Each rank says how many of them its consumer has taken; the root takes a task from its source only when there is room
// for it at the slowest. Other ranks range over their sources too, so that streams can be chained, and compare them with the root's.

// Kinds of messages about streams, beside those in job.go.
const (
	kindConsumed uint8 = iota + 48 // to the root: the consumer has taken the results of N tasks
	kindQuit                       // to the root: the consumer has left the loop
	kindResults  uint8 = 112       // from the root: Tasks are the results of task N
)

// errRootLeft ends a stream on a rank whose consumer wants more than the root's.
var errRootLeft = errors.New("rank 0 has left the loop over the results")

// streamRoot is what the root does about the other ranks in a stream. All methods are safe for concurrent use.
type streamRoot struct {
	*farPool
	free func() // makes room for one more task

	mu    sync.Mutex
	known bool                // consumers are
	ranks map[int]*consumerOf // ranks that the stream waits for
	came  chan struct{}       // has room for one: a rank has come, or is gone
	mine  int                 // tasks whose results the root's own consumer has taken
	freed int
}

// consumerOf is a rank that gets the results.
type consumerOf struct {
	l     *link              // nil until it has come to the stage
	kept  []*control.Message // results until it is here
	here  bool               // and has been told to begin
	taken int
}

// consumers returns the ranks that the stream waits for. Those that come to the job later have missed something. The lock is held.
func (s *streamRoot) consumers() map[int]*consumerOf {
	if !s.known {
		s.known, s.ranks = true, make(map[int]*consumerOf)
		for _, rank := range s.r.e.cfg.Job.ranks() {
			if rank != 0 {
				s.ranks[rank] = &consumerOf{}
			}
		}
	}
	return s.ranks
}

func (s *streamRoot) enter(l *link, m *control.Message) {
	s.mu.Lock()
	c := s.consumers()[l.rank]
	if c != nil && c.l == nil {
		c.l = l
	} else {
		c = nil
	}
	s.mu.Unlock()
	if c == nil {
		l.send(&control.Message{
			Kind: kindStageOver, Stage: s.r.key, Flags: flagFailed,
			Text: fmt.Sprintf("stage %q streams its results, and rank %d has come back too late for the first", s.r.name, l.rank),
		})
		return
	}
	s.farPool.enter(l, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range c.kept {
		l.send(m)
	}
	c.kept, c.here = nil, true
	s.tellCame()
}

// tellCame wakes await.
func (s *streamRoot) tellCame() {
	select {
	case s.came <- struct{}{}:
	default:
	}
}

// await waits until all ranks have come to the stage: what is kept for them goes with it. It gives up when ctx ends.
func (s *streamRoot) await(ctx context.Context) {
	for {
		s.mu.Lock()
		all := true
		for _, c := range s.consumers() {
			all = all && c.here
		}
		s.mu.Unlock()
		if all {
			return
		}
		select {
		case <-s.came:
		case <-ctx.Done():
			return
		}
	}
}

func (s *streamRoot) handle(l *link, m *control.Message) {
	switch m.Kind {
	case kindConsumed:
		s.mu.Lock()
		if c := s.consumers()[l.rank]; c != nil && c.l == l {
			c.taken = max(c.taken, int(m.N))
		}
		s.mu.Unlock()
		s.release()
	case kindQuit:
		// It will do nothing more, and what it holds it has not tried: the root is about to leave the loop too.
		s.mu.Lock()
		delete(s.consumers(), l.rank)
		s.mu.Unlock()
		s.dismiss(l)
		s.release()
		s.tellCame()
	default:
		s.farPool.handle(l, m)
	}
}

func (s *streamRoot) left(l *link, why error) {
	s.mu.Lock()
	if c := s.consumers()[l.rank]; c != nil && (c.l == nil || c.l == l) {
		delete(s.ranks, l.rank)
	}
	s.mu.Unlock()
	s.farPool.left(l, why)
	s.release()
	s.tellCame()
}

// dismiss takes the actors of a rank out that go away of themselves.
func (f *far) dismiss(l *link) {
	f.mu.Lock()
	var gone []*farActor
	for n, a := range f.actors {
		if a.l == l {
			gone = append(gone, a)
			delete(f.actors, n)
		}
	}
	f.mu.Unlock()
	for _, a := range gone {
		f.hand.leave(a.env)
	}
}

// publish sends the results of a task to the other ranks.
func (s *streamRoot) publish(seq int, results []Task) {
	m := &control.Message{Kind: kindResults, Stage: s.r.key, N: int64(seq), Tasks: wireTasks(results)}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.consumers() {
		if !c.here {
			c.kept = append(c.kept, m)
		} else {
			c.l.send(m)
		}
	}
}

// took says that the root's own consumer has taken the results of one more task.
func (s *streamRoot) took() {
	s.mu.Lock()
	s.mine++
	s.mu.Unlock()
	s.release()
}

// release makes room for the tasks whose results all ranks have taken.
func (s *streamRoot) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	least := s.mine
	for _, c := range s.consumers() {
		least = min(least, c.taken)
	}
	for ; s.freed < least; s.freed++ {
		s.free()
	}
}

// concludeStream tells all ranks how a stream ended: after tasks of this hash, or with err.
func (j *Job) concludeStream(stage string, tasks *taskHash, err error) {
	sum := tasks.sum()
	m := &control.Message{Kind: kindStageOver, Stage: stage, N: int64(tasks.n), Data: sum[:]}
	late := &control.Message{
		Kind: kindStageOver, Stage: stage, Flags: flagFailed, Text: "the results of the stage were streamed, and this rank has come too late for them",
	}
	if err != nil {
		m = &control.Message{Kind: kindStageOver, Stage: stage, Flags: flagFailed, Text: err.Error()}
		late = m // that it failed is what everybody has to know
	}
	j.tellOver(stage, m, late)
}

// taskHash is a hash of a sequence of tasks.
type taskHash struct {
	n int
	h inputHash
}

func (t *taskHash) add(task Task) {
	t.n++
	b := append(t.h[:], task.ID...)
	b = append(append(b, 0), task.Data...)
	t.h = inputHash(xxh3.Hash128(b).Bytes())
}

func (t *taskHash) sum() inputHash { return t.h }

// streamMember is a stream on a rank that is not the root.
type streamMember struct {
	*member
	st Stage

	rmu   sync.Mutex
	more  chan struct{} // has room for one: results were added
	ready []control.Message
	over  *control.Message
	begun chan struct{} // closed when the root has let this rank in: before, it would not hear that something is wrong
}

// streamMember does this rank's part of a stream.
func (e *Executor) streamMember(ctx context.Context, st Stage, source iter.Seq2[Task, error], yield func(Task, error) bool) {
	r := e.newRun(ctx, st, "pool")
	m := &streamMember{member: e.newMember(r), st: st, more: make(chan struct{}, 1), begun: make(chan struct{})}
	defer m.detach(e.cfg.Job.attach(r.key, m))
	m.enterStage(inputHash{}) // the tasks are not known yet
	var all sync.WaitGroup
	all.Go(m.work)
	var tasks taskHash
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.drain(source, &tasks)
	}()
	finished := false
	// Also when yield panics.
	defer func() {
		if finished {
			return
		}
		m.cancel(errLeft)
		all.Wait()
		<-ended
		m.job.send(&control.Message{Kind: kindQuit, Stage: m.key})
		m.e.addStats(m.stageRun, m.stats(nil))
	}()
	if !m.consume(yield) {
		return
	}
	finished = true
	// The root is done, so the source has ended there, and with it all that is behind it.
	if over := m.ending(); over != nil && over.Flags&flagFailed == 0 && m.parent.Err() == nil {
		select {
		case <-ended:
		case <-m.parent.Done():
		case <-m.job.ctx.Done():
		}
		if sum := tasks.sum(); m.reason() == nil && (over.N != int64(tasks.n) || string(over.Data) != string(sum[:])) {
			m.teardowns = append(m.teardowns, fmt.Errorf("executor: stage %q: this rank had other tasks than rank 0; all ranks must run the same "+
				"program with the same options and input", m.name))
		}
	}
	m.cancel(nil)
	all.Wait()
	if _, err := m.member.end(); err != nil {
		yield(Task{}, err)
	}
	<-ended
}

// work has the actors of this rank do what the root gives them.
func (m *streamMember) work() {
	b := m.wait(m.begin)
	if b == nil {
		return
	}
	hand := newFarHand(m.stageRun, m.scope, m.job, 0, false, nil, m.tell)
	p := &pool{stageRun: m.stageRun, stage: m.st, hand: hand, commits: hand}
	c := &crew[Actor]{r: m.stageRun, sc: m.scope, call: "NewActor", setup: m.st.NewActor, body: p.work}
	m.take(hand, c.giveUp)
	m.actors = int(b.N)
	stop := m.showProgress()
	c.run(m.e.envsFrom(m.name, m.actors, int(b.Actor)), func() {})
	stop()
}

// drain ranges over the source to its end, or until the stage ends.
func (m *streamMember) drain(source iter.Seq2[Task, error], tasks *taskHash) {
	select {
	case <-m.begun:
	case <-m.ctx.Done():
		select {
		case <-m.begun:
		default:
			return
		}
	}
	err := guard(m.name, "", "the source of tasks", m.fail, func() error {
		for t, err := range source {
			if err != nil {
				return err
			}
			tasks.add(t)
			if over := m.ending(); over != nil && int64(tasks.n) > over.N {
				return nil // more than there are
			}
			if m.ctx.Err() != nil && !errors.Is(context.Cause(m.ctx), errStageOver) {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		m.fail(err)
	}
}

// consume yields results as they come, and reports whether the consumer wants them all.
func (m *streamMember) consume(yield func(Task, error) bool) bool {
	for next := int64(0); ; {
		m.rmu.Lock()
		ready := m.ready
		m.ready = nil
		m.rmu.Unlock()
		for i := range ready {
			if ready[i].N != next {
				m.fail(fmt.Errorf("executor: stage %q: rank 0 sends the results of task %d after %d", m.name, ready[i].N, next))
				return true
			}
			for _, t := range fromWire(ready[i].Tasks) {
				if !yield(t, nil) {
					return false
				}
			}
			next++
			m.job.send(&control.Message{Kind: kindConsumed, Stage: m.key, N: next})
		}
		if len(ready) > 0 {
			continue
		}
		select {
		case <-m.more:
			continue
		case <-m.ctx.Done():
		case <-m.job.ctx.Done():
		}
		// What came before the end is there by now.
		if m.ending() == nil || m.drained() {
			return true
		}
	}
}

func (m *streamMember) drained() bool {
	m.rmu.Lock()
	defer m.rmu.Unlock()
	return len(m.ready) == 0
}

// ending is what the root said at the end, or nil.
func (m *streamMember) ending() *control.Message {
	m.rmu.Lock()
	defer m.rmu.Unlock()
	return m.over
}

func (m *streamMember) handle(l *link, msg *control.Message) {
	switch msg.Kind {
	case kindResults:
		m.rmu.Lock()
		m.ready = append(m.ready, *msg)
		m.rmu.Unlock()
		select {
		case m.more <- struct{}{}:
		default:
		}
		return
	case kindBegin:
		m.rmu.Lock()
		select {
		case <-m.begun:
		default:
			close(m.begun)
		}
		m.rmu.Unlock()
	case kindStageOver:
		m.rmu.Lock()
		m.over = cmp.Or(m.over, msg)
		m.rmu.Unlock()
	}
	m.member.handle(l, msg)
}
