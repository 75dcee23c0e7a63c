package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/executor/internal/rounds"
)

// collectiveMember is a collective stage being run on a rank that is not the root.
type collectiveMember struct {
	*member
	st    CollectiveStage
	tasks []Task

	rmu sync.Mutex
	cur *memberCollective
	all sync.WaitGroup
}

// memberCollective is this rank's part of a round.
type memberCollective struct {
	*collectiveRound
	mesh   *mesh
	rank   int
	number int
	began  bool
}

// collectiveMember does this rank's part of a collective stage.
func (e *Executor) collectiveMember(ctx context.Context, st CollectiveStage, tasks []Task) ([]Task, error) {
	r := e.newRun(ctx, st, kindCollective)
	m := &collectiveMember{member: e.newMember(r), st: st, tasks: tasks}
	m.pulse = m.beat
	defer m.detach(e.cfg.Job.attach(r.key, m))
	return m.inRounds(hashTasks(tasks, 0), m.stopRound)
}

func (m *collectiveMember) handle(l *link, msg *control.Message) {
	switch msg.Kind {
	case kindPrepare:
		m.prepare(msg)
	case kindConnect:
		m.connect(msg)
	case kindAbort:
		m.rmu.Lock()
		rd := m.cur
		m.rmu.Unlock()
		if rd != nil && rd.number == int(msg.Epoch) {
			m.stopRound(errRoundOver)
		}
	default:
		m.member.handle(l, msg)
	}
}

// prepare gets ready for a round: others can reach this rank from now on.
func (m *collectiveMember) prepare(msg *control.Message) {
	m.stopRound(errRoundOver) // there is none, unless a message was lost
	size, rank := int(msg.N), int(msg.Rank)
	if size < 1 || size > maxRanks || rank < 0 || rank >= size {
		m.fail(fmt.Errorf("executor: stage %q: rank 0 speaks of rank %d of %d", m.name, rank, size))
		return
	}
	mesh, addr, err := m.job.openMesh(size)
	if err != nil {
		m.fail(fmt.Errorf("executor: stage %q: %w", m.name, err))
		return
	}
	rd := &memberCollective{
		collectiveRound: &collectiveRound{
			stageRun: m.stageRun, sc: newScope(m.ctx), stage: m.st, all: m.tasks, size: size, number: msg.Epoch - 1, shares: make([]share, size),
		},
		mesh: mesh, rank: rank, number: int(msg.Epoch),
	}
	m.rmu.Lock()
	m.cur = rd
	m.rmu.Unlock()
	m.job.send(&control.Message{Kind: kindReady, Stage: m.key, Epoch: msg.Epoch, Text: addr})
}

// connect begins the round.
func (m *collectiveMember) connect(msg *control.Message) {
	m.rmu.Lock()
	defer m.rmu.Unlock()
	rd := m.cur
	if rd == nil || rd.number != int(msg.Epoch) || rd.began || len(msg.Names) != rd.size || rd.sc.failed() {
		return
	}
	rd.began = true
	m.actors = 1
	m.all.Go(func() { m.runRound(rd, msg) })
}

// runRound does this rank's part of a round, and stays until the round is over for all.
func (m *collectiveMember) runRound(rd *memberCollective, msg *control.Message) {
	kind, why := rd.take(m.job, rd.mesh, msg.Names, rd.rank, rd.number, msg.N, func(f func()) {
		m.rmu.Lock()
		defer m.rmu.Unlock()
		f()
	})
	out := &control.Message{Kind: kindOver, Stage: m.key, Epoch: msg.Epoch, Rank: -1}
	switch kind {
	case rounds.EvBroken:
		out.Kind, out.Text = kindBroken, why.Error()
	case rounds.EvOver:
		hand := newFarHand(m.stageRun, rd.sc, m.job, rd.number, false, nil, m.tell)
		for _, p := range rd.pending(rd.rank, inputHash{}) {
			hand.submit(p)
		}
		if err := rd.sc.reason(); err != nil { // a file cannot be put on disk
			m.fail(err)
			return
		}
		// Statistics that cannot be written down are missing, which is no reason to fail.
		out.Data, _ = json.Marshal(RankShuffle{Rank: rd.rank, Statistics: rd.groups[rd.rank].Statistics()})
	default:
		return
	}
	m.job.send(out)
	<-rd.sc.ctx.Done() // others may need what this rank still has to send
}

// stopRound ends the round, if there is one, and tells the root when it has ended.
func (m *collectiveMember) stopRound(why error) {
	m.rmu.Lock()
	rd := m.cur
	m.cur = nil
	m.rmu.Unlock()
	if rd == nil {
		return
	}
	rd.sc.cancel(why)
	m.all.Wait()
	for _, g := range rd.groups {
		_ = g.Close() // never fails
	}
	err := rd.mesh.close()
	if errors.Is(why, errRoundOver) {
		rd.discard() // which the root does not know of, or does not count
		m.job.send(&control.Message{Kind: kindStopped, Stage: m.key, Epoch: uint32(rd.number)})
		return
	}
	if err != nil && m.reason() == nil && m.parent.Err() == nil && m.job.Err() == nil && rd.sc.reason() == nil {
		m.teardowns = append(m.teardowns, fmt.Errorf("executor: stage %q: closing the links: %w", m.name, err))
	}
}
