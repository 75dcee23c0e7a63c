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

// shuffleMember is a shuffle stage being run on a rank that is not the root.
type shuffleMember struct {
	*member
	st    ShuffleStage
	total int

	rmu sync.Mutex
	cur *memberRound
	all sync.WaitGroup
}

// memberRound is this rank's part of a round.
type memberRound struct {
	*round
	mesh  *mesh
	size  int
	hand  *farHand
	began bool

	linked bool // the shuffler is there; guarded by rmu
}

// shuffleMember does this rank's part of a shuffle stage.
func (e *Executor) shuffleMember(ctx context.Context, st ShuffleStage, tasks []Task) ([]Task, error) {
	total := st.TotalParts()
	if total < 1 {
		return nil, fmt.Errorf("executor: stage %q: TotalParts is %d, want at least 1", st.Name(), total)
	}
	r := e.newRun(ctx, st, "shuffle")
	m := &shuffleMember{member: e.newMember(r), st: st, total: total}
	m.pulse = m.beat
	defer m.detach(e.cfg.Job.attach(r.key, m))
	return m.inRounds(hashTasks(tasks, total), func(why error) {
		m.stopRound(why)
		m.all.Wait()
	})
}

func (m *shuffleMember) handle(l *link, msg *control.Message) {
	switch msg.Kind {
	case kindPrepare:
		m.prepare(msg)
	case kindConnect:
		m.connect(msg)
	case kindAllIn:
		m.rmu.Lock()
		if rd := m.cur; rd != nil && rd.number == int(msg.Epoch) && rd.began {
			close(rd.allIn)
		}
		m.rmu.Unlock()
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
func (m *shuffleMember) prepare(msg *control.Message) {
	m.stopRound(errRoundOver) // there is none, unless a message was lost
	parts := &partSet{total: m.total, done: make([]bool, m.total)}
	for p := range parts.done {
		parts.done[p] = p/8 < len(msg.Data) && msg.Data[p/8]&(1<<(p%8)) != 0
	}
	mesh, addr, err := m.job.openMesh(int(msg.N))
	if err != nil {
		m.fail(fmt.Errorf("executor: stage %q: %w", m.name, err))
		return
	}
	number := int(msg.Epoch)
	rd := &memberRound{
		round: &round{
			stageRun: m.stageRun, sc: newScope(m.ctx), stage: m.st, number: number, parts: parts, first: int(msg.Rank),
			allIn: make(chan struct{}),
		},
		mesh: mesh, size: int(msg.N),
	}
	m.rmu.Lock()
	m.cur = rd
	m.rmu.Unlock()
	m.job.send(&control.Message{Kind: kindReady, Stage: m.key, Epoch: msg.Epoch, Text: addr})
}

// connect begins the round.
func (m *shuffleMember) connect(msg *control.Message) {
	m.rmu.Lock()
	defer m.rmu.Unlock()
	rd := m.cur
	if rd == nil || rd.number != int(msg.Epoch) || rd.began || len(msg.Names) != rd.size || rd.sc.failed() {
		return
	}
	rd.began = true
	rd.hand = newFarHand(m.stageRun, rd.sc, m.job, rd.number, true, rd.allIn, m.tell)
	rd.inserts, rd.commits = rd.hand, rd.hand
	rd.hired = func(giveUp func(int)) { m.take(rd.hand, giveUp) }
	m.actors = int(max(1, min(msg.N, maxWorkers)))
	envs := m.e.envsFrom(m.name, m.actors, int(msg.Actor))
	for _, env := range envs {
		env.Rank, env.Size = rd.first, rd.size
	}
	m.all.Go(func() { m.runRound(rd, envs, msg.Names) })
}

// runRound does this rank's part of a round, and stays until the round is over for all.
func (m *shuffleMember) runRound(rd *memberRound, envs []*Env, addrs []string) {
	if err := rd.link(m.job, rd.mesh, addrs); err != nil {
		rd.sc.fail(err)
	} else {
		m.rmu.Lock()
		rd.linked = true
		m.rmu.Unlock()
		rd.run(envs, nil)
	}
	out := &control.Message{Kind: kindOver, Stage: m.key, Epoch: uint32(rd.number), Rank: -1}
	switch kind, why := rd.verdict(rd.sc, rd.first); kind {
	case rounds.EvBroken:
		out.Kind, out.Text = kindBroken, why.Error()
	case rounds.EvOver:
		// A ledger that cannot be written down is missing from the statistics, which is no reason to fail.
		out.Data, _ = json.Marshal(rd.result(rd.first))
	default:
		return
	}
	m.job.send(out)
	<-rd.sc.ctx.Done() // others may need what this rank still has to send
}

// beat is a number that changes when this rank does something in the round.
func (m *shuffleMember) beat() (int64, bool) {
	m.rmu.Lock()
	rd := m.cur
	linked := rd != nil && rd.linked
	m.rmu.Unlock()
	if !linked {
		return 0, false
	}
	return rd.beat(), false
}

// stopRound ends the round, if there is one, and tells the root when it has ended.
func (m *shuffleMember) stopRound(why error) {
	m.rmu.Lock()
	rd := m.cur
	m.cur = nil
	m.rmu.Unlock()
	if rd == nil {
		return
	}
	rd.sc.cancel(why)
	m.all.Wait()
	// Others have closed their ends already, or are about to.
	errs := rd.disconnect()
	if err := rd.mesh.close(); err != nil {
		errs = append(errs, err)
	}
	if errors.Is(why, errRoundOver) {
		m.job.send(&control.Message{Kind: kindStopped, Stage: m.key, Epoch: uint32(rd.number)})
		return
	}
	if !m.failedRound(rd) {
		m.teardowns = append(m.teardowns, errs...)
	}
}

// failedRound reports whether a round ended by itself, and not because the stage is over.
func (m *shuffleMember) failedRound(rd *memberRound) bool {
	return rd.sc.reason() != nil || m.reason() != nil || m.parent.Err() != nil || m.job.Err() != nil
}
