package world

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/dovetail-dedup/dovetail/executor"
	"github.com/dovetail-dedup/dovetail/shuffle"
	"github.com/dovetail-dedup/dovetail/shuffle/faulty"
)

// errFlaky is what tasks fail with now and then.
var errFlaky = errors.New("flaky: it failed by chance")

// plan decides what befalls the ranks and their network in this life.
func (w *World) plan() {
	if w.size == 1 {
		return
	}
	// Most jobs take a second or two, if their tasks are not slow; the first moments are the most interesting.
	mean := 400 * time.Millisecond
	if w.slow && w.rng.IntN(2) == 0 {
		mean = w.silence
	}
	for range w.rng.IntN(5) {
		at := time.Duration(w.rng.ExpFloat64() * float64(mean))
		kind, seed := w.rng.IntN(10), w.rng.Uint64()
		time.AfterFunc(at, func() {
			w.mu.Lock()
			over := w.over
			w.mu.Unlock()
			if !over {
				w.strike(kind, rand.New(rand.NewPCG(seed, 0)))
			}
		})
	}
}

// strike lets one fault happen.
func (w *World) strike(kind int, rng *rand.Rand) {
	a := rng.IntN(w.size)
	b := (a + 1 + rng.IntN(w.size-1)) % w.size
	// About as long as a job waits, or much shorter, or longer.
	long := time.Duration(float64(w.silence) * rng.ExpFloat64())
	switch kind {
	case 0, 1:
		w.befell("cut", "the path between rank %d and rank %d is cut for %v", a, b, long)
		w.net.cut(a, b, long)
	case 2:
		w.befell("partition", "rank %d is cut off for %v", a, long)
		for r := range w.size {
			if r != a {
				w.net.cut(a, r, long)
			}
		}
	case 3, 4:
		if w.net.reset(a) {
			w.befell("reset", "a connection of rank %d is reset", a)
		}
	case 5:
		w.befell("slow", "the path between rank %d and rank %d is slow now", a, b)
		w.net.slow(a, b, 1+rng.IntN(50))
	default:
		if a == 0 && rng.IntN(3) > 0 {
			a = b // the root is lost less often: nothing goes on after that
		}
		w.kill(a, rng)
	}
}

// kill ends a rank, and starts it again later, or not.
func (w *World) kill(number int, rng *rand.Rand) {
	w.mu.Lock()
	r := w.ranks[number]
	if r.killed || r.ended {
		w.mu.Unlock()
		return
	}
	r.killed = true
	w.mu.Unlock()
	silently, zombie := rng.IntN(2) == 0, rng.IntN(2) == 0
	w.befell("kill", "rank %d is killed, silently %v, its program runs on %v", number, silently, zombie)
	r.host.kill(silently)
	if !zombie {
		r.cancel(errKilled)
	}
	if number == 0 || rng.IntN(2) == 0 {
		return
	}
	w.all.Add(1)
	time.AfterFunc(time.Duration(rng.ExpFloat64()*float64(time.Second)), func() {
		defer w.all.Done()
		w.mu.Lock()
		over := w.over
		w.mu.Unlock()
		if !over {
			w.befell("restart", "rank %d is started again", number)
			w.begin(number, r.life+1)
		}
	})
}

// fabric is TCP over the simulated network, whose messages may come twice or in another order.
type fabric struct {
	executor.Fabric
	w *World
}

func (f *fabric) Open(host string) (executor.Port, error) {
	p, err := f.Fabric.Open(host)
	if err != nil {
		return nil, err
	}
	return &port{p, f.w}, nil
}

type port struct {
	executor.Port
	w *World
}

func (p *port) Connect(ctx context.Context, m executor.Meeting) (shuffle.Transport, error) {
	t, err := p.Port.Connect(ctx, m)
	if err != nil || p.w.faulty == "" {
		return t, err
	}
	var seed uint64
	p.w.Chance(func(rng *rand.Rand) { seed = rng.Uint64() })
	ts, err := faulty.Wrap([]shuffle.Transport{t}, p.w.faulty, seed)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return ts[0], nil
}
