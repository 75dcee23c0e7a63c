package executor

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/executor/internal/rounds"
	"github.com/dovetail-dedup/dovetail/shuffle"
)

// collectiveRoot is what the root does about a collective stage of a job: each process is a rank, and what they have finished is
// committed when all have.
type collectiveRoot struct {
	*roundLoop
	c   *collectiveRun
	all sync.WaitGroup // goroutines of own rounds

	// Guarded by the loop's lock:
	own   *ownCollective
	waits map[int]bool // ranks that were in a call of the round when they were last heard of
}

// ownCollective is the root's part of a round, and what it knows of the others'.
type ownCollective struct {
	*collectiveRound
	mesh    *mesh
	far     *far
	number  int
	members []int
	got     []*pending // of all ranks, by task
	stats   []RankShuffle
	ended   chan struct{} // closed when its work has ended; nil if none was begun
	stopped bool
}

// runRounds runs a collective stage on all ranks of the job.
func (c *collectiveRun) runRounds() {
	c.shuffle = &ShuffleStats{}
	r := &collectiveRoot{c: c, waits: make(map[int]bool)}
	r.roundLoop = newRoundLoop(c.stageRun, r.act)
	r.calling = func(rank int) bool { return r.waits[rank] }
	c.spilled = r.spilledBytes
	c.announce(c.tasks.Load())
	unwatch := r.watch(r.beat)
	r.drive(r)
	unwatch()
	r.finish()
}

// finish ends the last round and commits what was done in it, if all have done their part.
func (r *collectiveRoot) finish() {
	own := r.own
	if own == nil {
		return
	}
	own.sc.cancel(errRoundOver)
	r.all.Wait()
	if own.stopped {
		return
	}
	own.leave()
	if err := own.mesh.close(); err != nil && !r.c.failed() {
		r.c.teardowns = append(r.c.teardowns, fmt.Errorf("executor: stage %q: closing the links: %w", r.c.name, err))
	}
	r.c.shuffle.TotalParts, r.c.shuffle.Ranks = own.size, own.stats
	if r.c.failed() {
		own.discard()
		return
	}
	for i, p := range own.got {
		if p == nil {
			own.discard()
			r.c.fail(fmt.Errorf("executor: stage %q: no rank sent the results of task %q; this is a fault of the program, please report it",
				r.c.name, r.c.all[i].ID))
			return
		}
	}
	r.c.commit(own.got)
}

// leave closes the group and keeps what it has counted.
func (o *ownCollective) leave() {
	for rank, g := range o.groups {
		_ = g.Close() // never fails
		o.stats[rank] = RankShuffle{Rank: rank, Statistics: g.Statistics()}
	}
}

func (r *collectiveRoot) spilledBytes() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own == nil || r.own.stopped || r.own.groups == nil {
		return 0
	}
	return r.own.spilledBytes()
}

// act does what the machine asks. The lock is held.
func (r *collectiveRoot) act(a rounds.Action) {
	switch a.Kind {
	case rounds.ActPrepare:
		r.prepare(a)
	case rounds.ActConnect:
		r.connect(a)
	case rounds.ActAbort:
		r.tell(a.Members, func(int) *control.Message { return &control.Message{Kind: kindAbort, Epoch: uint32(a.Round)} })
		r.abort(a.Round)
	default:
		r.conclude(a)
	}
}

// prepare asks the members of a round to get ready.
func (r *collectiveRoot) prepare(a rounds.Action) {
	if r.own != nil {
		r.again(a)
	}
	sc := newScope(r.c.ctx)
	r.addrs, r.place, r.waits = make(map[int]string), make(map[int]int), make(map[int]bool)
	for i, rank := range a.Members {
		r.place[rank] = i
	}
	r.own = &ownCollective{
		collectiveRound: &collectiveRound{
			stageRun: r.c.stageRun, sc: sc, stage: r.c.stage, all: r.c.all, size: len(a.Members), number: uint32(a.Round - 1),
			shares: make([]share, len(a.Members)),
		},
		far: newFar(r.c.stageRun, sc, nil, 0), number: a.Round, members: a.Members,
		got: make([]*pending, len(r.c.all)), stats: make([]RankShuffle, len(a.Members)),
	}
	r.tell(a.Members, func(i int) *control.Message {
		return &control.Message{Kind: kindPrepare, Epoch: uint32(a.Round), Rank: int64(i), N: int64(len(a.Members))}
	})
	m, addr, err := r.j.openMesh(len(a.Members))
	if err != nil {
		r.c.fail(fmt.Errorf("executor: stage %q: %w", r.c.name, err))
		return
	}
	r.own.mesh, r.addrs[0] = m, addr
	r.later(rounds.EvReady, a.Round)
}

// connect begins a round.
func (r *collectiveRoot) connect(a rounds.Action) {
	own := r.own
	addrs := make([]string, len(a.Members))
	limit := r.c.e.cfg.Budget.Limit()
	for i, rank := range a.Members {
		addrs[i] = r.addrs[rank]
		if rank != 0 {
			limit = min(limit, r.limits[rank])
		}
	}
	r.c.actors = len(a.Members)
	r.tell(a.Members, func(int) *control.Message {
		return &control.Message{Kind: kindConnect, Epoch: uint32(a.Round), Names: addrs, N: limit}
	})
	own.ended = make(chan struct{})
	rank := r.place[0]
	r.all.Go(func() {
		kind, why := own.take(r.j, own.mesh, addrs, rank, own.number, limit, func(g func()) {
			r.mu.Lock()
			defer r.mu.Unlock()
			g()
		})
		if kind == rounds.EvOver {
			r.mu.Lock()
			for _, p := range own.pending(rank, r.c.input) {
				own.got[p.seq] = p
			}
			r.mu.Unlock()
		} else if why != nil {
			r.mu.Lock()
			r.why[-1] = why
			r.mu.Unlock()
		}
		close(own.ended) // before the event: what follows from it may wait for that
		if kind != 0 {
			r.event(rounds.Event{Kind: kind, Round: own.number, Peer: -1})
		}
	})
}

// take does this process's part of a round of a job and returns what the root's machine is to know of it; see verdict. guard
// calls what others look at.
func (c *collectiveRound) take(j *Job, m *mesh, addrs []string, rank, number int, limit int64, guard func(func())) (rounds.Kind, error) {
	if err := m.connect(c.sc.ctx, j, c.key, number, rank, addrs); err != nil {
		c.sc.fail(&meshError{err})
	} else {
		// Sessions of different rounds have different operations.
		guard(func() {
			err = c.join([]*shuffle.Communicator{m.comm.Load()}, shuffle.OpID(number)%shuffle.MaxOps, limit)
		})
		if err != nil {
			c.sc.fail(err)
		} else {
			env := c.e.envs(c.name, 1)[0]
			env.Rank, env.Size, env.Actor, env.Actors = rank, len(addrs), rank, len(addrs)
			c.run([]*Env{env})
		}
	}
	return c.verdict(c.sc, rank)
}

// abort stops the root's part of a round. It lets go of the lock while it waits.
func (r *collectiveRoot) abort(number int) {
	own := r.own
	if own == nil || own.stopped {
		return
	}
	own.sc.cancel(errRoundOver)
	r.mu.Unlock()
	if own.ended != nil {
		<-own.ended
	}
	own.discard()
	r.mu.Lock()
	own.leave()
	r.mu.Unlock()
	_ = own.mesh.close() // the round is broken already, and what breaks now follows from it
	r.mu.Lock()
	own.stopped = true
	r.later(rounds.EvStopped, number)
}

func (r *collectiveRoot) enter(l *link, m *control.Message) {
	if r.c.sameTasks(l, m, r.c.input) {
		r.entered(l, m)
	}
}

func (r *collectiveRoot) left(l *link, why error) {
	if r.forget(l, why) {
		r.event(rounds.Event{Kind: rounds.EvLost, Rank: l.rank})
	}
}

func (r *collectiveRoot) handle(l *link, m *control.Message) {
	r.noticed(m)
	if m.Kind == kindPulse {
		r.mu.Lock()
		if r.links[l.rank] == l {
			r.waits[l.rank] = m.Flags&flagYes != 0
		}
		r.mu.Unlock()
	}
	if r.c.aside(l, m) {
		return
	}
	switch m.Kind {
	case kindOver:
		r.mu.Lock()
		if own, rank := r.current(l, m); own != nil {
			var st RankShuffle
			if json.Unmarshal(m.Data, &st) == nil {
				st.Rank = rank
				own.stats[rank] = st
			}
		}
		r.mu.Unlock()
	case kindPart:
		r.part(l, m)
		return
	}
	r.answer(l, m)
}

// current returns the own part of the round that a message is about, if it is the present one and the rank a member, and that rank.
// The lock is held.
func (r *collectiveRoot) current(l *link, m *control.Message) (own *ownCollective, rank int) {
	rank, ok := r.place[l.rank]
	if r.own == nil || r.own.number != int(m.Epoch) || r.links[l.rank] != l || !ok {
		return nil, 0
	}
	return r.own, rank
}

// part takes over what a rank has made of a task.
func (r *collectiveRoot) part(l *link, m *control.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	own, rank := r.current(l, m)
	if own == nil || own.stopped {
		return
	}
	lo, hi := split(len(r.c.all), own.size, rank)
	if m.N < int64(lo) || m.N >= int64(hi) || own.got[m.N] != nil || m.At != int64(own.collectiveRound.number) {
		r.c.fail(l.failure(fmt.Sprintf("it sends the results of task %d, which it was not given", m.N)))
		return
	}
	env := &Env{Stage: r.c.name, Rank: rank, Size: own.size, Actor: rank, Epoch: r.c.e.epoch}
	out, results, err := own.far.receive(l, env, r.c.all[m.N], uint32(m.At), m)
	if err != nil {
		r.c.fail(l.failure(err.Error()))
		return
	}
	own.got[m.N] = &pending{a: out, seq: int(m.N), results: results, input: r.c.input}
}
