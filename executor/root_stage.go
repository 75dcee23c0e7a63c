package executor

import (
	"errors"
	"path/filepath"
	"sync"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
)

// far is what the root knows of the actors of other ranks in one stage.
type far struct {
	r    *stageRun
	sc   *scope
	hand *dispatcher

	mu     sync.Mutex
	next   int               // number of the next actor
	actors map[int]*farActor // by number
}

// farActor is an actor on another rank.
type farActor struct {
	l      *link
	stage  string
	round  int
	number int
	env    *Env
}

func newFar(r *stageRun, sc *scope, hand *dispatcher, first int) *far {
	return &far{
		r: r, sc: sc, hand: hand, next: first,
		actors: make(map[int]*farActor),
	}
}

func (a *farActor) give(g *grant) {
	m := &control.Message{
		Kind: kindGive, Stage: a.stage, Epoch: uint32(a.round), Actor: int64(a.number), Grant: g.ID,
		Tasks: make([]control.Task, len(g.items)),
	}
	for i, it := range g.items {
		m.Tasks[i] = control.Task{
			ID: it.task.ID, Data: it.task.Data, Size: it.task.Size, Seq: int64(it.seq), Number: g.Tasks[i].Number,
		}
	}
	a.l.send(m)
}

func (a *farActor) tooLong(g *grant) {
	a.l.send(&control.Message{Kind: kindCancel, Stage: a.stage, Epoch: uint32(a.round), Actor: int64(a.number), Grant: g.ID})
}

func (a *farActor) giveUp() {
	a.l.send(&control.Message{Kind: kindGiveUp, Stage: a.stage, Epoch: uint32(a.round), Actor: int64(a.number)})
}

// actors returns how many actors of a stage a rank has. It has refused what it can never do itself.
func (l *link) actors(r *stageRun) int {
	n, _, err := ActorCount(r.name, r.stage.Resources(), Capacity{CPUs: float64(l.workers)}, -1, 0)
	if err != nil {
		return 1
	}
	// No more than rank 0 has: memory was shared out for so many.
	return max(1, min(n, l.workers, r.e.cfg.Workers))
}

// hire makes actors of a rank known and returns the number of the first.
func (f *far) hire(l *link, round, n int) (first int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first = f.next
	for i := range n {
		f.actors[first+i] = &farActor{
			l: l, stage: f.r.key, round: round, number: first + i,
			env: &Env{Stage: f.r.name, Rank: l.rank, Worker: i, Actor: first + i, Epoch: f.r.e.epoch},
		}
	}
	f.next += n
	return first
}

// room returns how many more actors the stage may have, if all are in processes of their own.
func (f *far) room() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(0, f.r.actors-len(f.actors))
}

// of returns the actors of a rank.
func (f *far) of(l *link) (list []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, a := range f.actors {
		if a.l == l {
			list = append(list, n)
		}
	}
	return list
}

// fire says that the actors of a rank are gone.
func (f *far) fire(l *link, why error) {
	gone := f.of(l)
	f.mu.Lock()
	for _, n := range gone {
		delete(f.actors, n)
	}
	f.mu.Unlock()
	f.hand.gone(gone, why)
}

// actor returns the actor that a message is about, if it is one of that rank.
func (f *far) actor(l *link, m *control.Message) *farActor {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.actors[int(m.Actor)]
	if a == nil || a.l != l || a.round != int(m.Epoch) {
		return nil
	}
	return a
}

// remoteFailure is an error that another rank describes.
func remoteFailure(l *link, m *control.Message) error {
	re := l.failure(m.Text)
	if c := l.j.cfg.Errors; c != nil && len(m.Data) > 0 {
		re.inner = c.DecodeError(m.Data)
	}
	err := error(re)
	if m.Flags&flagTransient != 0 {
		err = Transient(err)
	}
	return err
}

// aside does what messages say that are about a stage and not about a task, and reports whether this is one.
func (r *stageRun) aside(l *link, m *control.Message) bool {
	switch m.Kind {
	case kindNote:
		r.note(m.Text)
	case kindProgress:
		r.units.Add(m.N)
		r.rows.Add(m.At)
		r.addActorTimes(m.Data)
	case kindStageFailed:
		r.fail(remoteFailure(l, m))
	case kindPulse:
	default:
		return false
	}
	return true
}

// handle does what messages about tasks say.
func (f *far) handle(l *link, m *control.Message) {
	if m.Kind == kindAlive {
		f.alive(l, m)
		return
	}
	a := f.actor(l, m)
	if a == nil {
		return
	}
	switch m.Kind {
	case kindIdle:
		f.hand.ready(a.env, a)
	case kindFailed:
		if g := f.hand.held(a.number, m.Grant); g != nil {
			f.hand.failed(g, int(m.At), m.Flags&flagAll != 0, remoteFailure(l, m))
		}
	case kindDied:
		if g := f.hand.held(a.number, m.Grant); g != nil && m.Flags&flagUntried != 0 {
			f.r.replaced.Add(1)
			f.hand.leave(a.env)
		} else if g != nil {
			f.r.replaced.Add(1)
			f.hand.died(g, remoteFailure(l, m))
		}
	}
}

// rebuild makes the attempt that another rank describes into one that can be committed here. number is the attempt's.
func (f *far) rebuild(env *Env, t Task, number uint32, m *control.Message) (*Attempt, error) {
	me := &meter{run: f.r, env: env, task: t, number: number, ended: true, counts: countersFromWire(m.Sums),
		spent: spentFromWire(m.Data)}
	w := f.r.work
	for _, wf := range m.Files {
		file := &File{
			fs: f.r.e.fs, name: wf.Name, path: wf.Path, temp: wf.Temp, placed: wf.Placed, size: wf.Size, crc: wf.CRC, closed: true,
		}
		// The names follow from the attempt: what a rank says must not make the root rename anything else.
		if wf.Placed {
			if !filepath.IsAbs(wf.Name) || filepath.Clean(wf.Name) != wf.Name ||
				wf.Temp != placedTemp(wf.Name, f.r.e.runID, f.r.e.epoch, number) {
				return nil, errors.New("it describes files that no attempt of this task makes")
			}
			file.path = wf.Name
		} else {
			base := filepath.Base(wf.Name)
			if w == nil || wf.Name != f.r.name+"/"+base || !ofAttempt(base, t.ID, f.r.e.epoch, number) {
				return nil, errors.New("it describes files that no attempt of this task makes")
			}
			file.path = filepath.Join(w.dir, f.r.name, base)
			file.temp = filepath.Join(w.dir, f.r.name, tempName(base))
		}
		me.files = append(me.files, file)
	}
	return &Attempt{Meter{me}}, nil
}

// receive takes over an attempt that another rank has finished, with its results.
func (f *far) receive(l *link, env *Env, t Task, number uint32, m *control.Message) (*Attempt, []Task, error) {
	out, err := f.rebuild(env, t, number, m)
	if err != nil {
		return nil, nil, err
	}
	results := fromWire(m.Tasks)
	if err := nameResults(t, results); err != nil {
		return nil, nil, err
	}
	f.r.attempts.Add(1)
	if c := l.j.children; c != nil {
		c.worked(l)
	}
	return out, results, nil
}

// sameTasks ends the stage if a rank has come to it with other tasks than the root.
func (r *stageRun) sameTasks(l *link, m *control.Message, mine inputHash) bool {
	if string(m.Data) == string(mine[:]) {
		return true
	}
	r.fail(l.failure("it has come to stage \"" + r.name +
		"\" with other tasks than rank 0; all ranks must run the same program with the same options and input"))
	return false
}

// farPool is what the root does about the other ranks in a plain stage.
type farPool struct {
	*far
	p *pool
}

func (f *farPool) enter(l *link, m *control.Message) {
	if !f.r.sameTasks(l, m, f.p.inputs) {
		return
	}
	n := l.actors(f.r)
	if l.j.children != nil {
		n = min(n, f.room())
	}
	first := f.hire(l, 0, n)
	l.send(&control.Message{Kind: kindBegin, Stage: f.r.key, N: int64(n), Actor: int64(first)})
}

func (f *farPool) handle(l *link, m *control.Message) {
	if f.r.aside(l, m) {
		return
	}
	if m.Kind != kindDone {
		f.far.handle(l, m)
		return
	}
	a := f.actor(l, m)
	if a == nil {
		return
	}
	g := f.hand.held(a.number, m.Grant)
	if g == nil || m.At < 0 || int(m.At) >= len(g.items) {
		return // too late; what it left is removed when the folder is opened next, or by the rank itself
	}
	it, at := g.items[m.At], int(m.At)
	out, results, err := f.receive(l, a.env, it.task, g.Tasks[at].Number, m)
	if err != nil {
		f.sc.fail(l.failure(err.Error()))
		return
	}
	if !f.hand.finished(g, at) {
		out.m.discard()
		return
	}
	f.p.commits.submit(&pending{a: out, seq: it.seq, results: results, input: it.input})
}

func (f *farPool) left(l *link, why error) {
	if f.r.e.cfg.Job.cfg.StopOnLoss {
		f.sc.fail(why)
	}
	f.fire(l, why)
}
