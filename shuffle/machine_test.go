package shuffle

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// script drives the machine of rank 0 of 2 with messages that rank 1 might send. Partitions 0 and 2 are rank
// 0's, 1 and 3 rank 1's.
type script struct {
	*testing.T
	m    *machine
	seq  uint64
	acts []action // of the last step
	kept map[*item]bool
}

func newScript(t *testing.T) *script {
	s := &script{T: t, kept: make(map[*item]bool), m: newMachine(machineConfig{
		key: goldenKey, rank: 0, size: 2, owners: []int32{0, 1, 0, 1}, maxChunk: 1000, window: 10_000, coalesce: 500,
	})}
	s.step(event{kind: evStart})
	return s
}

func (s *script) step(ev event) error {
	acts, err := s.m.Step(ev)
	s.acts = append(s.acts[:0], acts...)
	for _, a := range acts {
		switch a.kind {
		case actKeep:
			s.kept[a.item] = true
		case actDrop:
			delete(s.kept, a.item)
		}
	}
	return err
}

// recv gives the machine a message from rank 1, with the next number.
func (s *script) recv(msg message) {
	s.seq++
	msg.prefix = prefix{opKey: goldenKey, kind: msg.kind, source: 1, seq: s.seq}
	_ = s.step(event{kind: evMessage, peer: 1, msg: &msg})
}

func (s *script) hello() {
	s.recv(message{prefix: prefix{kind: msgHello}, hello: hello{
		ranks: 2, parts: 4, owners: ownersFingerprint(s.m.cfg.owners), maxChunk: 1000, granted: 10_000,
	}})
}

func (s *script) chunk(task uint64, attempt uint32, part int, seq uint64, rows int64) *item {
	return &item{chunkHeader: chunkHeader{
		opKey: goldenKey, source: 1, task: task, attempt: attempt, part: part, seq: seq, rows: rows, hash: Hash{uint64(rows), 1}, size: 100,
	}}
}

func (s *script) data(items ...*item) {
	s.recv(message{prefix: prefix{kind: msgData}, items: items})
}

func (s *script) commit(task uint64, attempt uint32, total int, lines ...line) {
	s.recv(message{prefix: prefix{kind: msgCommit}, commit: commit{task: task, attempt: attempt, total: total, lines: lines}})
}

func (s *script) finish(tasks uint64) {
	s.recv(message{prefix: prefix{kind: msgFinish}, value: tasks})
}

// one is the line of n chunks as chunk makes them, of rows rows each.
func one(part int, n, rows int64) line {
	return line{part, Totals{n, n * rows, Hash{uint64(n * rows), uint64(n)}}}
}

// Every way in which a peer can break the protocol, or data can be lost, ends the operation with an error
// that names the ranks, and the task and partition if there are any.
func TestMachineNamesFaults(t *testing.T) {
	for _, tc := range []struct {
		name string
		play func(s *script)
		want error
		text string
	}{
		{"a row lost", func(s *script) {
			s.data(s.chunk(7, 0, 2, 0, 5))
			s.commit(7, 0, 1, line{2, Totals{1, 6, Hash{6, 1}}})
		}, ErrLedger, "from rank 1 to rank 0, task 7, partition 2: committed 6 rows in 1 chunks"},
		{"a row bent", func(s *script) {
			s.commit(7, 0, 1, line{2, Totals{1, 5, Hash{99, 1}}})
			s.data(s.chunk(7, 0, 2, 0, 5))
		}, ErrLedger, "from rank 1 to rank 0, task 7, partition 2"},
		{"a chunk too many", func(s *script) {
			s.commit(7, 0, 1, one(2, 1, 5))
			s.data(s.chunk(7, 0, 2, 0, 5), s.chunk(7, 0, 2, 1, 5))
		}, ErrLedger, "task 7, partition 2: a chunk more than was committed"},
		{"a chunk too many before the commit", func(s *script) {
			s.data(s.chunk(7, 0, 2, 0, 5), s.chunk(7, 0, 2, 1, 5))
			s.commit(7, 0, 1, one(2, 1, 5))
		}, ErrLedger, "task 7, partition 2"},
		{"a partition without a line", func(s *script) {
			s.data(s.chunk(7, 0, 2, 0, 5), s.chunk(7, 0, 0, 0, 5))
			s.commit(7, 0, 1, one(2, 1, 5))
		}, ErrLedger, "task 7: chunks of 2 partitions arrived, 1 were committed"},
		{"more tasks than finished", func(s *script) {
			s.commit(7, 0, 1, one(2, 1, 5))
			s.commit(8, 0, 1, one(2, 1, 5))
			s.finish(1)
		}, ErrLedger, "rank 1 committed 2 tasks to rank 0 and finished with 1"},
		{"a commit after the last", func(s *script) {
			s.finish(0)
			s.commit(7, 0, 1, one(2, 1, 5))
		}, ErrProtocol, "task 7"},
		{"a commit without lines", func(s *script) { s.commit(7, 0, 0) }, ErrProtocol, "task 7"},
		{"two attempts committed", func(s *script) {
			s.commit(7, 0, 1, one(2, 1, 5))
			s.commit(7, 1, 1, one(2, 1, 5))
		}, ErrProtocol, "task 7 was committed twice: attempt 0 by rank 1 and attempt 1 by rank 1"},
		{"commit and retract", func(s *script) {
			s.commit(7, 0, 1, one(2, 1, 5))
			s.recv(message{prefix: prefix{kind: msgRetract}, commit: commit{task: 7}})
		}, ErrProtocol, "rank 1 committed and retracted attempt 0 of task 7"},
		{"retract and commit", func(s *script) {
			s.recv(message{prefix: prefix{kind: msgRetract}, commit: commit{task: 7}})
			s.commit(7, 0, 1, one(2, 1, 5))
		}, ErrProtocol, "contradictory commits of task 7"},
		{"totals that differ", func(s *script) {
			s.commit(7, 0, 3, one(2, 1, 5))
			s.commit(7, 0, 2, one(0, 1, 5))
		}, ErrProtocol, "contradictory commits of task 7"},
		{"a line twice", func(s *script) {
			s.commit(7, 0, 2, one(2, 1, 5))
			s.commit(7, 0, 2, one(2, 1, 5))
		}, ErrProtocol, "task 7, partition 2"},
		{"a line for another rank", func(s *script) { s.commit(7, 0, 1, one(3, 1, 5)) }, ErrProtocol, "task 7, partition 3"},
		{"a chunk for another rank", func(s *script) { s.data(s.chunk(7, 0, 3, 0, 5)) }, ErrProtocol, "partition 3"},
		{"a chunk of another run", func(s *script) {
			it := s.chunk(7, 0, 2, 0, 5)
			it.run++
			s.data(it)
		}, ErrProtocol, "claims another origin"},
		{"a chunk of another rank", func(s *script) {
			it := s.chunk(7, 0, 2, 0, 5)
			it.source = 0
			s.data(it)
		}, ErrProtocol, "claims another origin"},
		{"beyond the credit", func(s *script) {
			for i := range uint64(100) {
				s.data(s.chunk(7, 0, 2, i, 5))
			}
		}, ErrProtocol, "rank 1 sent rank 0"},
		{"a want too large", func(s *script) {
			s.recv(message{prefix: prefix{kind: msgWant}, value: 1 << 40})
		}, ErrProtocol, "rank 1 asks rank 0 for more credit"},
		{"credit never given", func(s *script) {
			s.recv(message{prefix: prefix{kind: msgSkip}, value: 1 << 40})
		}, ErrProtocol, "gave back credit"},
		{"two hellos", func(s *script) { s.hello() }, ErrProtocol, "rank 1 greeted twice"},
		{"two finishes", func(s *script) { s.finish(0); s.finish(0) }, ErrProtocol, "rank 1 finished twice"},
		{"messages lost", func(s *script) {
			for range maxAhead + 2 {
				s.seq++
				s.recv(message{prefix: prefix{kind: msgGrant}})
			}
		}, ErrProtocol, "rank 1 lost or skipped"},
		{"the link", func(s *script) {
			_ = s.step(event{kind: evLinkDown, peer: 1, err: errors.New("cable cut")})
		}, ErrPeerDown, "link from rank 1 to rank 0: cable cut"},
		{"poison", func(s *script) {
			s.recv(message{prefix: prefix{kind: msgPoison}, poison: poison{rank: 1, text: "ran out of cheese"}})
		}, ErrAborted, "aborted by rank 1: ran out of cheese"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript(t)
			s.hello()
			tc.play(s)
			if !errors.Is(s.m.err, tc.want) || !errors.Is(s.m.err, ErrAborted) || !strings.Contains(fmt.Sprint(s.m.err), tc.text) {
				t.Fatalf("error is %v", s.m.err)
			}
			if len(s.kept) > 0 {
				t.Errorf("%d chunks were kept", len(s.kept))
			}
			// Everything after it is refused or dropped.
			s.data(s.chunk(9, 0, 2, 0, 5))
			if len(s.acts) != 1 || s.acts[0].kind != actDrop {
				t.Errorf("a chunk after the end: %+v", s.acts)
			}
			for _, kind := range []eventKind{evBegin, evInsert, evCommit, evRetract, evFinish} {
				if err := s.step(event{kind: kind, item: s.chunk(1, 0, 0, 0, 0)}); !errors.Is(err, ErrAborted) {
					t.Errorf("event %d after the end: %v", kind, err)
				}
			}
		})
	}
}

// Partitions complete one by one, as soon as their own chunks are there, because control messages overtake
// data.
func TestMachineCompletesEarly(t *testing.T) {
	s := newScript(t)
	s.hello()
	if err := s.step(event{kind: evFinish}); err != nil {
		t.Fatal(err)
	}
	s.commit(7, 0, 2, one(0, 1, 5), one(2, 2, 5))
	s.finish(1)
	completed := func() (parts []int) {
		for _, a := range s.acts {
			if a.kind == actComplete {
				parts = append(parts, a.part)
			}
		}
		return parts
	}
	s.data(s.chunk(7, 0, 2, 0, 5))
	if got := completed(); len(got) != 0 {
		t.Fatalf("partitions %d are complete too early", got)
	}
	s.data(s.chunk(7, 0, 0, 1, 5))
	if got := completed(); fmt.Sprint(got) != "[0]" || s.m.done {
		t.Fatalf("partitions %d are complete, done %v", got, s.m.done)
	}
	s.data(s.chunk(7, 0, 2, 2, 5))
	if got := completed(); fmt.Sprint(got) != "[2]" {
		t.Fatalf("partitions %d are complete", got)
	}
	if s.m.done {
		t.Fatal("done although the finish to rank 1 is under way")
	}
	_ = s.step(event{kind: evSent, peer: 1, sent: msgFinish})
	if !s.m.done {
		t.Fatal("not done")
	}
	// A link that breaks now does not matter, nor does an attempt that nobody asked for.
	_ = s.step(event{kind: evLinkDown, peer: 1, err: errors.New("rank 1 went home")})
	s.data(s.chunk(7, 1, 2, 0, 5))
	if s.m.err != nil || len(s.acts) != 1 || s.acts[0].kind != actDrop {
		t.Fatalf("%v %+v", s.m.err, s.acts)
	}
}

// What is queued goes out partition by partition after the finish, and small chunks travel together.
func TestMachineSendsInOrderAndTogether(t *testing.T) {
	s := newScript(t)
	_ = s.step(event{kind: evBegin, task: 1})
	for i := range 12 {
		it := &item{chunkHeader: chunkHeader{opKey: goldenKey, task: 1, part: 1 + i%2*2, size: 100}}
		if err := s.step(event{kind: evInsert, item: it}); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.step(event{kind: evCommit, task: 1})
	_ = s.step(event{kind: evFinish})
	s.hello()
	var parts, lengths []int
	for _, a := range s.acts {
		if a.kind == actSend && a.msg.kind == msgData {
			lengths = append(lengths, len(a.msg.items))
			for _, it := range a.msg.items {
				parts = append(parts, it.part)
			}
		}
	}
	if fmt.Sprint(parts) != "[1 1 1 1 1 1 3 3 3 3]" || fmt.Sprint(lengths) != "[5 5]" {
		t.Fatalf("sent partitions %d in messages of %d", parts, lengths)
	}
	// The rest waits for company, and goes when nothing is under way any more.
	_ = s.step(event{kind: evSent, peer: 1, sent: msgData})
	if len(s.acts) != 0 {
		t.Fatalf("%+v", s.acts)
	}
	_ = s.step(event{kind: evSent, peer: 1, sent: msgData})
	if len(s.acts) != 1 || len(s.acts[0].msg.items) != 2 {
		t.Fatalf("%+v", s.acts)
	}
}

// Whoever hears of the end passes it on, except to where it comes from, so that it reaches ranks whose link
// to that rank is the one that broke.
func TestMachineFloodsPoison(t *testing.T) {
	m := newMachine(machineConfig{key: goldenKey, rank: 0, size: 4, owners: []int32{0, 1, 2, 3}, maxChunk: 1000, window: 10_000, coalesce: 500})
	_, _ = m.Step(event{kind: evStart})
	acts, _ := m.Step(event{kind: evMessage, peer: 2, msg: &message{
		prefix: prefix{opKey: goldenKey, kind: msgPoison, source: 2, seq: 1}, poison: poison{rank: 1, text: "the end"},
	}})
	var told []int
	for _, a := range acts {
		if a.kind == actSend && a.msg.kind == msgPoison && a.msg.poison == (poison{rank: 1, text: "the end"}) {
			told = append(told, a.peer)
		}
	}
	if fmt.Sprint(told) != "[2 3]" {
		t.Errorf("ranks %d were told", told)
	}
}
