package executor

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/executor/internal/rounds"
)

// errRoundOver ends what a round does on a rank when the root says that it is over.
var errRoundOver = errors.New("the round is over")

// shuffleRoot is what the root does about a shuffle stage of a job.
type shuffleRoot struct {
	*roundLoop
	s     *shuffleRun
	tasks []Task
	all   sync.WaitGroup // goroutines of own rounds

	// Guarded by the loop's lock:
	stats map[int]RankShuffle // of the round, by rank in it
	kills map[victim]int      // ranks that were lost under it
	own   *ownRound
}

// ownRound is the root's part of a round.
type ownRound struct {
	*round
	mesh    *mesh
	far     *far
	inserts *dispatcher
	claimed map[uint64]Task // inserts of other ranks that were accepted, by grant
	extract map[int]*link   // partitions that are being extracted elsewhere
	ended   chan struct{}   // closed when its work has ended; nil if none was begun
	linked  bool            // the shuffler is there
	stopped bool
}

// runRounds runs a shuffle stage on all ranks of the job.
func (s *shuffleRun) runRounds(tasks []Task) {
	s.shuffle = &ShuffleStats{TotalParts: s.parts.total}
	s.tasks.Store(int64(len(tasks) + s.parts.total))
	s.commits = newCommitter(s.stageRun, func(part int, results []Task) {
		s.results[part], s.parts.done[part] = results, true
	})
	r := &shuffleRoot{s: s, tasks: tasks, stats: make(map[int]RankShuffle), kills: make(map[victim]int)}
	r.roundLoop = newRoundLoop(s.stageRun, r.act)
	s.spilled = r.spilled
	s.announce(s.tasks.Load())
	unwatch := r.watch(r.beat)
	r.drive(r)
	unwatch()
	r.finish()
	s.commits.close()
}

// finish ends what is left of the last round.
func (r *shuffleRoot) finish() {
	own := r.own
	if own == nil {
		return
	}
	own.sc.cancel(errRoundOver)
	r.all.Wait()
	r.s.addCounters(own.inserted.list)
	if !own.stopped {
		if !r.s.e.idle {
			r.stats[r.place[0]] = own.result(r.place[0])
		}
		r.s.teardowns = append(r.s.teardowns, own.disconnect()...)
		if err := own.mesh.close(); err != nil && !r.s.failed() {
			r.s.teardowns = append(r.s.teardowns, fmt.Errorf("executor: stage %q: closing the links: %w", r.s.name, err))
		}
	}
	for i := range len(r.place) {
		if st, ok := r.stats[i]; ok {
			r.s.shuffle.Ranks = append(r.s.shuffle.Ranks, st)
		}
	}
}

// result is what a rank's shuffler has counted.
func (s *round) result(rank int) RankShuffle {
	if len(s.shufflers) == 0 {
		return RankShuffle{Rank: rank}
	}
	return RankShuffle{Rank: rank, Ledger: s.shufflers[0].Ledger(), Statistics: s.shufflers[0].Statistics()}
}

func (r *shuffleRoot) spilled() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own == nil || !r.own.linked || r.own.stopped {
		return 0
	}
	return r.own.spilledBytes()
}

// act does what the machine asks. The lock is held.
func (r *shuffleRoot) act(a rounds.Action) {
	switch a.Kind {
	case rounds.ActPrepare:
		r.prepare(a)
	case rounds.ActConnect:
		r.connect(a)
	case rounds.ActAbort:
		r.tell(a.Members, func(int) *control.Message { return &control.Message{Kind: kindAbort, Epoch: uint32(a.Round)} })
		r.abortOwn(a.Round)
	default:
		r.conclude(a)
	}
}

// prepare asks the members of a round to get ready.
func (r *shuffleRoot) prepare(a rounds.Action) {
	// What the last round has finished is not done again.
	r.s.commits.drain()
	parts := &partSet{total: r.s.parts.total, done: make([]bool, r.s.parts.total)}
	bits := make([]byte, (parts.total+7)/8)
	for p := range parts.done {
		if r.s.parts.done[p] {
			parts.done[p] = true
			bits[p/8] |= 1 << (p % 8)
		}
	}
	if old := r.own; old != nil {
		// Its inserts are done again.
		r.s.insertsDone.Add(-old.insertedTasks.Load())
		r.s.tasksDone.Add(-old.insertedTasks.Load())
		r.s.sizeDone.Add(-old.insertedSize.Load())
		r.again(a)
	}
	r.addrs, r.stats, r.place = make(map[int]string), make(map[int]RankShuffle), make(map[int]int)
	sc := newScope(r.s.ctx)
	r.own = &ownRound{
		round:   &round{stageRun: r.s.stageRun, sc: sc, stage: r.s.stage, number: a.Round, input: r.s.input, parts: parts},
		claimed: make(map[uint64]Task), extract: make(map[int]*link),
	}
	for i, rank := range a.Members {
		r.place[rank] = i
	}
	r.tell(a.Members, func(i int) *control.Message {
		return &control.Message{Kind: kindPrepare, Epoch: uint32(a.Round), Rank: int64(i), N: int64(len(a.Members)), Data: bits}
	})
	if r.s.e.idle {
		return // it holds no partitions and needs no links
	}
	m, addr, err := r.j.openMesh(len(a.Members))
	if err != nil {
		r.s.fail(fmt.Errorf("executor: stage %q: %w", r.s.name, err))
		return
	}
	r.own.mesh, r.addrs[0] = m, addr
	r.later(rounds.EvReady, a.Round)
}

// connect begins a round.
func (r *shuffleRoot) connect(a rounds.Action) {
	own := r.own
	own.inserts = r.s.dispatcher(own.sc, 1, nil)
	own.round.inserts, own.allIn, own.commits = own.inserts, make(chan struct{}), r.s.commits
	own.first = r.place[0]
	n, _, err := ActorCount(r.s.name, r.s.stage.Resources(), r.s.e.capacity(), -1, 0)
	if err != nil {
		r.s.fail(err)
		return
	}
	n = min(n, r.s.e.cfg.Workers)
	if r.s.e.idle {
		n = 0
	}
	r.s.actors = n
	own.far = newFar(r.s.stageRun, own.sc, own.inserts, n)
	addrs := make([]string, len(a.Members))
	for rank, i := range r.place {
		addrs[i] = r.addrs[rank]
	}
	for _, rank := range a.Members {
		l := r.links[rank]
		if l == nil {
			continue
		}
		more := l.actors(r.s.stageRun)
		r.s.actors += more
		first := own.far.hire(l, a.Round, more)
		l.send(&control.Message{
			Kind: kindConnect, Stage: r.s.key, Epoch: uint32(a.Round), Names: addrs, N: int64(more), Actor: int64(first),
		})
	}
	envs := r.s.e.envsFrom(r.s.name, n, 0)
	for _, env := range envs {
		env.Rank, env.Size = own.first, len(a.Members)
	}
	own.ended = make(chan struct{})
	r.all.Go(func() {
		kind := r.runOwn(own, envs, addrs)
		close(own.ended) // before the event: what follows from it may wait for that
		if kind != 0 {
			r.event(rounds.Event{Kind: kind, Round: own.number, Peer: -1})
		}
	})
}

// runOwn does the root's part of a round and returns what the machine is to know.
func (r *shuffleRoot) runOwn(own *ownRound, envs []*Env, addrs []string) rounds.Kind {
	var err error
	if !r.s.e.idle {
		err = own.link(r.j, own.mesh, addrs)
	}
	if err != nil {
		own.sc.fail(err)
	} else {
		r.mu.Lock()
		own.linked = true
		r.mu.Unlock()
		var told sync.WaitGroup
		told.Go(func() {
			select {
			case <-own.allIn:
				r.tellAllIn(own)
			case <-own.sc.ctx.Done():
			}
		})
		own.run(envs, func(d *dispatcher) { r.s.feed(d, r.tasks) })
		told.Wait() // all is in, or the round has failed
	}
	kind, why := own.verdict(own.sc, own.first)
	if kind == rounds.EvBroken {
		r.mu.Lock()
		r.why[-1] = why
		r.mu.Unlock()
	}
	return kind
}

// tellAllIn tells the other members that the inserts of all ranks are committed.
func (r *shuffleRoot) tellAllIn(own *ownRound) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for rank := range r.place {
		if l := r.links[rank]; l != nil {
			l.send(&control.Message{Kind: kindAllIn, Stage: r.s.key, Epoch: uint32(own.number)})
		}
	}
}

// abortOwn stops the root's part of a round. It lets go of the lock while it waits.
func (r *shuffleRoot) abortOwn(number int) {
	own := r.own
	if own == nil || own.stopped {
		return
	}
	own.sc.cancel(errRoundOver)
	r.mu.Unlock()
	if own.ended != nil {
		<-own.ended
	}
	// The round is broken already, and what breaks now follows from it.
	_ = own.disconnect()
	_ = own.mesh.close()
	r.mu.Lock()
	own.stopped = true
	r.later(rounds.EvStopped, number)
}

// current returns the own part of the round that a message is about, if it is the present one and the rank is a member.
func (r *shuffleRoot) current(l *link, m *control.Message) *ownRound {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own == nil || r.own.number != int(m.Epoch) || r.own.far == nil || r.links[l.rank] != l {
		return nil
	}
	if _, ok := r.place[l.rank]; !ok {
		return nil
	}
	return r.own
}

func (r *shuffleRoot) enter(l *link, m *control.Message) {
	if r.s.sameTasks(l, m, r.s.input) {
		r.entered(l, m)
	}
}

func (r *shuffleRoot) left(l *link, why error) {
	if !r.forget(l, why) {
		return
	}
	r.mu.Lock()
	own := r.own
	if own != nil && own.far == nil {
		own = nil
	}
	r.mu.Unlock()
	if own != nil {
		r.blame(own, l, why)
		own.far.fire(l, why)
	}
	r.event(rounds.Event{Kind: rounds.EvLost, Rank: l.rank})
}

func (r *shuffleRoot) handle(l *link, m *control.Message) {
	r.noticed(m)
	if r.s.aside(l, m) {
		return
	}
	if m.Kind == kindOver {
		r.mu.Lock()
		if i, ok := r.place[l.rank]; ok && r.own != nil && r.own.number == int(m.Epoch) {
			var st RankShuffle
			if json.Unmarshal(m.Data, &st) == nil {
				st.Rank = i
				r.stats[i] = st
			}
		}
		r.mu.Unlock()
	}
	if r.answer(l, m) {
		return
	}
	if own := r.current(l, m); own != nil {
		r.work(own, l, m)
	} else if m.Call != 0 {
		l.reply(m, &control.Message{})
	}
}

// work does what a message about the tasks of a round says.
func (r *shuffleRoot) work(own *ownRound, l *link, m *control.Message) {
	switch m.Kind {
	case kindClaim:
		reply := &control.Message{}
		if a := own.far.actor(l, m); a != nil {
			if g := own.inserts.held(a.number, m.Grant); g != nil {
				own.committing.add()
				task := g.items[0].task
				own.far.mu.Lock()
				own.claimed[m.Grant] = task
				own.far.mu.Unlock()
				if own.inserts.finished(g, 0) {
					reply.Flags = flagYes
				} else {
					own.committing.done()
				}
			}
		}
		l.reply(m, reply)
	case kindInserted:
		own.far.mu.Lock()
		task, ok := own.claimed[m.Grant]
		delete(own.claimed, m.Grant)
		own.far.mu.Unlock()
		if ok {
			r.s.attempts.Add(1)
			env := &Env{Stage: r.s.name, Rank: l.rank, Actor: int(m.Actor), Epoch: r.s.e.epoch}
			own.insertDone(&meter{
				run: r.s.stageRun, env: env, task: task, counts: countersFromWire(m.Sums), spent: spentFromWire(m.Data),
			})
		}
	case kindExtract:
		own.far.mu.Lock()
		own.extract[int(m.N)] = l
		own.far.mu.Unlock()
		l.reply(m, &control.Message{})
	case kindPart:
		part := int(m.N)
		own.far.mu.Lock()
		delete(own.extract, part)
		own.far.mu.Unlock()
		if m.N < 0 || part >= own.parts.total || own.parts.done[part] || m.At < 0 || m.At/attemptsPerRound != int64(own.number-1) {
			r.s.fail(l.failure(fmt.Sprintf("it sends partition %d, which it was not given", m.N)))
			return
		}
		env := &Env{Stage: r.s.name, Rank: l.rank, Actor: int(m.Actor), Epoch: r.s.e.epoch}
		out, results, err := own.far.receive(l, env, partTask(part), uint32(m.At), m)
		if err != nil {
			r.s.fail(l.failure(err.Error()))
			return
		}
		r.s.commits.submit(&pending{a: out, seq: part, results: results, input: r.s.input})
	default:
		own.far.handle(l, m)
	}
}
