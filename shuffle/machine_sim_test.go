package shuffle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// world runs the machines of all ranks in one goroutine. One seed decides which message arrives next, how
// often, what is spilled and when it is loaded again, so a failure replays from its seed.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	ranks []*simRank
	wire  []simMessage
	total int // partitions
	trace []string

	repeat, shuffled bool // the network repeats and reorders
}

type simMessage struct {
	from, to int
	msg      outMessage
	copied   bool // a repetition
}

type simRank struct {
	m        *machine
	events   []func()       // what the program still does, in order
	owed     []simCredit    // chunks kept but not placed yet
	loads    []int          // peers whose queue head is to be read back
	live     map[*item]bool // chunks that the machine has: kept or queued
	expected map[int]map[uint64][]int64
	complete []int
	done     bool
	err      error
}

type simCredit struct {
	peer int
	cost uint64
}

func newWorld(t *testing.T, seed uint64, size, total int, maxChunk, window int64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 77)), total: total}
	owners := make([]int32, total)
	for p := range owners {
		owners[p] = int32(w.rng.IntN(size)) // some ranks may own nothing
	}
	for r := range size {
		w.ranks = append(w.ranks, &simRank{
			m: newMachine(machineConfig{
				key: opKey{run: 1, op: 2, epoch: 3, instance: 4}, rank: r, size: size, owners: owners,
				maxChunk: maxChunk, window: window, coalesce: max(1, maxChunk/2),
			}),
			live:     make(map[*item]bool),
			expected: make(map[int]map[uint64][]int64),
		})
	}
	return w
}

func (w *world) logf(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	tail := w.trace[max(0, len(w.trace)-40):]
	w.t.Fatalf("%s\nlast steps:\n%s", fmt.Sprintf(format, args...), joinLines(tail))
}

func joinLines(lines []string) (s string) {
	for _, l := range lines {
		s += "  " + l + "\n"
	}
	return s
}

// step gives a rank an event and does what the machine asks, as the runtime does.
func (w *world) step(r int, ev event) error {
	rank := w.ranks[r]
	acts, err := rank.m.Step(ev)
	for i := range acts {
		a := &acts[i]
		switch a.kind {
		case actSend:
			msg := a.msg
			msg.items = slices.Clone(msg.items)
			for _, it := range msg.items {
				if it.place != taken || !rank.live[it] {
					w.fatalf("rank %d sends a chunk that it does not have", r)
				}
				delete(rank.live, it)
			}
			w.wire = append(w.wire, simMessage{from: r, to: a.peer, msg: msg})
		case actKeep:
			if a.item.source != r {
				rank.owed = append(rank.owed, simCredit{a.item.source, a.item.cost()})
			}
			rank.live[a.item] = true
		case actDrop:
			delete(rank.live, a.item)
			if a.arrived {
				rank.owed = append(rank.owed, simCredit{a.peer, a.item.cost()})
			}
		case actLoad:
			if !slices.Contains(rank.loads, a.peer) {
				rank.loads = append(rank.loads, a.peer)
			}
		case actComplete:
			rank.complete = append(rank.complete, a.part)
			w.checkPart(r, rank.m.local[a.part])
		case actDone:
			rank.done = true
		case actPoisoned:
			rank.err = a.err
		}
	}
	if m := rank.m; m.outstanding > receivePool(m.cfg.window, m.cfg.maxChunk) {
		w.fatalf("rank %d gave %d bytes of credit, its pool has %d",
			r, m.outstanding, receivePool(m.cfg.window, m.cfg.maxChunk))
	}
	return err
}

// deliver hands message i of the wire to its receiver.
func (w *world) deliver(i int) {
	sm := w.wire[i]
	last := true
	if w.repeat && w.rng.IntN(8) == 0 {
		w.wire[i].copied = true
		last = false
	} else {
		w.wire = slices.Delete(w.wire, i, i+1)
	}
	if !sm.copied && sm.msg.kind.mustArrive() {
		_ = w.step(sm.from, event{kind: evSent, peer: sm.to, sent: sm.msg.kind})
	}
	from := w.ranks[sm.from].m
	msg := &message{
		prefix: prefix{opKey: from.cfg.key, kind: sm.msg.kind, source: sm.from, dest: sm.to, seq: sm.msg.seq},
		hello:  sm.msg.hello, value: sm.msg.value, commit: sm.msg.commit, poison: sm.msg.poison,
	}
	msg.commit.lines = slices.Clone(sm.msg.commit.lines)
	for _, it := range sm.msg.items {
		msg.items = append(msg.items, &item{chunkHeader: it.chunkHeader})
	}
	w.logf("%d -> %d: %s %d, %d chunks, value %d, last %v",
		sm.from, sm.to, sm.msg.kind, sm.msg.seq, len(msg.items), sm.msg.value, last)
	_ = w.step(sm.to, event{kind: evMessage, peer: sm.from, msg: msg})
}

// nextOn returns the index of a message that may arrive next: the oldest of a random pair, or any.
func (w *world) nextOn() int {
	i := w.rng.IntN(len(w.wire))
	if w.shuffled {
		return i
	}
	for j, sm := range w.wire[:i] {
		if sm.from == w.wire[i].from && sm.to == w.wire[i].to {
			return j
		}
	}
	return i
}

// turn does one random thing and reports whether there was anything to do.
func (w *world) turn() bool {
	type choice func()
	var can []choice
	for r, rank := range w.ranks {
		if len(rank.events) > 0 {
			can = append(can, func() {
				f := rank.events[0]
				rank.events = rank.events[1:]
				f()
			})
		}
		if len(rank.owed) > 0 {
			can = append(can, func() {
				c := rank.owed[0]
				rank.owed = rank.owed[1:]
				_ = w.step(r, event{kind: evPlaced, peer: c.peer, cost: c.cost})
			})
		}
		if len(rank.loads) > 0 {
			can = append(can, func() {
				p := rank.loads[0]
				rank.loads = rank.loads[1:]
				for _, it := range rank.m.loadable(p) {
					it.place = inMemory
					rank.m.queued += it.size
				}
				_ = w.step(r, event{kind: evReady, peer: p})
			})
		}
		if rank.m.queued > 0 && w.rng.IntN(4) == 0 {
			can = append(can, func() { w.spillSome(r) })
		}
	}
	if len(w.wire) > 0 {
		can = append(can, func() { w.deliver(w.nextOn()) }, func() { w.deliver(w.nextOn()) })
	}
	if len(can) == 0 {
		return false
	}
	can[w.rng.IntN(len(can))]()
	return true
}

func (w *world) spillSome(r int) {
	m := w.ranks[r].m
	for p := range m.peers {
		for _, it := range m.peers[p].queue.waiting() {
			if it.place == inMemory && w.rng.IntN(3) == 0 {
				it.place = onDisk
				m.queued -= it.size
			}
		}
	}
}

// run goes on until nothing is left to do.
func (w *world) run() {
	for r := range w.ranks {
		_ = w.step(r, event{kind: evStart})
	}
	for n := 0; w.turn(); n++ {
		if n > 1_000_000 {
			w.fatalf("no end after %d steps", n)
		}
	}
}

// program plans what rank r does: tasks of some attempts each, one of which is committed.
func (w *world) program(r, tasks int) {
	rank := w.ranks[r]
	add := func(f func()) { rank.events = append(rank.events, f) }
	must := func(err error) {
		if err != nil && rank.err == nil {
			w.fatalf("rank %d: %v", r, err)
		}
	}
	for n := range tasks {
		task := uint64(n*len(w.ranks) + r)
		attempts := 1 + w.rng.IntN(3)
		for attempt := range attempts {
			a := uint32(attempt)
			add(func() { must(w.step(r, event{kind: evBegin, task: task, attempt: a})) })
			for range w.rng.IntN(6) {
				it := &item{chunkHeader: chunkHeader{
					opKey: rank.m.cfg.key, source: r, task: task, attempt: a, part: w.rng.IntN(w.total),
					rows: int64(w.rng.IntN(10)), hash: Hash{w.rng.Uint64(), w.rng.Uint64()},
					size: w.rng.Int64N(rank.m.cfg.maxChunk + 1), metaLen: w.rng.IntN(20),
				}}
				if attempt == attempts-1 {
					w.expect(it)
				}
				add(func() {
					if rank.err == nil {
						rank.live[it] = true
					}
					must(w.step(r, event{kind: evInsert, item: it}))
				})
			}
			kind := evRetract
			if attempt == attempts-1 {
				kind = evCommit
			}
			add(func() { must(w.step(r, event{kind: kind, task: task, attempt: a})) })
		}
	}
	add(func() { must(w.step(r, event{kind: evFinish})) })
}

func (w *world) expect(it *item) {
	owner := w.ranks[w.ranks[0].m.cfg.owners[it.part]]
	if owner.expected[it.part] == nil {
		owner.expected[it.part] = make(map[uint64][]int64)
	}
	owner.expected[it.part][it.task] = append(owner.expected[it.part][it.task], it.rows)
}

// check verifies that every rank is done and has exactly what was committed, in order.
func (w *world) check() {
	w.t.Helper()
	for r, rank := range w.ranks {
		if rank.err != nil || !rank.done {
			w.fatalf("rank %d: done %v, error %v", r, rank.done, rank.err)
		}
		if len(rank.complete) != len(rank.m.parts) {
			w.fatalf("rank %d completed %d of %d partitions", r, len(rank.complete), len(rank.m.parts))
		}
		for i := range rank.m.parts {
			w.checkPart(r, i)
			for _, it := range rank.m.take(i) {
				delete(rank.live, it)
			}
		}
		if len(rank.live) > 0 {
			w.fatalf("rank %d still has %d chunks", r, len(rank.live))
		}
	}
}

// checkPart compares what a complete partition holds with what was committed for it. It is called when the
// partition completes, because a consumer may take it at that moment.
func (w *world) checkPart(r, i int) {
	w.t.Helper()
	rank := w.ranks[r]
	id := rank.m.parts[i].id
	got := make(map[uint64][]int64)
	items := slices.SortedFunc(slices.Values(rank.m.parts[i].items), compareItems)
	for k, it := range items {
		if k > 0 && compareItems(items[k-1], it) == 0 {
			w.fatalf("partition %d has chunk %d of task %d twice", id, it.seq, it.task)
		}
		if !rank.live[it] {
			w.fatalf("partition %d has a chunk that was freed", id)
		}
		got[it.task] = append(got[it.task], it.rows)
	}
	if fmt.Sprint(got) != fmt.Sprint(rank.expected[id]) && len(got)+len(rank.expected[id]) > 0 {
		w.fatalf("partition %d: got %v, want %v", id, got, rank.expected[id])
	}
}

func TestMachineRandomSchedules(t *testing.T) {
	seeds := 400
	if testing.Short() {
		seeds = 60
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			size := []int{1, 2, 3, 5, 8}[rng.IntN(5)]
			window := []int64{1, 1000, 50_000, 1 << 20}[rng.IntN(4)]
			w := newWorld(t, seed, size, 1+rng.IntN(20), 1+rng.Int64N(20_000), window)
			w.repeat, w.shuffled = rng.IntN(2) == 0, rng.IntN(2) == 0
			for r := range w.ranks {
				w.program(r, rng.IntN(12))
			}
			w.run()
			w.check()
		})
	}
}

// A rank that is lost at any moment leaves every other either done or poisoned with its name, never waiting.
func TestMachineLosesRank(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			size := 2 + rng.IntN(4)
			w := newWorld(t, seed, size, 1+rng.IntN(10), 1000, 10_000)
			for r := range w.ranks {
				w.program(r, 5)
				_ = w.step(r, event{kind: evStart})
			}
			for range rng.IntN(400) {
				w.turn()
			}
			lost := rng.IntN(size)
			if w.ranks[lost].done {
				t.Skip("it was done already")
			}
			w.ranks[lost].events, w.ranks[lost].owed, w.ranks[lost].loads = nil, nil, nil
			cause := errors.New("cable cut")
			w.wire = slices.DeleteFunc(w.wire, func(sm simMessage) bool {
				return sm.to == lost || sm.from == lost && rng.IntN(2) == 0
			})
			for r := range w.ranks {
				if r != lost {
					_ = w.step(r, event{kind: evLinkDown, peer: lost, err: cause})
				}
			}
			for w.turn() {
				w.wire = slices.DeleteFunc(w.wire, func(sm simMessage) bool { return sm.to == lost })
			}
			for r, rank := range w.ranks {
				if r == lost || rank.done {
					continue
				}
				if !errors.Is(rank.err, ErrAborted) {
					w.fatalf("rank %d waits for ever", r)
				}
				if len(rank.live) > 0 {
					w.fatalf("rank %d is poisoned and has %d chunks", r, len(rank.live))
				}
			}
		})
	}
}
