package executor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/dovetail-dedup/dovetail/executor/internal/control"
	"github.com/dovetail-dedup/dovetail/executor/internal/handout"
)

// Every rank of a job owns devices of its own. One that loses a device goes on with another, and no task is lost.
func TestJobDeviceLost(t *testing.T) {
	rigs := []*rig{newRig(), newRig()}
	lost := make(chan struct{})
	tj := &testJob{size: 2}
	errs := tj.run(t, func(ctx context.Context, j *Job) error {
		r := rigs[j.Rank()]
		e, err := New(Config{Job: j, Workers: 2, Devices: someDevices(2), CheckDevice: r.check})
		if err != nil {
			return err
		}
		var once sync.Once
		st := &owning{stage: stage{res: Resources{GPUs: 1}}, process: func(env *Env, task Task, out *Attempt) error {
			if j.Rank() == 0 {
				<-lost
			}
			once.Do(func() {
				if j.Rank() == 1 {
					r.lose(env.Device.UUID)
					close(lost)
				}
			})
			return r.use(r.tasks, env)
		}}
		_, err = e.Execute(ctx, []Stage{st}, makeTasks(40))
		if err == nil && st.setups.Load() != st.closes.Load() {
			err = errors.New("actors were left")
		}
		return errors.Join(err, e.Close())
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, r := range rigs {
		for _, n := range r.tasks {
			done += n
		}
	}
	if done != 40 || len(rigs[1].lost) != 1 {
		t.Errorf("%d tasks done: %v %v", done, rigs[0].tasks, rigs[1].tasks)
	}
}

// post is an actor on another rank that keeps what it is given.
type post struct{ got []*grant }

func (p *post) give(g *grant)  { p.got = append(p.got, g) }
func (p *post) tooLong(*grant) {}
func (p *post) giveUp()        {}

// An actor on another rank that says that it did not try what it was given leaves no blame on the task; one that died with it
// does.
func TestFarActorLeaves(t *testing.T) {
	e := newExecutor(t, Config{})
	st := &stage{}
	r := e.newRun(t.Context(), st, "pool")
	d := r.dispatcher(r.scope, 1, func(int) {})
	defer d.stop()
	d.add(item{task: Task{ID: "a"}})
	l := &link{j: &Job{}, rank: 1, host: "h"}
	f := newFar(r, r.scope, d, 0)
	p := &post{}
	for i := range 2 * maxKills {
		n := f.hire(l, 0, 1)
		d.ready(f.actors[n].env, p)
		if len(p.got) != i+1 || p.got[i].Tasks[0] != (handout.Attempt{Number: uint32(i)}) {
			t.Fatalf("after %d: %+v", i, p.got)
		}
		f.handle(l, &control.Message{Kind: kindDied, Actor: int64(n), Grant: p.got[i].ID, Flags: flagUntried})
		if err := r.reason(); err != nil {
			t.Fatal(err)
		}
	}
	for range maxKills {
		n := f.hire(l, 0, 1)
		d.ready(f.actors[n].env, p)
		f.handle(l, &control.Message{Kind: kindDied, Actor: int64(n), Grant: p.got[len(p.got)-1].ID, Text: "it fell over"})
	}
	if err := r.reason(); err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxKills, " actors died of it")) {
		t.Errorf("got %v", err)
	}
}

// Ranks that are silent leave no blame on what they were doing; those whose processes end do.
func TestFarActorsUnheard(t *testing.T) {
	e := newExecutor(t, Config{})
	r := e.newRun(t.Context(), &stage{}, "pool")
	d := r.dispatcher(r.scope, 1, func(int) {})
	defer d.stop()
	d.add(item{task: Task{ID: "a"}})
	lose := func(rank int, why error) error {
		f, p := newFar(r, r.scope, d, 0), &post{}
		l := &link{j: &Job{}, rank: rank, host: "h"}
		d.ready(f.actors[f.hire(l, 0, 1)].env, p)
		if len(p.got) != 1 {
			t.Fatalf("rank %d was given %d grants", rank, len(p.got))
		}
		f.fire(l, why)
		return r.reason()
	}
	why := fmt.Errorf("executor: %w: it was killed", ErrRankLost)
	for rank := range 2 * maxKills {
		if err := lose(rank, unheard{why}); err != nil {
			t.Fatal(err)
		}
	}
	for rank := range maxKills - 1 {
		if err := lose(rank, why); err != nil {
			t.Fatal(err)
		}
	}
	if err := lose(9, why); err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxKills, " actors died of it")) {
		t.Errorf("got %v", err)
	}
}
