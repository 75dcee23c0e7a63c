package executor

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"
)

// unheard is the loss of a rank that was not heard of any more. What it was doing is not to blame, as it may be when a process ends: a
// cable that is pulled silences many ranks, and their tasks would soon have been under two.
type unheard struct{ error }

func (u unheard) Unwrap() error { return u.error }

func isUnheard(why error) bool {
	_, ok := errors.AsType[unheard](why)
	return ok
}

// victim is what a rank may have been lost over in a shuffle stage: a task, or a partition.
type victim struct {
	part bool
	seq  int
}

// blame ends a shuffle stage if a rank was lost over what another was lost over before. A round ends with the first loss, and the
// next does not know of it: so it is remembered here.
func (r *shuffleRoot) blame(own *ownRound, l *link, why error) {
	if isUnheard(why) {
		return
	}
	tasks := make(map[victim]Task)
	for _, it := range own.inserts.holding(own.far.of(l)) {
		tasks[victim{seq: it.seq}] = it.task
	}
	own.far.mu.Lock()
	for part, by := range own.extract {
		if by == l {
			tasks[victim{true, part}] = partTask(part)
			delete(own.extract, part)
		}
	}
	own.far.mu.Unlock()
	var guilty []victim
	r.mu.Lock()
	for v := range tasks {
		if r.kills[v]++; r.kills[v] >= maxKills {
			guilty = append(guilty, v)
		}
	}
	r.mu.Unlock()
	if len(guilty) == 0 {
		return
	}
	t := tasks[slices.MinFunc(guilty, func(a, b victim) int { return cmp.Compare(a.seq, b.seq) })]
	env := &Env{Stage: r.s.name, Rank: l.rank, Epoch: r.s.e.epoch}
	r.s.attemptEvent(slog.LevelError, "task failed", why, env, t.ID, 0, slog.Bool("actor_lost", true))
	r.s.fail(r.s.taskError(env, t, 0, maxKills, why))
}
