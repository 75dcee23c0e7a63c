package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// environ reads a number.
func environ(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("$%s is %q: give a number", name, text)
	}
	return n
}

// trouble is a kind of fault that can happen to any rank at any moment.
type trouble struct {
	name string
	long bool
	// strike does it to rank r and reports whether r is dead.
	strike func(j *job, r int, rng *rand.Rand) (dead bool)
	// heal mends what is still broken.
	heal func(j *job, r int)
}

// pause is up to twice the time after which a rank is lost.
func pause(rng *rand.Rand) { <-time.After(time.Duration(rng.Int64N(int64(4 * time.Second)))) }

var troubles = []trouble{
	{name: "killed", strike: func(j *job, r int, _ *rand.Rand) bool { j.kill(r, syscall.SIGKILL); return true }},
	{name: "stopped", strike: func(j *job, r int, _ *rand.Rand) bool { j.kill(r, syscall.SIGSTOP); return true }},
	{name: "stopped for a while", strike: func(j *job, r int, rng *rand.Rand) bool {
		j.kill(r, syscall.SIGSTOP)
		pause(rng)
		j.kill(r, syscall.SIGCONT)
		return false
	}},
	{name: "cut off", strike: func(j *job, r int, _ *rand.Rand) bool { j.must(j.lab.Cut(r)); return false },
		heal: func(j *job, r int) { j.must(j.lab.Mend(r)) }},
	{name: "cut off for a while", strike: func(j *job, r int, rng *rand.Rand) bool {
		j.must(j.lab.Cut(r))
		pause(rng)
		j.must(j.lab.Mend(r))
		return false
	}},
	{name: "parted", strike: func(j *job, r int, _ *rand.Rand) bool { j.must(j.lab.Part(r, (r+1)%ranks)); return false },
		heal: func(j *job, r int) { j.must(j.lab.Join(r, (r+1)%ranks)) }},
	{name: "parted for a while", strike: func(j *job, r int, rng *rand.Rand) bool {
		j.must(j.lab.Part(r, (r+1)%ranks))
		pause(rng)
		j.must(j.lab.Join(r, (r+1)%ranks))
		return false
	}},
	{name: "slow", strike: func(j *job, r int, rng *rand.Rand) bool {
		j.must(j.lab.Rate(r, 2e6+rng.Int64N(20e6)))
		return false
	}, heal: func(j *job, r int) { j.must(j.lab.Rate(r, 0)) }},
	{name: "far and lossy", long: true, strike: func(j *job, r int, rng *rand.Rand) bool {
		j.lab.Delay(r, time.Duration(rng.Int64N(int64(30*time.Millisecond))))
		j.lab.Lose(r, rng.IntN(50_000))
		return false
	}, heal: func(j *job, r int) {
		j.lab.Delay(r, 0)
		j.lab.Lose(r, 0)
	}},
}

// TestRandomFaults has something happen to some rank at some moment, which is a number of bytes that have crossed its link.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	runs, seed := environ(t, runsEnv, 4), environ(t, seedEnv, uint64(time.Now().UnixNano()))
	fmt.Printf("%d random faults: %s=%d\n", runs, seedEnv, seed)
	for n := range runs {
		rng := rand.New(rand.NewPCG(seed, n))
		k := troubles[rng.IntN(len(troubles))]
		r := rng.IntN(ranks)
		moment := rng.Float64()
		transport := transports[rng.IntN(len(transports))]
		t.Run(fmt.Sprintf("%d/%s/rank %d %s at %.2f", n, transport, r, k.name, moment), func(t *testing.T) {
			t.Parallel()
			playRandom(t, &k, r, moment, rng, transport)
		})
	}
}

// whole is about how many bytes cross the link of a rank in an undisturbed run; what is to happen later does not.
const whole = 3_000_000

func playRandom(t *testing.T, k *trouble, r int, moment float64, rng *rand.Rand, transport string) {
	j := newJob(t, &fault{name: k.name, long: k.long, limit: 90 * time.Second}, transport)
	j.startRanks()
	dead, struck := false, j.flows(r, int64(moment*whole))
	if struck {
		dead = k.strike(j, r, rng)
	} else {
		t.Logf("the job had ended before")
	}
	end := time.Now().Add(busy * j.c.limit)
	for i, p := range j.ranks {
		if i != r || !dead {
			_ = p.wait(j, time.Until(end))
		}
	}
	if k.heal != nil && struck {
		k.heal(j, r)
	}
	if dead {
		_ = j.ranks[r].Process.Signal(syscall.SIGCONT)
		_ = j.ranks[r].wait(j, busy*20*time.Second)
	}
	for i, p := range j.ranks {
		if p.failed != nil && (i != r || !dead) {
			j.stopped(p, "")
		}
	}
	switch {
	case j.ranks[0].failed == nil:
		j.finished()
	case slices.ContainsFunc(j.ranks, func(p *process) bool { return p.failed == nil }):
		// A rank has the results of all stages, and does not hear that rank 0 has not put them in place.
		j.Errorf("rank 0 has failed, and not all others: %s", j.words())
	default:
		j.again()
	}
}
