package rounds

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func text(acts []Action) (s []string) {
	for _, a := range acts {
		switch a.Kind {
		case ActPrepare:
			s = append(s, fmt.Sprintf("prepare %d %v", a.Round, a.Members))
		case ActConnect:
			s = append(s, fmt.Sprintf("connect %d", a.Round))
		case ActAbort:
			s = append(s, fmt.Sprintf("abort %d %v", a.Round, a.Members))
		case ActComplete:
			s = append(s, fmt.Sprintf("complete %d", a.Round))
		case ActLost:
			s = append(s, fmt.Sprintf("lost %d", a.Rank))
		case ActLink:
			s = append(s, fmt.Sprintf("link %d-%d", a.Rank, a.Peer))
		}
	}
	return s
}

type step struct {
	ev   Event
	want []string
}

func TestTable(t *testing.T) {
	both := []step{
		{Event{Kind: EvEntered, Rank: 0}, nil}, // and is not alone
		{Event{Kind: EvExpected, Rank: 1}, nil},
		{Event{Kind: EvOpen}, nil},
		{Event{Kind: EvEntered, Rank: 0}, nil},
		{Event{Kind: EvEntered, Rank: 1}, []string{"prepare 1 [0 1]"}},
		{Event{Kind: EvReady, Rank: 0, Round: 1}, nil},
		{Event{Kind: EvReady, Rank: 1, Round: 1}, []string{"connect 1"}},
	}
	const s = time.Second
	for name, tc := range map[string]struct {
		cfg   Config
		steps []step
	}{
		"two ranks": {Config{}, append(slices.Clone(both), []step{
			{Event{Kind: EvOver, Rank: 1, Round: 1}, nil},
			{Event{Kind: EvOver, Rank: 1, Round: 1}, nil},
			{Event{Kind: EvOver, Rank: 0, Round: 2}, nil},
			{Event{Kind: EvOver, Rank: 0, Round: 1}, []string{"complete 1"}},
			{Event{Kind: EvLost, Rank: 1}, nil},
		}...)},
		"a loss in mid-run": {Config{}, append(slices.Clone(both), []step{
			{Event{Kind: EvLost, Rank: 1}, []string{"abort 1 [0]"}},
			{Event{Kind: EvOver, Rank: 0, Round: 1}, nil},
			{Event{Kind: EvStopped, Rank: 0, Round: 1}, []string{"prepare 2 [0]"}},
			{Event{Kind: EvEntered, Rank: 1}, nil}, // it is back, and has to wait
			{Event{Kind: EvReady, Rank: 0, Round: 2}, []string{"connect 2"}},
			{Event{Kind: EvOver, Rank: 1, Round: 2}, nil},
			{Event{Kind: EvOver, Rank: 0, Round: 2}, []string{"complete 2"}},
		}...)},
		"the link breaks first, then the loss is known": {Config{Patience: 10 * s}, append(slices.Clone(both), []step{
			{Event{Kind: EvBroken, Rank: 0, Round: 1, Peer: 1, Now: s}, []string{"abort 1 [0 1]"}},
			{Event{Kind: EvStopped, Rank: 0, Round: 1, Now: s}, nil},
			{Event{Kind: EvBroken, Rank: 1, Round: 1, Peer: 0, Now: s}, nil},
			{Event{Kind: EvLost, Rank: 1, Now: 9 * s}, []string{"prepare 2 [0]"}},
		}...)},
		"the link breaks and nobody is lost": {Config{Patience: 10 * s, MaxBroken: 2}, append(slices.Clone(both), []step{
			{Event{Kind: EvBroken, Rank: 0, Round: 1, Peer: 1, Now: s}, []string{"abort 1 [0 1]"}},
			{Event{Kind: EvStopped, Rank: 0, Round: 1, Now: 2 * s}, nil},
			{Event{Kind: EvStopped, Rank: 1, Round: 1, Now: 3 * s}, nil},
			{Event{Kind: EvTick, Now: 10 * s}, nil},
			{Event{Kind: EvTick, Now: 11 * s}, []string{"prepare 2 [0 1]"}},
			{Event{Kind: EvBroken, Rank: 1, Round: 1, Peer: 0, Now: 12 * s}, nil}, // an old one
			{Event{Kind: EvBroken, Rank: 1, Round: 2, Peer: 0, Now: 12 * s}, []string{"abort 2 [0 1]"}},
			{Event{Kind: EvStopped, Rank: 0, Round: 2, Now: 12 * s}, nil},
			{Event{Kind: EvStopped, Rank: 1, Round: 2, Now: 30 * s}, []string{"link 1-0"}},
		}...)},
		"a loss while others get ready": {Config{}, append(slices.Clone(both[:6]), []step{
			{Event{Kind: EvLost, Rank: 1}, []string{"abort 1 [0]"}},
			{Event{Kind: EvStopped, Rank: 0, Round: 1}, []string{"prepare 2 [0]"}},
		}...)},
		"a loss on the way": {Config{}, append(slices.Clone(both[:4]), []step{
			{Event{Kind: EvLost, Rank: 1}, []string{"prepare 1 [0]"}},
		}...)},
		"stop at a loss": {Config{Stop: true}, append(slices.Clone(both), []step{
			{Event{Kind: EvLost, Rank: 1}, []string{"abort 1 [0]", "lost 1"}},
		}...)},
		"nobody is left": {Config{}, append(slices.Clone(both), []step{
			{Event{Kind: EvLost, Rank: 1}, []string{"abort 1 [0]"}},
			{Event{Kind: EvLost, Rank: 0}, []string{"abort 1 []", "lost 0"}},
		}...)},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(tc.cfg)
			for i, s := range tc.steps {
				if got := text(m.Step(s.ev)); !slices.Equal(got, s.want) {
					t.Fatalf("step %d: %q\nwant %q", i, got, s.want)
				}
			}
		})
	}
}

// Whatever order messages come in and whoever is lost, the stage completes in a round none of whose members was lost, as
// long as one rank lives.
func TestAnyLosses(t *testing.T) {
	for seed := range uint64(5000) {
		if err := random(seed, false); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// The same where another comes in the place of everyone who is lost: then all may be lost at once.
func TestAnySuccessors(t *testing.T) {
	for seed := range uint64(5000) {
		if err := random(seed, true); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func random(seed uint64, successors bool) error {
	rng := rand.New(rand.NewPCG(seed, 2))
	ranks := 1 + rng.IntN(6)
	m := New(Config{Return: successors, Patience: time.Duration(rng.IntN(30)), MaxBroken: 1 << 30})
	alive := map[int]bool{}
	var mail []Event // on its way
	now := time.Duration(0)
	for r := range ranks {
		alive[r] = true
		m.Step(Event{Kind: EvExpected, Rank: r})
	}
	for r := range ranks {
		mail = append(mail, Event{Kind: EvEntered, Rank: r})
	}
	m.Step(Event{Kind: EvOpen})
	for steps := 0; ; steps++ {
		if steps > 10000 {
			return fmt.Errorf("it does not end")
		}
		now += time.Duration(rng.IntN(3))
		ev := Event{Kind: EvTick}
		if len(mail) > 0 && rng.IntN(4) > 0 {
			i := rng.IntN(len(mail))
			ev = mail[i]
			mail = slices.Delete(mail, i, i+1)
			if !alive[ev.Rank] && ev.Kind != EvLost {
				continue
			}
			if rng.IntN(10) == 0 {
				mail = append(mail, ev) // twice
			}
		} else if rng.IntN(40) == 0 && (len(alive) > 1 || successors && steps < 5000) {
			r := rng.IntN(ranks)
			if alive[r] {
				delete(alive, r)
				mail = append(mail, Event{Kind: EvLost, Rank: r})
			}
			continue
		}
		ev.Now = now
		acts := m.Step(ev)
		if ev.Kind == EvLost && successors {
			// What the lost one has said has arrived, or never will.
			mail = slices.DeleteFunc(mail, func(e Event) bool { return e.Rank == ev.Rank })
			mail = append(mail, Event{Kind: EvEntered, Rank: ev.Rank})
			alive[ev.Rank] = true
		}
		for _, a := range acts {
			switch a.Kind {
			case ActPrepare:
				for _, r := range a.Members {
					mail = append(mail, Event{Kind: EvReady, Rank: r, Round: a.Round})
				}
			case ActConnect:
				for _, r := range a.Members {
					out := Event{Kind: EvOver, Rank: r, Round: a.Round}
					if rng.IntN(8) == 0 {
						out = Event{Kind: EvBroken, Rank: r, Round: a.Round, Peer: -1}
					}
					mail = append(mail, out)
				}
			case ActAbort:
				for _, r := range a.Members {
					mail = append(mail, Event{Kind: EvStopped, Rank: r, Round: a.Round})
				}
			case ActComplete:
				if len(a.Members) == 0 {
					return fmt.Errorf("complete without members")
				}
				return nil
			case ActLost, ActLink:
				return fmt.Errorf("%v", text([]Action{a}))
			}
		}
	}
}

// Who has not answered is known in every state in which somebody is asked.
func TestAwaited(t *testing.T) {
	m := New(Config{Patience: time.Second})
	check := func(want []int, work bool) {
		t.Helper()
		if _, got, w := m.Awaited(); !slices.Equal(got, want) || w != work {
			t.Errorf("awaited are %v, work %v; want %v, %v", got, w, want, work)
		}
	}
	check(nil, false)
	for r := range 3 {
		m.Step(Event{Kind: EvEntered, Rank: r})
	}
	m.Step(Event{Kind: EvOpen})
	check([]int{0, 1, 2}, false)
	for r := range 3 {
		m.Step(Event{Kind: EvReady, Rank: r, Round: 1})
	}
	check([]int{0, 1, 2}, true)
	m.Step(Event{Kind: EvOver, Rank: 1, Round: 1})
	check([]int{0, 2}, true)
	m.Step(Event{Kind: EvBroken, Rank: 0, Round: 1, Peer: -1})
	check([]int{0, 1, 2}, false)
	m.Step(Event{Kind: EvStopped, Rank: 0, Round: 1})
	m.Step(Event{Kind: EvLost, Rank: 2, Round: 1})
	check([]int{1}, false)
	m.Step(Event{Kind: EvStopped, Rank: 1, Round: 1})
	check([]int{0, 1}, false) // the next round
}
