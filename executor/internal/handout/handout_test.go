package handout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// text writes actions down.
func text(acts []Action) (s []string) {
	for _, a := range acts {
		switch a.Kind {
		case ActGive:
			t := fmt.Sprintf("give %d to %d:", a.Grant.ID, a.Actor)
			for _, at := range a.Grant.Tasks {
				t += fmt.Sprintf(" %d.%d", at.Task, at.Number)
			}
			s = append(s, t)
		case ActAccept:
			s = append(s, fmt.Sprintf("accept %d.%d", a.Attempt.Task, a.Attempt.Number))
		case ActRetry:
			s = append(s, fmt.Sprintf("retry %d.%d at %v", a.Attempt.Task, a.Attempt.Number, a.At))
		case ActGiveUp:
			s = append(s, fmt.Sprintf("give up %d.%d after %d kills", a.Attempt.Task, a.Attempt.Number, a.Kills))
		case ActExpire:
			s = append(s, fmt.Sprintf("expire %d", a.Actor))
		case ActFinished:
			s = append(s, "finished")
		}
	}
	return s
}

type step struct {
	ev   Event
	want []string
}

func TestTable(t *testing.T) {
	const ms = time.Millisecond
	backoff := Config{MaxAttempts: 3, MaxKills: 2, Backoff: 10 * ms, MaxBackoff: 15 * ms}
	add := func(n int) step { return step{Event{Kind: EvAdd, N: n}, nil} }
	for name, tc := range map[string]struct {
		cfg   Config
		steps []step
	}{
		"in order, as actors become free": {Config{}, []step{
			add(2),
			{Event{Kind: EvIdle, Actor: 7}, []string{"give 1 to 7: 0.0"}},
			{Event{Kind: EvIdle, Actor: 8}, []string{"give 2 to 8: 1.0"}},
			{Event{Kind: EvClose}, nil},
			{Event{Kind: EvDone, Actor: 8, ID: 2}, []string{"accept 1.0"}},
			{Event{Kind: EvIdle, Actor: 8}, nil},
			{Event{Kind: EvDone, Actor: 7, ID: 1}, []string{"accept 0.0", "finished"}},
			{Event{Kind: EvIdle, Actor: 7}, nil},
		}},
		"nothing to do": {Config{}, []step{{Event{Kind: EvClose}, []string{"finished"}}, {Event{Kind: EvClose}, nil}}},
		"answers that do not count": {Config{MaxKills: 2}, []step{
			{Event{Kind: EvIdle, Actor: 1}, nil},
			{Event{Kind: EvIdle, Actor: 1}, nil},
			{Event{Kind: EvAdd, N: 1}, []string{"give 1 to 1: 0.0"}},
			add(1),
			{Event{Kind: EvDone, Actor: 2, ID: 1}, nil},                      // not its own
			{Event{Kind: EvDone, Actor: 1, ID: 9}, nil},                      // never given
			{Event{Kind: EvDone, Actor: 1, ID: 1, At: 1}, nil},               // too far
			{Event{Kind: EvDone, Actor: 1, ID: 1}, []string{"accept 0.0"}},   //
			{Event{Kind: EvDone, Actor: 1, ID: 1}, nil},                      // said twice
			{Event{Kind: EvFailed, Actor: 1, ID: 1, Why: Permanent}, nil},    // changed its mind
			{Event{Kind: EvIdle, Actor: 1}, []string{"give 2 to 1: 1.0"}},    //
			{Event{Kind: EvLost, Actor: 1}, []string{"retry 1.0 at 0s"}},     //
			{Event{Kind: EvDone, Actor: 1, ID: 2}, nil},                      // back from the dead
			{Event{Kind: EvIdle, Actor: 3}, []string{"give 3 to 3: 1.1"}},    //
			{Event{Kind: EvDone, Actor: 3, ID: 3}, []string{"accept 1.1"}},   //
			{Event{Kind: EvDone, Actor: 1, ID: 3}, nil},                      //
			{Event{Kind: EvClose, Now: time.Second}, []string{"finished"}},   //
			{Event{Kind: EvLost, Actor: 3}, nil}, {Event{Kind: EvTick}, nil}, //
		}},
		"a pause that doubles, elsewhere": {backoff, []step{
			add(1), {Event{Kind: EvClose}, nil},
			{Event{Kind: EvIdle, Actor: 1}, []string{"give 1 to 1: 0.0"}},
			{Event{Kind: EvFailed, Actor: 1, ID: 1, Why: Transient, Now: 5 * ms}, []string{"retry 0.0 at 15ms"}},
			{Event{Kind: EvIdle, Actor: 1, Now: 5 * ms}, nil},
			{Event{Kind: EvIdle, Actor: 2, Now: 6 * ms}, nil},
			{Event{Kind: EvTick, Now: 14 * ms}, nil},
			{Event{Kind: EvTick, Now: 15 * ms}, []string{"give 2 to 2: 0.1"}},
			{Event{Kind: EvFailed, Actor: 2, ID: 2, Why: Transient, Now: 20 * ms}, []string{"retry 0.1 at 35ms"}},
			{Event{Kind: EvTick, Now: 40 * ms}, []string{"give 3 to 1: 0.2"}},
			{Event{Kind: EvFailed, Actor: 1, ID: 3, Why: Transient, Now: 41 * ms}, []string{"give up 0.2 after 0 kills"}},
			{Event{Kind: EvTick, Now: time.Hour}, nil},
		}},
		"the only actor takes it again": {backoff, []step{
			add(1),
			{Event{Kind: EvIdle, Actor: 1}, []string{"give 1 to 1: 0.0"}},
			{Event{Kind: EvFailed, Actor: 1, ID: 1, Why: Transient}, []string{"retry 0.0 at 10ms"}},
			{Event{Kind: EvIdle, Actor: 1}, nil},
			{Event{Kind: EvTick, Now: 10 * ms}, []string{"give 2 to 1: 0.1"}},
		}},
		"a permanent failure": {backoff, []step{
			add(2),
			{Event{Kind: EvIdle, Actor: 1}, []string{"give 1 to 1: 0.0"}},
			{Event{Kind: EvFailed, Actor: 1, ID: 1, Why: Permanent}, []string{"give up 0.0 after 0 kills"}},
			{Event{Kind: EvIdle, Actor: 1}, nil},
			{Event{Kind: EvIdle, Actor: 2}, nil},
		}},
		"a task that kills two actors": {Config{MaxKills: 2, MaxAttempts: 9, Batch: 3}, []step{
			add(3),
			{Event{Kind: EvIdle, Actor: 1}, []string{"give 1 to 1: 0.0 1.0 2.0"}},
			{Event{Kind: EvDone, Actor: 1, ID: 1}, []string{"accept 0.0"}},
			{Event{Kind: EvLost, Actor: 1}, []string{"retry 1.0 at 0s", "retry 2.0 at 0s"}},
			{Event{Kind: EvIdle, Actor: 2}, []string{"give 2 to 2: 1.1"}}, // alone
			{Event{Kind: EvDone, Actor: 2, ID: 2}, []string{"accept 1.1"}},
			{Event{Kind: EvIdle, Actor: 2}, []string{"give 3 to 2: 2.1"}},
			{Event{Kind: EvLost, Actor: 2}, []string{"give up 2.1 after 2 kills"}},
		}},
		"batches": {Config{Batch: 2, MaxAttempts: 2}, []step{
			add(3),
			{Event{Kind: EvIdle, Actor: 1}, []string{"give 1 to 1: 0.0 1.0"}},
			{Event{Kind: EvFailed, Actor: 1, ID: 1, At: 1, All: true, Why: Transient}, []string{"retry 1.0 at 0s"}},
			{Event{Kind: EvIdle, Actor: 1}, []string{"give 2 to 1: 0.1 1.1"}},
			{Event{Kind: EvDone, Actor: 1, ID: 2}, []string{"accept 0.1"}},
			{Event{Kind: EvFailed, Actor: 1, ID: 2, At: 0, Why: Transient}, nil}, // it is done
			{Event{Kind: EvIdle, Actor: 1}, []string{"give 3 to 1: 1.2"}},        // given back without an answer
			{Event{Kind: EvFailed, Actor: 1, ID: 3, Why: Transient}, []string{"give up 1.2 after 0 kills"}},
		}},
		"a deadline": {Config{Deadline: 10 * ms, Batch: 2, MaxKills: 2}, []step{
			add(2),
			{Event{Kind: EvIdle, Actor: 1, Now: 1 * ms}, []string{"give 1 to 1: 0.0 1.0"}},
			{Event{Kind: EvTick, Now: 20 * ms}, nil},
			{Event{Kind: EvTick, Now: 21 * ms}, []string{"expire 1"}},
			{Event{Kind: EvTick, Now: 50 * ms}, nil}, // once
			{Event{Kind: EvLost, Actor: 1, Now: 51 * ms}, []string{"retry 0.0 at 51ms", "retry 1.0 at 51ms"}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(tc.cfg)
			for i, s := range tc.steps {
				if got := text(m.Step(s.ev)); !slices.Equal(got, s.want) {
					t.Fatalf("step %d: %v\nwant %v", i, got, s.want)
				}
			}
		})
	}
}

// Whatever actors do, each task is accepted once, of attempts that were given out once, by the actor that had it, and
// the machine ends.
func TestAnyActors(t *testing.T) {
	for seed := range uint64(3000) {
		if err := random(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func random(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	cfg := Config{
		MaxAttempts: 1 << 20, MaxKills: 1 << 20, Batch: 1 + rng.IntN(4),
		Backoff: time.Duration(rng.IntN(10)), MaxBackoff: time.Duration(rng.IntN(100)), Deadline: time.Duration(rng.IntN(50)),
	}
	m := New(cfg)
	tasks, added := rng.IntN(40), 0
	accepted := map[int]bool{}
	given := map[Attempt]int{}     // by whom
	answered := map[Attempt]bool{} // since it was given
	held := map[int]*Grant{}
	var past []*Grant
	nextActor, now, finished := 0, time.Duration(0), false
	step := func(ev Event) error {
		ev.Now = now
		for _, a := range m.Step(ev) {
			switch a.Kind {
			case ActGive:
				if held[a.Actor] != nil {
					return fmt.Errorf("actor %d is given two grants", a.Actor)
				}
				held[a.Actor] = a.Grant
				past = append(past, a.Grant)
				if len(a.Grant.Tasks) == 0 || len(a.Grant.Tasks) > cfg.Batch {
					return fmt.Errorf("a grant of %d tasks", len(a.Grant.Tasks))
				}
				for _, at := range a.Grant.Tasks {
					if _, ok := given[at]; ok || accepted[at.Task] || at.Task >= added {
						return fmt.Errorf("attempt %v is given out again, or after it was accepted", at)
					}
					given[at] = a.Actor
				}
			case ActAccept:
				if by, ok := given[a.Attempt]; !ok || by != ev.Actor || accepted[a.Attempt.Task] || answered[a.Attempt] {
					return fmt.Errorf("attempt %v is accepted and must not be", a.Attempt)
				}
				accepted[a.Attempt.Task] = true
			case ActFinished:
				finished = true
			case ActGiveUp:
				return fmt.Errorf("gave up attempt %v", a.Attempt)
			}
		}
		return nil
	}
	for steps := 0; !finished; steps++ {
		if steps > 100000 {
			return fmt.Errorf("it does not end: %d of %d accepted", len(accepted), tasks)
		}
		if added < tasks && rng.IntN(3) == 0 {
			n := 1 + rng.IntN(tasks-added)
			added += n
			if err := step(Event{Kind: EvAdd, N: n}); err != nil {
				return err
			}
			continue
		}
		ev := Event{Kind: EvTick}
		now += time.Duration(rng.IntN(20))
		id := rng.IntN(nextActor + 1)
		g := held[id]
		switch c := rng.IntN(12); {
		case added == tasks && c == 0:
			ev = Event{Kind: EvClose}
		case nextActor < 3 || c == 1 && len(past) < 1000:
			ev = Event{Kind: EvIdle, Actor: nextActor} // a new one
			nextActor++
		case g != nil && c < 7:
			at := rng.IntN(len(g.Tasks))
			ev = Event{Kind: EvDone, Actor: id, ID: g.ID, At: at}
			if rng.IntN(3) == 0 {
				ev.Kind, ev.Why, ev.All = EvFailed, Transient, rng.IntN(2) == 0
				if !accepted[g.Tasks[at].Task] && !answered[g.Tasks[at]] {
					answered[g.Tasks[at]] = true
					for _, o := range g.Tasks {
						answered[o] = answered[o] || ev.All
					}
				}
			}
		case g != nil && c < 9:
			ev = Event{Kind: EvIdle, Actor: id}
			delete(held, id)
		case c == 9 && rng.IntN(3) == 0:
			ev = Event{Kind: EvLost, Actor: id}
			delete(held, id)
		case c >= 10 && len(past) > 0:
			// An answer that comes late, or twice, or from the wrong one.
			o := past[rng.IntN(len(past))]
			ev = Event{Kind: EvDone, Actor: id, ID: o.ID, At: rng.IntN(len(o.Tasks) + 1)}
			if h := held[o.Actor]; h == o {
				continue
			}
		}
		if err := step(ev); err != nil {
			return err
		}
	}
	if len(accepted) != tasks {
		return fmt.Errorf("finished with %d of %d accepted", len(accepted), tasks)
	}
	return nil
}

func BenchmarkGrant(b *testing.B) {
	m := New(Config{})
	m.Step(Event{Kind: EvIdle, Actor: 1})
	b.ReportAllocs()
	for range b.N {
		acts := m.Step(Event{Kind: EvAdd, N: 1})
		id := acts[0].Grant.ID
		m.Step(Event{Kind: EvDone, Actor: 1, ID: id})
		m.Step(Event{Kind: EvIdle, Actor: 1})
	}
}

// An actor that goes away without having tried what it holds leaves no blame behind, and one that holds nothing leaves nothing.
func TestLeave(t *testing.T) {
	m := New(Config{MaxKills: 1, Batch: 2})
	m.Step(Event{Kind: EvAdd, N: 3})
	m.Step(Event{Kind: EvClose})
	give := func(actor int) *Grant {
		t.Helper()
		acts := m.Step(Event{Kind: EvIdle, Actor: actor})
		if len(acts) != 1 || acts[0].Kind != ActGive {
			t.Fatalf("got %+v", acts)
		}
		return acts[0].Grant
	}
	g := give(1)
	m.Step(Event{Kind: EvDone, Actor: 1, ID: g.ID, At: 0})
	for range 5 {
		if acts := m.Step(Event{Kind: EvLeave, Actor: 1}); len(acts) != 0 {
			t.Fatalf("got %+v", acts)
		}
		if g = give(1); len(g.Tasks) != 1 || g.Tasks[0].Task != 1 {
			t.Fatalf("got %+v", g)
		}
	}
	// It waits, and goes away.
	if last := give(2); last.Tasks[0].Task != 2 {
		t.Fatalf("got %+v", last)
	}
	m.Step(Event{Kind: EvIdle, Actor: 3})
	m.Step(Event{Kind: EvLeave, Actor: 3})
	m.Step(Event{Kind: EvLeave, Actor: 4})
	if acts := m.Step(Event{Kind: EvLeave, Actor: 2}); len(acts) != 0 || m.Busy() != 1 {
		t.Fatalf("got %+v, %d busy", acts, m.Busy())
	}
	m.Step(Event{Kind: EvDone, Actor: 1, ID: g.ID, At: 0})
	if g = give(1); len(g.Tasks) != 1 || g.Tasks[0].Task != 2 || g.Tasks[0].Number != 1 {
		t.Fatalf("got %+v", g)
	}
	m.Step(Event{Kind: EvDone, Actor: 1, ID: g.ID, At: 0})
	if acts := m.Step(Event{Kind: EvIdle, Actor: 1}); len(acts) != 0 || m.Busy() != 0 {
		t.Fatalf("got %+v", acts)
	}
}
